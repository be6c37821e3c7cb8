use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::{Error, RootCertStore, SupportedProtocolVersion};

use super::files::{Material, TlsError, load};
use super::settings::{TlsSettings, TlsVersion};
use super::verifier::NamedClients;

/// What is served on the connection, in the order in which it is preferred.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads the files and makes of them what a handshake needs.
pub(super) fn server_config(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let Material { chain, key, roots, crls } = load(settings)?;
    let provider = Arc::new(provider(settings));
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions(settings))?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(client_verifier(settings, roots, crls, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            let cert = settings.cert_file.display();
            TlsError::content(&settings.key_file, format!("it is not the key of the certificate in {cert}"))
        }
        error => TlsError::content(&settings.cert_file, format!("it cannot be used with its key: {error}")),
    })?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // No session is resumed: then every connection shows a certificate that is looked at, also after it has expired
    // or was revoked. Clients of this API keep their connections.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_verifier(
    settings: &TlsSettings,
    roots: RootCertStore,
    crls: Vec<CertificateRevocationListDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !crls.is_empty() {
        // An authority without a list has taken nothing back.
        builder = builder.with_crls(crls).allow_unknown_revocation_status();
    }
    let verifier = builder.build().map_err(|error| {
        // The roots were looked at when they were read, so that only a list can be wrong.
        let file = settings.crl_file.as_ref().or(settings.trusted_ca_file.as_ref());
        TlsError::content(file.unwrap_or(&settings.cert_file), error.to_string())
    })?;
    Ok(Arc::new(NamedClients::new(verifier, &settings.allowed_clients)?))
}

fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let chosen: Vec<_> = settings.cipher_suites.iter().map(|suite| suite.supported().suite()).collect();
    if !chosen.is_empty() {
        provider.cipher_suites.retain(|suite| {
            suite.version() == TlsVersion::Tls13.supported() || chosen.contains(&suite.suite())
        });
    }
    provider
}

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    [TlsVersion::Tls12, TlsVersion::Tls13]
        .into_iter()
        .filter(|version| (settings.version_min..=settings.version_max).contains(version))
        .map(TlsVersion::supported)
        .collect()
}
