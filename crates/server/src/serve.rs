use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Shutdown, TaskKind};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::clients::{Caller, Full, Seat};
use crate::config::Config;
use crate::grpc::is_grpc;
use crate::keepalive::PingGuard;
use crate::server::{Server, Shared};
use crate::tls::{ClientName, TlsAcceptor};

/// How much a client may send on one stream before it is read: the largest usual request, so that it takes one round
/// trip. (HTTP/2 itself says 64 KiB, which makes a large put wait for the network several times.)
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// And on one connection: some streams at a time, bounded because it is memory that a client can take up.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The most bytes of headers in a request.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// How many calls a client may have cancelled before they were looked at, until it counts as an attack: clients that
/// lose interest in many watches at a time cancel as many calls.
const RESET_STREAMS_PENDING_MAX: usize = 4096;
/// As Go's servers do, so that the connections of machines that vanished end within minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_PROBES: u32 = 9;
/// Until when a connection has to say its first word.
const FIRST_WORD_TIME_MAX: Duration = Duration::from_secs(30);
/// How often a connection is looked at for a client that stands still.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// How long to wait after a connection could not be accepted (no file descriptors, most likely).
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(50);
/// After so many failures in a row the listener counts as lost.
const ACCEPT_FAILURES_MAX: usize = 600;
/// How long calls under way get to end once the server stops; then their connections are cut.
const DRAIN_MAX: Duration = Duration::from_secs(4);

/// Why a server stopped serving by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener takes no connections any more.
    #[error("connections can no longer be accepted: {0}")]
    Accept(#[source] io::Error),
}

/// Where clients connect, or other servers of the store. Clones share the socket.
#[derive(Clone)]
pub struct Listener {
    /// The socket, which listens.
    pub socket: Arc<TcpListener>,
    /// Makes TLS connections of its connections; without it they are in the clear.
    pub tls: Option<TlsAcceptor>,
    /// What is served there.
    pub serves: Serves,
}

/// What is served on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The API by gRPC, and everything by HTTP.
    Everything,
    /// `/metrics`, `/health`, `/livez` and `/readyz` by HTTP, and nothing else: it can be open to who must not reach
    /// the keys.
    Observation,
    /// What the other servers of the store ask, and nothing that clients do. What is asked once the server stops is
    /// turned away, so that it is asked of the next leader.
    Peers,
}

impl Server {
    /// Serves gRPC and HTTP on `listener` until `shutdown`. Then no connection is accepted any more, streams that
    /// clients hold open end with Unavailable, calls under way are finished (at most 4 seconds long), and this
    /// returns.
    pub async fn serve(&self, listener: Listener, shutdown: Shutdown) -> Result<(), ServeError> {
        let connections = TaskTracker::new();
        // Given only when the draining has taken too long.
        let cut = Shutdown::new();
        let accepted = self.accept(listener, &shutdown, &connections, &cut).await;
        let clock = &self.shared.backend.clock;
        self.shared.grpc.stop().await;
        self.shared.backend.stopping.begin();
        connections.close();
        tokio::select! {
            biased;
            () = connections.wait() => {}
            () = clock.sleep_until(clock.now() + DRAIN_MAX) => {
                warn!(connections = connections.len(), "cutting connections that have not ended");
                cut.begin();
                connections.wait().await;
            }
        }
        accepted
    }

    /// A place for a connection. Members take none: no client can keep them out.
    fn seat(&self, serves: Serves, address: IpAddr) -> Result<Option<Seat>, Full> {
        match serves {
            Serves::Everything | Serves::Observation => self.shared.clients.connect(address).map(Some),
            Serves::Peers => Ok(None),
        }
    }

    async fn accept(
        &self,
        listener: Listener,
        shutdown: &Shutdown,
        connections: &TaskTracker,
        cut: &Shutdown,
    ) -> Result<(), ServeError> {
        let clock = &self.shared.backend.clock;
        let builder = Arc::new(connection_builder(&self.shared.backend.config));
        let mut failures = 0;
        loop {
            let accepted = match shutdown.or(listener.socket.accept()).await {
                Ok(accepted) => accepted,
                Err(_) => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    let seat = match self.seat(listener.serves, peer.ip()) {
                        Ok(seat) => seat,
                        Err(full) => {
                            self.shared.backend.metrics.clients.refused_connections.inc();
                            debug!(%peer, %full, "a connection was refused");
                            continue;
                        }
                    };
                    tune(&stream);
                    let connection = Connection {
                        shared: self.shared.clone(),
                        builder: builder.clone(),
                        serves: listener.serves,
                        peer,
                        seat,
                    };
                    let work = connection.run(stream, listener.tls.clone(), shutdown.clone(), cut.clone());
                    let token = connections.token();
                    self.shared.supervisor.spawn("connection", TaskKind::Request, async move {
                        work.await;
                        drop(token);
                        Ok::<(), Infallible>(())
                    });
                }
                // The client has gone again; the next one may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    failures += 1;
                    warn!(%error, "a connection could not be accepted");
                    if failures >= ACCEPT_FAILURES_MAX {
                        return Err(ServeError::Accept(error));
                    }
                    let _ = shutdown.or(clock.sleep_until(clock.now() + ACCEPT_RETRY_AFTER)).await;
                }
            }
        }
    }
}

/// A client's connection.
struct Connection {
    shared: Arc<Shared>,
    builder: Arc<Builder<TokioExecutor>>,
    serves: Serves,
    peer: SocketAddr,
    /// Among the clients; members have none.
    seat: Option<Seat>,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>, shutdown: Shutdown, cut: Shutdown) {
        let Some(tls) = tls else { return self.serve(stream, None, shutdown, cut).await };
        match shutdown.or(tls.accept(stream)).await {
            Ok(Ok(accepted)) => self.serve(accepted.stream, accepted.client, shutdown, cut).await,
            Ok(Err(error)) if error.is_probe() => debug!(peer = %self.peer, %error, "a TLS handshake ended"),
            Ok(Err(error)) => warn!(peer = %self.peer, %error, "a TLS handshake failed"),
            Err(_) => {}
        }
    }

    async fn serve<S>(self, stream: S, name: Option<ClientName>, shutdown: Shutdown, cut: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { shared, builder, serves, peer, seat } = self;
        let (clock, metrics) = (shared.backend.clock.clone(), shared.backend.metrics.clone());
        let caller = seat.map(|seat| Caller::new(seat, name));
        let calling = caller.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let shared = shared.clone();
            if let Some(caller) = &calling {
                request.extensions_mut().insert(caller.clone());
            }
            async move { Ok::<_, Infallible>(answer(&shared, request, serves, peer).await) }
        });
        let spoke = Arc::new(AtomicBool::new(false));
        let stream = match serves {
            Serves::Everything | Serves::Observation => PingGuard::new(stream, clock.clone(), spoke.clone()),
            // Servers may ask one another as often as they like.
            Serves::Peers => PingGuard::off(stream, clock.clone(), spoke.clone()),
        };
        let greeted_until = clock.now() + FIRST_WORD_TIME_MAX;
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let (mut draining, mut next_look) = (false, clock.now() + LOOK_INTERVAL);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        // Usually a client that did not say goodbye.
                        debug!(%peer, error, "a connection ended");
                    }
                    return;
                }
                () = shutdown.begun(), if !draining => {
                    draining = true;
                    // Says GOAWAY: calls under way are finished, new ones go elsewhere.
                    connection.as_mut().graceful_shutdown();
                }
                () = cut.begun() => return,
                () = clock.sleep_until(next_look) => {
                    let now = clock.now();
                    next_look = now + LOOK_INTERVAL;
                    let is_silent = now >= greeted_until && !spoke.load(Ordering::Relaxed);
                    if is_silent || caller.as_ref().is_some_and(|caller| caller.stalls.are_there(now)) {
                        metrics.clients.cut_connections.inc();
                        let reason = if is_silent { "it has said nothing" } else { "it takes no answers" };
                        let name = caller.as_ref().and_then(|caller| caller.name.as_ref()).map(ClientName::as_str);
                        info!(%peer, name, reason, "cutting off a client");
                        return;
                    }
                }
            }
        }
    }
}

async fn answer(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
    serves: Serves,
    peer: SocketAddr,
) -> hyper::Response<Body> {
    let span = debug_span!("request", method = %request.uri().path(), %peer);
    async {
        match serves {
            Serves::Observation => shared.http.observe(&request).await,
            Serves::Everything if is_grpc(&request) => shared.grpc.call(request).await,
            Serves::Everything => shared.http.answer(&request).await,
            // Whatever comes there is answered as gRPC.
            Serves::Peers => shared.grpc.call_of_peer(request).await,
        }
    }
    .instrument(span)
    .await
}

fn connection_builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(config.client_limits.streams_per_connection_max)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_PENDING_MAX)
        // How often clients may ask whether the connection lives is the `PingGuard`'s business.
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout);
    builder
}

fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE)
        .with_retries(TCP_KEEPALIVE_PROBES);
    let tuned = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        debug!(%error, "a connection could not be tuned");
    }
}
