//! The connection to whoever leads.

mod url;

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::{Clock, Shutdown, Supervisor, TaskKind};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::{debug, info, warn};

pub use url::{PeerUrl, PeerUrlError};

/// How long a connection may take to come about.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// The pause between two tries to connect: doubled each time, up to the maximum. A leader that is started again listens
/// within less.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How much a leader may send on one stream before it is read: a batch of usual size.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// And on the connection.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Somebody to be connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, for people.
    pub name: String,
    /// The term at which it leads.
    pub term: u64,
    /// Where it listens, as it says itself.
    pub url: String,
}

/// What a link needs from outside.
#[derive(Clone)]
pub struct LinkSettings {
    /// What pauses go by.
    pub clock: Arc<dyn Clock>,
    /// Who runs the connections.
    pub supervisor: Supervisor,
    /// How often a peer is asked for a sign of life, and how long it has to give one: a connection to a machine that has
    /// gone is given up after both.
    pub keepalive: Duration,
    /// Makes connections to `https://` URLs secure; without it there are none.
    pub secure: Option<Arc<dyn Secure>>,
}

/// A connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Makes connections secure.
#[async_trait]
pub trait Secure: Send + Sync + 'static {
    /// The connection with the peer at `host`, once both have shown who they are; the error says what is wrong with
    /// either.
    async fn secure(&self, stream: TcpStream, host: &str) -> Result<Box<dyn Stream>, String>;
}

/// A connection to the leader, as far as there is one. Cheap to clone.
pub struct Link<B> {
    state: watch::Receiver<State<B>>,
}

struct State<B> {
    connection: Option<Connection<B>>,
    /// Why there is none.
    trouble: String,
}

/// A connection to one leader. Cheap to clone; what was sent over it is carried on also when the leader changes.
pub struct Connection<B> {
    /// Different for each connection of a link.
    pub id: u64,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    origin: PeerUrl,
    sender: SendRequest<B>,
}

/// A request has no answer.
#[derive(Debug, Error)]
pub enum Unsent {
    /// It certainly did not reach the peer, or the peer certainly did not look at it.
    #[error("not sent: {0}")]
    Certainly(String),
    /// It may have reached the peer, and have been carried out.
    #[error("sent, and not answered: {0}")]
    Perhaps(String),
}

/// What keeps a link up: [`LinkDriver::run`].
pub struct LinkDriver<B> {
    settings: LinkSettings,
    state: watch::Sender<State<B>>,
    connections: u64,
}

/// A link, which has no connection until its driver runs.
pub fn link<B>(settings: LinkSettings) -> (Link<B>, LinkDriver<B>) {
    let nobody = State { connection: None, trouble: "nobody is known to lead".to_owned() };
    let (sender, state) = watch::channel(nobody);
    (Link { state }, LinkDriver { settings, state: sender, connections: 0 })
}

impl<B> Clone for Link<B> {
    fn clone(&self) -> Link<B> {
        Link { state: self.state.clone() }
    }
}

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Connection<B> {
        Connection {
            id: self.id,
            peer: self.peer.clone(),
            origin: self.origin.clone(),
            sender: self.sender.clone(),
        }
    }
}

impl<B> Link<B> {
    /// The connection, if there is one now.
    pub fn connection(&self) -> Option<Connection<B>> {
        self.state.borrow().connection.clone().filter(|connection| !connection.sender.is_closed())
    }

    /// Why there is none, for people.
    pub fn trouble(&self) -> String {
        self.state.borrow().trouble.clone()
    }

    /// Completes when [`Link::connection`] is another one than the last time, or none. Never when the driver has ended.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Where requests over this connection go to: scheme and authority.
    pub fn origin(&self) -> &PeerUrl {
        &self.origin
    }

    /// Sends a request, whose URI has to begin with [`Connection::origin`]. An error says whether the peer can have seen
    /// it. A future that is dropped takes the request back, if the peer has not seen it yet.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, Unsent> {
        let mut sender = self.sender.clone();
        if let Err(error) = sender.ready().await {
            return Err(Unsent::Certainly(reasons(&error)));
        }
        sender.try_send_request(request).await.map_err(|error| {
            let never_written = error.message().is_some();
            match never_written || was_turned_away(error.error()) {
                true => Unsent::Certainly(reasons(error.error())),
                false => Unsent::Perhaps(reasons(error.error())),
            }
        })
    }
}

/// Whether the peer says itself that it has not looked at the request: it refused the stream, or said goodbye and named
/// a last stream before it. (The HTTP/2 library reports a goodbye at those streams alone; the others end with the end of
/// the connection.)
fn was_turned_away(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (refused || error.is_go_away());
        }
        source = error.source();
    }
    false
}

/// An error with what is behind it: the outermost says little.
fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl<B> LinkDriver<B>
where
    B: Body<Data = Bytes> + Default + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Stays connected with the newest of `peers`, until `shutdown`. `None` is nobody, or this process itself. A connection
    /// that is there at the end is kept as long as it lasts, or a handle of the link.
    pub async fn run(mut self, mut peers: watch::Receiver<Option<Peer>>, shutdown: Shutdown) {
        let mut pause = PAUSE_MIN;
        while !shutdown.has_begun() {
            let peer = peers.borrow_and_update().clone();
            let attempt = async {
                match &peer {
                    None => {
                        self.lost("nobody else is known to lead");
                        std::future::pending().await
                    }
                    Some(peer) => self.connect_and_wait(peer, pause).await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.begun() => {}
                changed = peers.changed() => match changed {
                    Ok(()) => pause = PAUSE_MIN,
                    Err(_) => break,
                },
                was_connected = attempt => {
                    pause = if was_connected { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                }
            }
        }
        // The connection stays as it is, for what clients of this process still have under way.
    }

    /// Connects, and waits until the connection has ended, or for a pause. Returns whether there was a connection.
    async fn connect_and_wait(&mut self, peer: &Peer, pause: Duration) -> bool {
        let clock = self.settings.clock.clone();
        let connecting = self.connect(peer);
        let connected = tokio::select! {
            biased;
            connected = connecting => connected,
            () = clock.sleep_until(clock.now() + CONNECT_TIME_MAX) => Err("it does not answer".to_owned()),
        };
        let (origin, sender, mut end) = match connected {
            Ok(connected) => connected,
            Err(reason) => {
                let trouble = format!("the leader {} at {} cannot be reached: {reason}", peer.name, peer.url);
                // Once, not with each try.
                if self.lost(&trouble) {
                    warn!(trouble, "no connection to the leader");
                }
                clock.sleep_until(clock.now() + pause).await;
                return false;
            }
        };
        self.connections += 1;
        info!(leader = peer.name, url = peer.url, term = peer.term, "connected to the leader");
        let peer = Arc::new(peer.clone());
        let connection = Connection { id: self.connections, peer: peer.clone(), origin, sender };
        self.state.send_replace(State { connection: Some(connection), trouble: String::new() });
        end.come().await;
        warn!(leader = peer.name, url = peer.url, "the connection to the leader has ended");
        self.lost(&format!("the connection to the leader {} at {} has ended", peer.name, peer.url));
        true
    }

    /// A connection to a peer that serves: a socket that nobody serves any more takes requests, too, and nobody could say
    /// later that they were not looked at. So the peer has to answer something first.
    async fn connect(&self, peer: &Peer) -> Result<(PeerUrl, SendRequest<B>, End), String> {
        let (origin, mut sender, driven) = shake_hands(peer, &self.settings).await?;
        let (ended, end) = watch::channel(());
        self.settings.supervisor.spawn("peer connection", TaskKind::Request, async move {
            driven.await;
            drop(ended);
            Ok::<(), Infallible>(())
        });
        let question =
            Request::get(origin.to_string()).body(B::default()).map_err(|error| error.to_string())?;
        sender.send_request(question).await.map_err(|error| reasons(&error))?;
        Ok((origin, sender, End(end)))
    }

    /// Notes that there is no connection. `false` when that was known, for the same reason.
    fn lost(&self, trouble: &str) -> bool {
        self.state.send_if_modified(|state| {
            let is_news = state.connection.is_some() || state.trouble != trouble;
            *state = State { connection: None, trouble: trouble.to_owned() };
            is_news
        })
    }
}

/// The end of a connection.
struct End(watch::Receiver<()>);

impl End {
    async fn come(&mut self) {
        // The sender goes with the connection's task, and never says anything.
        let _ = self.0.changed().await;
    }
}

type Driven = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn shake_hands<B>(
    peer: &Peer,
    settings: &LinkSettings,
) -> Result<(PeerUrl, SendRequest<B>, Driven), String>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let text = |error: &dyn Display| error.to_string();
    let origin: PeerUrl = peer.url.parse().map_err(|error: PeerUrlError| text(&error))?;
    let stream = TcpStream::connect((origin.host(), origin.port())).await.map_err(|error| text(&error))?;
    stream.set_nodelay(true).map_err(|error| text(&error))?;
    let stream: Box<dyn Stream> = match (origin.is_secure(), &settings.secure) {
        (false, _) => Box::new(stream),
        (true, Some(secure)) => secure.secure(stream, origin.host()).await?,
        (true, None) => return Err("it wants TLS, for which this server has no certificate".to_owned()),
    };
    let keepalive = settings.keepalive;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| reasons(&error))?;
    let driven = async move {
        if let Err(error) = connection.await {
            debug!(error = reasons(&error), "a connection to a peer ended");
        }
    };
    Ok((origin, sender, Box::pin(driven)))
}

#[cfg(test)]
mod tests;
