use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use fleet::{Secure, Stream};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::files::{TlsError, certificates, private_key, roots};
use crate::files::blocking;

/// Makes connections to other servers secure, and shows them this one's certificate.
///
/// The files are read for each connection, which are few: whatever they hold is used from the next one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConnector {
    /// This server's certificate and those between it and the root, PEM, its own first. It has to be good for a client.
    pub cert_file: PathBuf,
    /// The private key of the certificate, PEM.
    pub key_file: PathBuf,
    /// The certificates of the authorities whose servers are believed, PEM.
    pub trusted_ca_file: PathBuf,
}

impl TlsConnector {
    fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&self.trusted_ca_file)?)
            .with_client_auth_cert(certificates(&self.cert_file)?, private_key(&self.key_file)?)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // As on the other side: every connection shows a certificate that is looked at.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

#[async_trait]
impl Secure for TlsConnector {
    async fn secure(&self, stream: TcpStream, host: &str) -> Result<Box<dyn Stream>, String> {
        let files = self.clone();
        let config = blocking(move || files.config()).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let secured = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(secured))
    }
}
