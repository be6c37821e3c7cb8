use std::io;
use std::sync::Arc;

use server::Serves;
use server::tls::TlsAcceptor;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::{Config, EngineKind, ListenUrl};

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {url}: {source}{}", advice(source, flag))]
pub struct ListenError {
    url: ListenUrl,
    /// The setting that names it.
    flag: &'static str,
    source: io::Error,
}

/// Everything that a process listens on, each with the port that it really has. Clones share the sockets, which outlive
/// the servers that serve on them.
#[derive(Clone)]
pub(crate) struct Sockets(Vec<(ListenUrl, Arc<TcpListener>, Serves)>);

/// A URL that is listened on, and how connections to it are served.
pub(crate) struct Listening {
    pub(crate) url: ListenUrl,
    pub(crate) listener: server::Listener,
}

impl Sockets {
    /// Listens wherever the configuration says, or nowhere. Who connects from now on waits until they are served.
    pub(crate) async fn bind(config: &Config) -> Result<Sockets, ListenError> {
        let mut sockets = Vec::new();
        let peers = match config.engine {
            EngineKind::Tikv => config.listen_peer_urls.as_slice(),
            EngineKind::Embedded | EngineKind::Memory => &[],
        };
        let wanted = [
            (config.listen_client_urls.as_slice(), "--listen-client-urls", Serves::Everything),
            (config.listen_metrics_urls.as_slice(), "--listen-metrics-urls", Serves::Observation),
            (peers, "--listen-peer-urls", Serves::Peers),
        ];
        for (urls, flag, serves) in wanted {
            for url in urls {
                let refused = |source| ListenError { url: *url, flag, source };
                let socket = TcpListener::bind(url.address).await.map_err(refused)?;
                let address = socket.local_addr().map_err(refused)?;
                sockets.push((ListenUrl { address, ..*url }, Arc::new(socket), serves));
            }
        }
        Ok(Sockets(sockets))
    }

    /// How connections are served; with TLS to clients, or to other servers, on those URLs that want it, which without it
    /// are not allowed.
    pub(crate) fn listeners(
        &self,
        clients: Option<&TlsAcceptor>,
        peers: Option<&TlsAcceptor>,
    ) -> Vec<Listening> {
        let listening = |(url, socket, serves): &(ListenUrl, Arc<TcpListener>, Serves)| {
            let tls = if *serves == Serves::Peers { peers } else { clients };
            assert!(tls.is_some() || !url.is_tls, "a configuration with https has a certificate");
            let tls = tls.filter(|_| url.is_tls).cloned();
            let listener = server::Listener { socket: socket.clone(), tls, serves: *serves };
            Listening { url: *url, listener }
        };
        self.0.iter().map(listening).collect()
    }
}

/// Those that answer while the store is not there yet: the other servers ask again by themselves.
pub(crate) fn open_to_clients(listeners: &[Listening]) -> Vec<&server::Listener> {
    let listeners = listeners.iter().map(|listening| &listening.listener);
    listeners.filter(|listener| listener.serves != Serves::Peers).collect()
}

fn advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another process listens there: stop it, or choose another port with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege".to_owned(),
        _ => String::new(),
    }
}
