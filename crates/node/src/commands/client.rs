//! The connection of a command with a server, as etcdctl has it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How long one endpoint may take to answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection that is silent is asked so often whether anybody is there; etcd's server takes no more than that.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where a server is, and how it is known.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ClientArguments {
    /// Servers of the store; the first that answers is used
    #[arg(long, value_name = "URLS", value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    endpoints: Vec<String>,
    /// Who signs the certificates of servers, PEM; needed with https://
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Why no server was reached.
#[derive(Debug, Error)]
pub(crate) enum ClientFailure {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error("--endpoints: {endpoint}: {reason}")]
    Endpoint { endpoint: String, reason: String },
    #[error("no server answers: {0}")]
    Unreachable(String),
}

impl ClientArguments {
    /// A connection with the first endpoint that answers.
    pub(super) async fn connect(&self) -> Result<Channel, ClientFailure> {
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            let server = self.endpoint(endpoint)?;
            match tokio::time::timeout(CONNECT_TIME_MAX, server.connect()).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error)) => reasons.push(format!("{endpoint}: {}", with_causes(&error))),
                Err(_) => reasons.push(format!("{endpoint}: nothing within {CONNECT_TIME_MAX:?}")),
            }
        }
        Err(ClientFailure::Unreachable(reasons.join("; ")))
    }

    fn endpoint(&self, given: &str) -> Result<Endpoint, ClientFailure> {
        let wrong = |reason: String| ClientFailure::Endpoint { endpoint: given.to_owned(), reason };
        let url = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| wrong(with_causes(&error)))?;
        let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE).tcp_nodelay(true);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|source| ClientFailure::File { file: file.clone(), source })
        };
        let Some(ca) = &self.cacert else {
            return Err(wrong("say with --cacert who signs the server's certificate".to_owned()));
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        endpoint.tls_config(tls).map_err(|error| wrong(with_causes(&error)))
    }
}

/// An error with what caused it: the first alone says only "transport error".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
