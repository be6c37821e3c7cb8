//! Owning partitions for a leader elsewhere.

mod messages;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Shutdown};
use fleet::Member;
use futures_util::stream::{self, Stream, StreamExt};
use partition::{FromOwner, Store};
use proto::peer::{Hello, OwnRequest, OwnResponse};
use tokio::sync::mpsc;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::convert::member_to_wire;
use super::{Connection, Link, remote};
pub(super) use messages::{from_owner, from_owner_to_wire, to_owner, to_owner_to_wire};

/// How long a leader may take to begin the stream.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(2);
/// The pause before a stream that ended is made again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Has this process own what the leader assigns, whoever leads.
pub(crate) struct Owning {
    pub(crate) store: Store,
    pub(crate) link: Link,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cluster_id: u64,
    pub(crate) own: Member,
}

impl Owning {
    /// Until this process leads, or `shutdown`: then what is owned has been given back in order.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut leading = self.store.leading();
        let link = self.link.clone();
        while !shutdown.has_begun() && !*leading.borrow_and_update() {
            if let Some(connection) = link.connection() {
                self.own_over(connection).await;
            }
            let pause = async {
                tokio::select! {
                    biased;
                    _ = leading.changed() => {}
                    () = self.clock.sleep_until(self.clock.now() + AGAIN_AFTER) => {}
                }
            };
            // Whoever has a connection with a leader that takes no owners tries again after the pause as well.
            let _ = shutdown.or(pause).await;
        }
    }

    /// Owns what the leader at the other end assigns, until the stream ends, or there is another leader.
    async fn own_over(&self, connection: Connection) {
        let leader = connection.peer.name.clone();
        let (to_leader, from_here) = mpsc::unbounded_channel();
        let mut answers = match self.begin(connection.clone(), from_here).await {
            Ok(answers) => answers,
            Err(reason) => return debug!(leader, reason, "the leader assigns nothing"),
        };
        let (to_here, from_leader) = mpsc::unbounded_channel();
        let mut to_here = Some(to_here);
        let mut owning = pin!(self.store.own(from_leader, to_leader));
        let mut link = self.link.clone();
        loop {
            let message = tokio::select! {
                biased;
                // Not before everything is given back, whatever else ends.
                () = &mut owning => return,
                () = link.changed(), if to_here.is_some() => match link.connection() {
                    Some(now) if now.id == connection.id => continue,
                    _ => None,
                },
                message = answers.message(), if to_here.is_some() => match message {
                    Ok(Some(message)) => read(message, &leader),
                    Ok(None) => None,
                    Err(status) => {
                        info!(leader, error = %status, "the leader assigns nothing any more");
                        None
                    }
                },
            };
            match (&to_here, message) {
                (Some(open), Some(message)) => drop(open.send(message)),
                // What has been received is carried out, and then all is given up.
                _ => to_here = None,
            }
        }
    }

    async fn begin(
        &self,
        connection: Connection,
        from_here: mpsc::UnboundedReceiver<FromOwner>,
    ) -> Result<Streaming<OwnResponse>, String> {
        let mut client = remote::client(connection);
        let beginning = client.own(requests(self.hello(), from_here));
        tokio::select! {
            biased;
            begun = beginning => match begun {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(format!("{}: {}", status.code(), status.message())),
            },
            () = self.clock.sleep_until(self.clock.now() + BEGIN_TIME_MAX) => {
                Err("the leader did not begin it in time".to_owned())
            }
        }
    }

    fn hello(&self) -> OwnRequest {
        let hello = Hello { cluster_id: self.cluster_id, member: Some(member_to_wire(self.own.clone())) };
        OwnRequest { hello: Some(hello), ..OwnRequest::default() }
    }
}

/// What is said on the stream; it ends when nobody can say anything more.
fn requests(
    hello: OwnRequest,
    mut from_here: mpsc::UnboundedReceiver<FromOwner>,
) -> impl Stream<Item = OwnRequest> + Send + 'static {
    let said = stream::poll_fn(move |context| from_here.poll_recv(context));
    stream::iter([hello]).chain(said.map(from_owner_to_wire))
}

fn read(message: OwnResponse, leader: &str) -> Option<partition::ToOwner> {
    match to_owner(message) {
        Ok(message) => Some(message),
        Err(reason) => {
            warn!(leader, reason, "what the leader says of partitions makes no sense");
            None
        }
    }
}
