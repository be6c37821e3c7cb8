use std::io;

use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::ListenUrl;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {url}: {source}{}", advice(source))]
pub struct ListenError {
    url: ListenUrl,
    source: io::Error,
}

/// A socket that listens, and its URL with the port that it really has.
pub(crate) struct Listener {
    pub(crate) url: ListenUrl,
    pub(crate) socket: TcpListener,
}

/// Listens on all of `urls`, or on none. Clients that connect from now on wait until they are served.
pub(crate) async fn listen(urls: &[ListenUrl]) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::with_capacity(urls.len());
    for url in urls {
        let listener = one(*url).await.map_err(|source| ListenError { url: *url, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn one(url: ListenUrl) -> io::Result<Listener> {
    let socket = TcpListener::bind(url.address).await?;
    Ok(Listener { url: ListenUrl { address: socket.local_addr()? }, socket })
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there: stop it, or choose another port with --listen-client-urls"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        _ => "",
    }
}
