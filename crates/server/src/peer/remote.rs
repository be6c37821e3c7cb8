//! Calls of the members' own protocol, over the link.

use std::pin::Pin;
use std::task::{Context, Poll};

use fleet::Unsent;
use http::{Request, Response};
use hyper::body::Incoming;
use proto::peer::peer_client::PeerClient;
use tonic::body::Body;
use tonic::codegen::{Service, http::Uri};

use super::Connection;

/// The largest message that is taken from another member: a batch holds a few MiB of requests, or one request of the largest
/// size that can be configured.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A connection as the generated client wants it.
#[derive(Clone)]
pub(super) struct Channel(Connection);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Unsent;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Unsent>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.0.clone();
        Box::pin(async move { connection.send(request).await })
    }
}

/// The peer at the other end of a connection.
pub(super) fn client(connection: Connection) -> PeerClient<Channel> {
    let origin = connection.origin().to_string();
    let origin: Uri = origin.parse().expect("the URL of a peer is a URI");
    PeerClient::with_origin(Channel(connection), origin).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
