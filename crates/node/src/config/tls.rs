use std::path::PathBuf;

use server::tls::{AllowedClients, CipherSuite, TlsConnector, TlsSettings, TlsVersion};

use super::problem::Problems;
use super::url::ListenUrl;

/// The certificates of a listener, and whom it lets in, as the settings say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Whose clients are let in.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether clients have to show a certificate.
    pub client_cert_auth: bool,
    /// What was taken back.
    pub crl_file: Option<PathBuf>,
    /// The common names of clients that are let in; empty: all.
    pub allowed_cns: Vec<String>,
    /// The host names of clients that are let in; empty: all.
    pub allowed_hostnames: Vec<String>,
    /// The oldest version of TLS.
    pub version_min: TlsVersion,
    /// The newest, if it was given.
    pub version_max: Option<TlsVersion>,
    /// The cipher suites of TLS 1.2, if they were given.
    pub cipher_suites: Vec<CipherSuite>,
}

impl TlsConfig {
    /// What the server needs to know; none without a certificate.
    pub fn settings(&self) -> Option<TlsSettings> {
        let (Some(cert_file), Some(key_file)) = (&self.cert_file, &self.key_file) else { return None };
        let allowed_clients = match (self.allowed_cns.as_slice(), self.allowed_hostnames.as_slice()) {
            ([], []) => AllowedClients::All,
            ([], names) => AllowedClients::Hostnames(names.to_vec()),
            (names, _) => AllowedClients::CommonNames(names.to_vec()),
        };
        Some(TlsSettings {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            trusted_ca_file: self.trusted_ca_file.clone(),
            crl_file: self.crl_file.clone(),
            allowed_clients,
            version_min: self.version_min,
            version_max: self.version_max.unwrap_or(TlsVersion::Tls13),
            cipher_suites: self.cipher_suites.clone(),
        })
    }

    /// Says what does not fit together, or not with the URLs.
    pub(super) fn check(&self, clients: &[ListenUrl], metrics: &[ListenUrl], problems: &mut Problems) {
        if self.cert_file.is_some() != self.key_file.is_some() {
            problems.add("--cert-file, --key-file: both have to be given, or none");
        }
        for (flag, urls) in [("--listen-client-urls", clients), ("--listen-metrics-urls", metrics)] {
            if let (Some(url), true) = (urls.iter().find(|url| url.is_tls), self.settings().is_none()) {
                problems.add(format_args!(
                    "{flag}: {url}: TLS needs a certificate and its key: give --cert-file and --key-file"
                ));
            }
        }
        self.check_clients(problems);
        if let Some(max) = self.version_max.filter(|max| *max < self.version_min) {
            problems.add(format_args!(
                "--tls-min-version, --tls-max-version: {} is above {}",
                self.version_min.name(),
                max.name()
            ));
        }
        if self.version_min == TlsVersion::Tls13 && !self.cipher_suites.is_empty() {
            problems.add("--cipher-suites: cipher suites cannot be configured when only TLS1.3 is enabled");
        }
    }

    /// What is asked of clients needs somebody to vouch for them: silently asking for nothing would be worse.
    fn check_clients(&self, problems: &mut Problems) {
        let needing_ca = [
            ("--client-cert-auth", self.client_cert_auth),
            ("--client-crl-file", self.crl_file.is_some()),
            ("--client-cert-allowed-cn", !self.allowed_cns.is_empty()),
            ("--client-cert-allowed-hostname", !self.allowed_hostnames.is_empty()),
        ];
        for (flag, _) in needing_ca.iter().filter(|(_, given)| *given && self.trusted_ca_file.is_none()) {
            problems.add(format_args!(
                "{flag}: say with --trusted-ca-file which authority signs the certificates of clients"
            ));
        }
        let needing_cert = needing_ca.iter().any(|(_, given)| *given) || self.trusted_ca_file.is_some();
        if needing_cert && self.cert_file.is_none() && self.key_file.is_none() {
            problems.add(
                "--trusted-ca-file and what else is asked of clients: nothing asks for it without --cert-file and \
                 --key-file",
            );
        }
        if !self.allowed_cns.is_empty() && !self.allowed_hostnames.is_empty() {
            problems.add(
                "--client-cert-allowed-cn, --client-cert-allowed-hostname: only one of them can be given",
            );
        }
    }
}

/// The certificates between the servers of a store: each shows one, and believes those of one authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerTlsConfig {
    /// This server's certificate, for both sides of a connection.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Whose servers are believed, and let in.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether who connects has to show a certificate. With an authority it has to in any case.
    pub client_cert_auth: bool,
}

impl PeerTlsConfig {
    fn files(&self) -> Option<(&PathBuf, &PathBuf, &PathBuf)> {
        Some((self.cert_file.as_ref()?, self.key_file.as_ref()?, self.trusted_ca_file.as_ref()?))
    }

    /// How others are let in; none without files.
    pub fn settings(&self) -> Option<TlsSettings> {
        let (cert_file, key_file, trusted_ca_file) = self.files()?;
        Some(TlsSettings {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            trusted_ca_file: Some(trusted_ca_file.clone()),
            crl_file: None,
            allowed_clients: AllowedClients::All,
            version_min: TlsVersion::Tls12,
            version_max: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
        })
    }

    /// How this server connects with others; none without files.
    pub fn connector(&self) -> Option<TlsConnector> {
        let (cert_file, key_file, trusted_ca_file) = self.files()?;
        Some(TlsConnector {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            trusted_ca_file: trusted_ca_file.clone(),
        })
    }

    /// Says what does not fit together, or not with the URLs. A port that anybody can connect to would be worth no more
    /// than one in the clear, so that TLS between servers is for both sides, or not at all.
    pub(super) fn check(&self, listen: &[ListenUrl], advertise: &[String], problems: &mut Problems) {
        const FLAGS: &str = "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file";
        let given = [&self.cert_file, &self.key_file, &self.trusted_ca_file];
        let is_any = self.client_cert_auth || given.iter().any(|file| file.is_some());
        if is_any && self.files().is_none() {
            problems.add(format_args!("{FLAGS}: for TLS between servers all three have to be given"));
            return;
        }
        let listens =
            listen.iter().filter(|url| url.is_tls).map(|url| ("--listen-peer-urls", url.to_string()));
        let advertises = advertise.iter().filter(|url| url.starts_with("https://"));
        let advertises = advertises.map(|url| ("--advertise-peer-urls", url.clone()));
        if let (Some((flag, url)), false) = (listens.chain(advertises).next(), is_any) {
            problems.add(format_args!("{flag}: {url}: TLS between servers needs certificates: give {FLAGS}"));
        }
    }
}
