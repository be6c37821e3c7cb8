//! A gRPC client that costs little: HTTP/2 by the library that tonic uses, and nothing above it.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Uri, header};
use prost::Message;
use thiserror::Error;
use tokio::net::TcpStream;

/// Anything that ends a run.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A call that was not answered with a message.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("the server answered with gRPC status {code}: {message}")]
    Status { code: u32, message: String },
    #[error("the connection broke: {0}")]
    Broken(#[from] h2::Error),
    #[error("the server ended the call without a message")]
    NoMessage,
    #[error("the answer cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
}

impl CallError {
    /// Whether the server does not have this call at all.
    pub(crate) fn is_unimplemented(&self) -> bool {
        const UNIMPLEMENTED: u32 = 12;
        matches!(self, CallError::Status { code: UNIMPLEMENTED, .. })
    }
}

/// What a client lets the server send before it has read it: no load waits for window updates.
const WINDOW_BYTES: u32 = 1 << 30;
/// Calls of one connection at a time, above every number of clients that a load has.
const STREAMS_MAX: usize = 4096;
/// A gRPC message's flag and length.
const PREFIX_BYTES: usize = 5;

/// One connection to a server. Its methods may be called by many tasks at a time.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    origin: String,
}

/// A call's path on a connection, prepared.
#[derive(Clone)]
pub(crate) struct Path(Uri, HeaderMap);

impl Connection {
    /// Connects to `address` ("host:port"). The connection ends when it is dropped.
    pub(crate) async fn open(address: &str) -> Result<Connection, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_max_send_streams(STREAMS_MAX)
            .handshake(stream)
            .await?;
        // It ends with the last sender; what breaks it is seen by the calls.
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Connection { sender, origin: format!("http://{address}") })
    }

    /// Prepares calls of `method`, such as "etcdserverpb.KV/Txn".
    pub(crate) fn path(&self, method: &str) -> Result<Path, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
        Ok(Path(format!("{}/{method}", self.origin).parse()?, headers))
    }

    /// Sends one message and returns the one that answers it.
    pub(crate) async fn call<Q: Message, A: Message + Default>(
        &self,
        path: &Path,
        message: &Q,
    ) -> Result<A, CallError> {
        let mut stream = self.begin(path, Some(message)).await?;
        let answer = stream.next_bytes().await?.ok_or(CallError::NoMessage)?;
        // The end says whether the call was right.
        while stream.next_bytes().await?.is_some() {}
        Ok(A::decode(answer)?)
    }

    /// Begins a call; with a message, it is the only one.
    pub(crate) async fn begin<Q: Message>(&self, path: &Path, only: Option<&Q>) -> Result<Stream, CallError> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.0.clone();
        *request.headers_mut() = path.1.clone();
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut send) = sender.send_request(request, false)?;
        if let Some(message) = only {
            send.send_data(framed(message), true)?;
        }
        Ok(Stream { send, response: Some(response), body: None, received: BytesMut::new() })
    }
}

/// A call under way.
pub(crate) struct Stream {
    send: SendStream<Bytes>,
    response: Option<h2::client::ResponseFuture>,
    body: Option<RecvStream>,
    received: BytesMut,
}

impl Stream {
    /// Sends one more message.
    pub(crate) fn send<Q: Message>(&mut self, message: &Q) -> Result<(), CallError> {
        Ok(self.send.send_data(framed(message), false)?)
    }

    /// The next message, decoded; nothing when the call has ended well.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, CallError> {
        Ok(self.next_bytes().await?.map(A::decode).transpose()?)
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, CallError> {
        if let Some(response) = self.response.take() {
            let response = response.await?;
            well(response.headers())?;
            self.body = Some(response.into_body());
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            if let Some(length) = self.received.get(1..PREFIX_BYTES) {
                let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
                if self.received.len() >= PREFIX_BYTES + length {
                    let mut message = self.received.split_to(PREFIX_BYTES + length);
                    return Ok(Some(message.split_off(PREFIX_BYTES).freeze()));
                }
                self.received.reserve(PREFIX_BYTES + length - self.received.len());
            }
            match body.data().await {
                Some(data) => {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    self.received.extend_from_slice(&data);
                }
                None => {
                    if let Some(trailers) = body.trailers().await? {
                        well(&trailers)?;
                    }
                    self.body = None;
                    return Ok(None);
                }
            }
        }
    }
}

/// The message as gRPC sends it.
fn framed<Q: Message>(message: &Q) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The room is there.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// An error, if these headers or trailers have one.
fn well(headers: &HeaderMap) -> Result<(), CallError> {
    let text =
        |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status") {
        Some(code) if code != "0" => Err(CallError::Status {
            code: code.parse().unwrap_or(u32::MAX),
            message: text("grpc-message").unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// The connections of a load, and its calls.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) connections: Vec<Connection>,
    pub(crate) range: Path,
    pub(crate) range_stream: Path,
    pub(crate) txn: Path,
    pub(crate) delete_range: Path,
    pub(crate) compact: Path,
    pub(crate) watch: Path,
    pub(crate) lease_grant: Path,
}

impl Link {
    /// Opens `count` connections, to each of the endpoints in turn.
    pub(crate) async fn open(endpoints: &[String], count: usize) -> Result<Link, Error> {
        let mut connections = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let address = endpoints.get(number % endpoints.len().max(1)).ok_or("there is no endpoint")?;
            connections.push(Connection::open(address).await?);
        }
        let first = connections.first().ok_or("there is no connection")?;
        let kv = |method: &str| first.path(&format!("etcdserverpb.KV/{method}"));
        Ok(Link {
            range: kv("Range")?,
            range_stream: kv("RangeStream")?,
            txn: kv("Txn")?,
            delete_range: kv("DeleteRange")?,
            compact: kv("Compact")?,
            watch: first.path("etcdserverpb.Watch/Watch")?,
            lease_grant: first.path("etcdserverpb.Lease/LeaseGrant")?,
            connections,
        })
    }

    /// The connection of a client.
    pub(crate) fn connection(&self, client: usize) -> Result<&Connection, Error> {
        let count = self.connections.len().max(1);
        self.connections.get(client % count).ok_or_else(|| "there is no connection".into())
    }
}
