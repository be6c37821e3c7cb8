mod authority;

use std::fs;
use std::sync::Arc;

use authority::{Authority, Credentials};
use base::{ManualClock, Shutdown, Supervisor};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::files::{LOOK_INTERVAL, look};
use crate::tls::{AllowedClients, CipherSuite, TlsVersion};

/// A server's files in a directory of their own.
struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Files {
        let files = Files { dir: tempfile::tempdir().unwrap(), authority: Authority::new("the authority") };
        files.put_server(&files.authority.server());
        fs::write(files.path("ca.pem"), files.authority.pem()).unwrap();
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn put_server(&self, server: &Credentials) {
        fs::write(self.path("cert.pem"), &server.cert_pem).unwrap();
        fs::write(self.path("key.pem"), &server.key_pem).unwrap();
    }

    /// Clients need no certificate.
    fn open_to_all(&self) -> TlsSettings {
        TlsSettings {
            cert_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
            trusted_ca_file: None,
            crl_file: None,
            allowed_clients: AllowedClients::All,
            version_min: TlsVersion::Tls12,
            version_max: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
        }
    }

    /// Clients need a certificate of the authority.
    fn mutual(&self) -> TlsSettings {
        TlsSettings { trusted_ca_file: Some(self.path("ca.pem")), ..self.open_to_all() }
    }
}

/// A client as the tests need it.
struct Client {
    authority: RootCertStore,
    shows: Option<Credentials>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<&'static str>,
}

impl Client {
    fn of(authority: &Authority) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        Client { authority: roots, shows: None, versions: vec![&TLS12, &TLS13], protocols: vec!["h2"] }
    }

    fn showing(self, credentials: Credentials) -> Client {
        Client { shows: Some(credentials), ..self }
    }

    async fn connect(
        &self,
        stream: DuplexStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<DuplexStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.authority.clone());
        let mut config = match &self.shows {
            None => config.with_no_client_auth(),
            Some(shown) => config.with_client_auth_cert(shown.chain(), shown.key()).unwrap(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

async fn acceptor(settings: TlsSettings) -> TlsAcceptor {
    TlsAcceptor::read(settings, Arc::new(ManualClock::default())).await.unwrap().0
}

/// What the server says of a client, after a byte has gone each way.
async fn meet(acceptor: &TlsAcceptor, client: &Client) -> Result<Option<String>, String> {
    let (near, far) = duplex(16 << 10);
    let server = async {
        let mut accepted = acceptor.accept(far).await.map_err(|error| error.to_string())?;
        let byte = accepted.stream.read_u8().await.map_err(|error| error.to_string())?;
        accepted.stream.write_u8(byte + 1).await.unwrap();
        accepted.stream.flush().await.unwrap();
        Ok(accepted.client.map(|name| name.to_string()))
    };
    let client = async {
        // TLS 1.3 lets a client believe that it is connected before it is refused.
        if let Ok(mut stream) = client.connect(near).await
            && stream.write_u8(1).await.is_ok()
            && let Ok(answer) = stream.read_u8().await
        {
            assert_eq!(answer, 2);
        }
    };
    tokio::join!(server, client).0
}

#[track_caller]
fn refused(met: Result<Option<String>, String>, reason: &str) {
    let error = met.unwrap_err();
    assert!(error.contains(reason), "{error:?} does not say {reason:?}");
}

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[tokio::test]
async fn without_a_ca_file_clients_need_no_certificate_and_have_no_name() {
    let files = Files::new();
    let acceptor = acceptor(files.open_to_all()).await;
    for version in BOTH {
        let client = Client { versions: vec![version], ..Client::of(&files.authority) };
        assert_eq!(meet(&acceptor, &client).await, Ok(None));
        let named = client.showing(files.authority.client("apiserver"));
        assert_eq!(meet(&acceptor, &named).await, Ok(None), "a name that nobody has checked is none");
    }
}

#[tokio::test]
async fn with_a_ca_file_only_its_clients_come_in_and_have_the_name_in_their_certificate() {
    let files = Files::new();
    let acceptor = acceptor(files.mutual()).await;
    let stranger = Authority::new("another authority");
    // Who has the name of the authority still has not its key.
    let impostor = Authority::new("the authority");
    for version in BOTH {
        let client = || Client { versions: vec![version], ..Client::of(&files.authority) };
        let with = |credentials| client().showing(credentials);
        let good = with(files.authority.client("apiserver"));
        assert_eq!(meet(&acceptor, &good).await, Ok(Some("apiserver".to_owned())));
        assert_eq!(meet(&acceptor, &with(files.authority.client(""))).await, Ok(None), "no name, and good");

        refused(meet(&acceptor, &client()).await, "peer sent no certificates");
        refused(meet(&acceptor, &with(stranger.client("apiserver"))).await, "UnknownIssuer");
        refused(meet(&acceptor, &with(impostor.client("apiserver"))).await, "BadSignature");
        refused(meet(&acceptor, &with(files.authority.expired_client("apiserver"))).await, "expired");
        refused(meet(&acceptor, &with(files.authority.future_client("apiserver"))).await, "not valid yet");
        refused(meet(&acceptor, &with(files.authority.server())).await, "client authentication");
    }
}

#[tokio::test]
async fn what_the_authority_has_taken_back_is_refused() {
    let files = Files::new();
    let (good, bad) = (files.authority.client("good"), files.authority.client("bad"));
    let list = files.authority.revocation_list(&[&bad]);
    for (name, bytes) in [("crl.pem", list.pem().unwrap().into_bytes()), ("crl.der", list.der().to_vec())] {
        fs::write(files.path(name), bytes).unwrap();
        let acceptor = acceptor(TlsSettings { crl_file: Some(files.path(name)), ..files.mutual() }).await;
        for version in BOTH {
            let client = || Client { versions: vec![version], ..Client::of(&files.authority) };
            assert_eq!(meet(&acceptor, &client().showing(good.clone())).await, Ok(Some("good".to_owned())));
            refused(meet(&acceptor, &client().showing(bad.clone())).await, "Revoked");
        }
    }
}

#[tokio::test]
async fn only_the_allowed_common_names_come_in() {
    let files = Files::new();
    let allowed_clients = AllowedClients::CommonNames(vec!["apiserver".into(), "backup".into()]);
    let acceptor = acceptor(TlsSettings { allowed_clients, ..files.mutual() }).await;
    let with = |name| Client::of(&files.authority).showing(files.authority.client(name));
    for name in ["apiserver", "backup"] {
        assert_eq!(meet(&acceptor, &with(name)).await, Ok(Some(name.to_owned())));
    }
    for name in ["apiserver2", "APISERVER", "apiserver ", ""] {
        refused(meet(&acceptor, &with(name)).await, "ApplicationVerificationFailure");
    }
    let names = ["apiserver", "other"];
    let twice = Client::of(&files.authority).showing(files.authority.client_named(&names, &[]));
    refused(meet(&acceptor, &twice).await, "ApplicationVerificationFailure");
}

#[tokio::test]
async fn only_the_allowed_host_names_come_in() {
    let files = Files::new();
    let allowed_clients = AllowedClients::Hostnames(vec!["api.example.org".into(), "192.0.2.7".into()]);
    let acceptor = acceptor(TlsSettings { allowed_clients, ..files.mutual() }).await;
    let with = |hosts: &[&str]| {
        Client::of(&files.authority).showing(files.authority.client_named(&["api.example.org"], hosts))
    };
    for hosts in [["api.example.org"], ["*.example.org"], ["192.0.2.7"]] {
        assert!(meet(&acceptor, &with(&hosts)).await.is_ok(), "{hosts:?}");
    }
    for hosts in [&["example.org"][..], &["192.0.2.8"], &[]] {
        refused(meet(&acceptor, &with(hosts)).await, "ApplicationVerificationFailure");
    }
}

#[tokio::test]
async fn only_the_chosen_versions_and_cipher_suites_are_spoken() {
    let files = Files::new();
    let newest = TlsSettings { version_min: TlsVersion::Tls13, ..files.open_to_all() };
    let oldest = TlsSettings { version_max: TlsVersion::Tls12, ..files.open_to_all() };
    for (settings, spoken, refused_one) in [(newest, &TLS13, &TLS12), (oldest, &TLS12, &TLS13)] {
        let acceptor = acceptor(settings).await;
        let client = |version| Client { versions: vec![version], ..Client::of(&files.authority) };
        assert_eq!(meet(&acceptor, &client(spoken)).await, Ok(None));
        refused(meet(&acceptor, &client(refused_one)).await, "incompatible");
    }

    // The test's certificates are ECDSA.
    for (suite, spoken) in
        [("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", true), ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", false)]
    {
        let cipher_suites = vec![CipherSuite::named(suite).unwrap()];
        let acceptor = acceptor(TlsSettings { cipher_suites, ..files.open_to_all() }).await;
        let old = Client { versions: vec![&TLS12], ..Client::of(&files.authority) };
        assert_eq!(meet(&acceptor, &old).await.is_ok(), spoken, "{suite}");
        assert_eq!(meet(&acceptor, &Client::of(&files.authority)).await, Ok(None), "those of TLS 1.3 stay");
    }
}

#[tokio::test]
async fn http2_is_preferred_and_http1_spoken() {
    let files = Files::new();
    let acceptor = acceptor(files.open_to_all()).await;
    let cases = [(vec!["http/1.1", "h2"], Some("h2")), (vec!["http/1.1"], Some("http/1.1")), (vec![], None)];
    for (protocols, expected) in cases {
        let client = Client { protocols, ..Client::of(&files.authority) };
        let (near, far) = duplex(16 << 10);
        let (accepted, connected) = tokio::join!(acceptor.accept(far), client.connect(near));
        let _connected = connected.unwrap();
        let accepted = accepted.unwrap();
        let chosen = accepted.stream.get_ref().1.alpn_protocol();
        assert_eq!(chosen, expected.map(str::as_bytes));
    }
    let client = Client { protocols: vec!["spdy"], ..Client::of(&files.authority) };
    refused(meet(&acceptor, &client).await, "known protocol");
}

#[tokio::test]
async fn files_that_change_are_read_again_and_bad_ones_change_nothing() {
    let files = Files::new();
    let (first, second) = (files.authority.client("first"), Authority::new("the second authority"));
    let crl_file = files.path("crl.pem");
    fs::write(&crl_file, files.authority.revocation_list(&[]).pem().unwrap()).unwrap();
    let settings = TlsSettings { crl_file: Some(crl_file.clone()), ..files.mutual() };
    let (acceptor, mut seen) =
        TlsAcceptor::read(settings.clone(), Arc::new(ManualClock::default())).await.unwrap();
    let client = || Client::of(&files.authority).showing(first.clone());
    let good = |met: Result<Option<String>, String>| assert_eq!(met, Ok(Some("first".to_owned())));
    good(meet(&acceptor, &client()).await);

    // A certificate without its key, half a certificate, no certificate: as it was.
    let renewed = files.authority.server();
    let half = &renewed.cert_pem[..renewed.cert_pem.len() / 2];
    for cert in [Some(renewed.cert_pem.as_str()), Some(half), Some(""), None] {
        match cert {
            Some(pem) => fs::write(&settings.cert_file, pem).unwrap(),
            None => fs::remove_file(&settings.cert_file).unwrap(),
        }
        look(&acceptor.current, &mut seen).await;
        good(meet(&acceptor, &client()).await);
    }

    // Server and clients of another authority.
    files.put_server(&second.server());
    fs::write(settings.trusted_ca_file.as_ref().unwrap(), second.pem()).unwrap();
    // Its list cannot be of the other authority, but that one is trusted no longer.
    look(&acceptor.current, &mut seen).await;
    refused(meet(&acceptor, &client()).await, "");
    let other = || Client::of(&second).showing(second.client("other"));
    assert_eq!(meet(&acceptor, &other()).await, Ok(Some("other".to_owned())));

    // A client is taken back.
    let taken_back = second.client("taken back");
    let client = || Client::of(&second).showing(taken_back.clone());
    assert!(meet(&acceptor, &client()).await.is_ok());
    fs::write(&crl_file, "-----BEGIN X509 CRL-----\n").unwrap();
    look(&acceptor.current, &mut seen).await;
    assert!(meet(&acceptor, &client()).await.is_ok(), "half a list changes nothing");
    fs::write(&crl_file, second.revocation_list(&[&taken_back]).pem().unwrap()).unwrap();
    look(&acceptor.current, &mut seen).await;
    refused(meet(&acceptor, &client()).await, "Revoked");
    assert_eq!(meet(&acceptor, &other()).await, Ok(Some("other".to_owned())));
}

#[tokio::test]
async fn a_link_that_is_changed_is_a_change_as_kubernetes_does_it() {
    let files = Files::new();
    let (one, two) = (files.path("one"), files.path("two"));
    for dir in [&one, &two] {
        fs::create_dir(dir).unwrap();
        let server = files.authority.server();
        fs::write(dir.join("cert.pem"), &server.cert_pem).unwrap();
        fs::write(dir.join("key.pem"), &server.key_pem).unwrap();
    }
    let link = files.path("data");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let settings = TlsSettings {
        cert_file: link.join("cert.pem"),
        key_file: link.join("key.pem"),
        ..files.open_to_all()
    };
    let (acceptor, mut seen) =
        TlsAcceptor::read(settings.clone(), Arc::new(ManualClock::default())).await.unwrap();
    let before = seen_by_a_client(&acceptor, &files).await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&two, &link).unwrap();
    look(&acceptor.current, &mut seen).await;
    assert_ne!(seen_by_a_client(&acceptor, &files).await, before);
}

/// The certificate that the server shows.
async fn seen_by_a_client(acceptor: &TlsAcceptor, files: &Files) -> Vec<u8> {
    let (near, far) = duplex(16 << 10);
    let client = Client::of(&files.authority);
    let (accepted, connected) = tokio::join!(acceptor.accept(far), client.connect(near));
    let _accepted = accepted.unwrap();
    connected.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_task_looks_every_second_until_the_shutdown() {
    let files = Files::new();
    let (clock, supervisor) = (ManualClock::default(), Supervisor::new(Shutdown::new()));
    let acceptor =
        TlsAcceptor::open(files.open_to_all(), Arc::new(clock.clone()), &supervisor).await.unwrap();
    let before = seen_by_a_client(&acceptor, &files).await;
    files.put_server(&files.authority.server());
    while seen_by_a_client(&acceptor, &files).await == before {
        clock.advance(LOOK_INTERVAL);
    }
    supervisor.shutdown().begin();
    supervisor.all_ended().await;
    assert_eq!(supervisor.failure(), None);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_given_up() {
    let files = Files::new();
    let clock = ManualClock::default();
    let settings = files.open_to_all();
    let (acceptor, _) = TlsAcceptor::read(settings.clone(), Arc::new(clock.clone())).await.unwrap();
    let (_near, far) = duplex(1);
    let (accepted, ()) = tokio::join!(acceptor.accept(far), async { clock.advance(HANDSHAKE_TIME_MAX) });
    assert!(matches!(accepted, Err(HandshakeError::Late)));

    let (near, far) = duplex(1);
    drop(near);
    let error = acceptor.accept(far).await.err().unwrap();
    assert!(error.is_probe(), "{error}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_the_reason() {
    let files = Files::new();
    fs::write(files.path("text"), "hello").unwrap();
    let other = files.authority.server();
    fs::write(files.path("other.pem"), &other.key_pem).unwrap();
    let with = |change: fn(&mut TlsSettings, std::path::PathBuf), name: &str| {
        let mut settings = files.mutual();
        change(&mut settings, files.path(name));
        settings
    };
    let cert: fn(&mut TlsSettings, _) = |settings, file| settings.cert_file = file;
    let key: fn(&mut TlsSettings, _) = |settings, file| settings.key_file = file;
    let ca: fn(&mut TlsSettings, _) = |settings, file| settings.trusted_ca_file = Some(file);
    let crl: fn(&mut TlsSettings, _) = |settings, file| settings.crl_file = Some(file);
    let cases = [
        (cert, "gone", "gone: cannot be read: "),
        (cert, "text", "text: no certificate in it"),
        (cert, "key.pem", "key.pem: no certificate in it"),
        (key, "text", "text: no private key in it"),
        (key, "other.pem", "other.pem: it is not the key of the certificate in "),
        (ca, "text", "text: no certificate in it"),
        (crl, "text", "text: no revocation list in it"),
        (crl, "gone", "gone: cannot be read: "),
    ];
    for (change, name, expected) in cases {
        let settings = with(change, name);
        let error =
            TlsAcceptor::read(settings.clone(), Arc::new(ManualClock::default())).await.err().unwrap();
        let error = error.to_string().replace(&format!("{}/", files.dir.path().display()), "");
        assert!(error.starts_with(expected), "{error:?} does not begin with {expected:?}");
    }
    let too_large = fs::File::create(files.path("large")).unwrap();
    too_large.set_len(17 << 20).unwrap();
    let settings = with(crl, "large");
    let error = TlsAcceptor::read(settings.clone(), Arc::new(ManualClock::default())).await.err().unwrap();
    assert!(error.to_string().ends_with("larger than 16777216 bytes"), "{error}");
}
