use std::io;

use server::Serves;
use server::tls::TlsAcceptor;
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

/// A URL that is listened on, with the port that it really has.
pub(crate) struct Listening {
    pub(crate) url: ListenUrl,
    pub(crate) listener: server::Listener,
}

/// Listens on all of `urls`, or on none of them, for what is served there; with `tls` on those that want it, which without it are not allowed. Clients
/// that connect from now on wait until they are served.
pub(crate) async fn listen(
    urls: &[ListenUrl],
    tls: Option<&TlsAcceptor>,
    serves: Serves,
) -> Result<Vec<Listening>, ListenError> {
    let mut all = Vec::with_capacity(urls.len());
    for url in urls {
        assert!(tls.is_some() || !url.is_tls, "a configuration with https has a certificate");
        let socket =
            TcpListener::bind(url.address).await.map_err(|source| ListenError { url: *url, source })?;
        let address = socket.local_addr().map_err(|source| ListenError { url: *url, source })?;
        let tls = tls.filter(|_| url.is_tls).cloned();
        all.push(Listening {
            url: ListenUrl { address, ..*url },
            listener: server::Listener { socket, tls, serves },
        });
    }
    Ok(all)
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it, or choose another port",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        _ => "",
    }
}
