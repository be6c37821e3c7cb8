use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Supervisor};
use parking_lot::RwLock;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::config::server_config;
use super::files::TlsError;
use super::name::ClientName;
use super::pending::Pending;
use super::settings::TlsSettings;
use crate::files::{Followed, Stamps, blocking, follow, stamps};

/// How long a handshake may take; etcd has the same.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Makes TLS connections of connections, with the certificates that the files hold now. Cheap to clone; clones share
/// everything. Many listeners may use one.
#[derive(Clone)]
pub struct TlsAcceptor {
    current: Arc<Current>,
    pending: Pending,
    clock: Arc<dyn Clock>,
}

/// What the files held when they could be used last.
struct Current {
    settings: TlsSettings,
    config: RwLock<Arc<ServerConfig>>,
}

/// A connection after its handshake.
pub struct Accepted<S> {
    /// The connection, in the clear.
    pub stream: TlsStream<S>,
    /// The common name in the client's certificate. Only a client whose certificate was found good has one.
    pub client: Option<ClientName>,
}

/// Why there is no connection. The stream is closed.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The client did not finish in time.
    #[error("the TLS handshake took longer than {HANDSHAKE_TIME_MAX:?}")]
    Late,
    /// Too many handshakes were under way, and this was the oldest.
    #[error("too many TLS handshakes were under way, and this one had waited longest")]
    Crowded,
    /// It was refused by one of the two, or the client went away.
    #[error("{0}")]
    Failed(#[source] io::Error),
}

impl HandshakeError {
    /// Whether the client went away without a reason, as probes of a port do.
    pub fn is_probe(&self) -> bool {
        let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        matches!(self, HandshakeError::Failed(error) if gone.contains(&error.kind()))
    }
}

impl TlsAcceptor {
    /// Reads the files, and has a task of `supervisor` read them again within a second of a change. New connections get
    /// what is read then, connections that exist stay as they are. Files that cannot be used, such as half-written
    /// ones, or a certificate without its new key, change nothing; a warning says why.
    ///
    /// Fails when the files cannot be used now.
    pub async fn open(
        settings: TlsSettings,
        clock: Arc<dyn Clock>,
        supervisor: &Supervisor,
    ) -> Result<TlsAcceptor, TlsError> {
        let (acceptor, seen) = TlsAcceptor::read(settings, clock.clone()).await?;
        follow(acceptor.current.clone(), seen, clock, supervisor);
        Ok(acceptor)
    }

    async fn read(settings: TlsSettings, clock: Arc<dyn Clock>) -> Result<(TlsAcceptor, Stamps), TlsError> {
        let (seen, current) = blocking(move || {
            let seen = stamps(&files_of(&settings));
            let current = server_config(&settings)
                .map(|config| Current { settings, config: RwLock::new(Arc::new(config)) });
            (seen, current)
        })
        .await;
        Ok((TlsAcceptor { current: Arc::new(current?), pending: Pending::default(), clock }, seen))
    }

    /// Does the handshake with a client.
    ///
    /// Ends after 10 seconds at most, and earlier when it waits longest of too many. Dropping it closes the stream.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = self.pending.enter();
        let config = self.current.config.read().clone();
        let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
        let stream = tokio::select! {
            // What is done counts, however late it is.
            biased;
            done = handshake => done.map_err(HandshakeError::Failed)?,
            () = place.lost() => return Err(HandshakeError::Crowded),
            () = self.clock.sleep_until(self.clock.now() + HANDSHAKE_TIME_MAX) => return Err(HandshakeError::Late),
        };
        let shown = stream.get_ref().1.peer_certificates();
        let client = shown.and_then(<[_]>::first).and_then(ClientName::of);
        Ok(Accepted { stream, client })
    }
}

impl Followed for Current {
    fn files(&self) -> Vec<PathBuf> {
        files_of(&self.settings)
    }

    fn read_again(&self) {
        match server_config(&self.settings) {
            Ok(config) => {
                *self.config.write() = Arc::new(config);
                info!(cert_file = %self.settings.cert_file.display(), "TLS files have changed and are in use");
            }
            Err(error) => {
                warn!(%error, "TLS files have changed and cannot be used: what they held before stays in use");
            }
        }
    }
}

fn files_of(settings: &TlsSettings) -> Vec<PathBuf> {
    let TlsSettings { cert_file, key_file, trusted_ca_file, crl_file, .. } = settings;
    [Some(cert_file), Some(key_file), trusted_ca_file.as_ref(), crl_file.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
