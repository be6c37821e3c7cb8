//! What a leader answers to the other members.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use base::{Clock, TaskKind};
use fleet::{Member, Refused};
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Request as HttpRequest, Response as HttpResponse};
use layout::log::Incarnation;
use model::Revision;
use partition::ToOwner;
use proto::peer::{
    ConfirmRequest, ConfirmResponse, FollowRequest, Hello, JoinRequest, JoinResponse, OwnRequest,
    OwnResponse, Refusal,
};
use proto::peer_service::peer_server::{Peer, PeerServer};
use proto::spliced::FollowResponse;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::convert::{member_from_wire, member_to_wire};
use super::feed::FellBehind;
use super::own::{from_owner, to_owner_to_wire};
use super::remote::MESSAGE_BYTES_MAX;
use super::{LOOKS_PER_LEASE, Peers, answers};
use crate::backend::Backend;

/// The members' own service.
#[derive(Clone)]
pub(crate) struct PeerService {
    backend: Arc<Backend>,
    peers: Arc<Peers>,
}

impl PeerService {
    pub(crate) fn new(backend: Arc<Backend>, peers: Arc<Peers>) -> PeerService {
        PeerService { backend, peers }
    }

    /// Answers a call of the members' own protocol.
    pub(crate) async fn call(&self, request: HttpRequest<Body>) -> HttpResponse<Body> {
        let server = PeerServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        match server.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Refuses who serves another store, and everybody while this process does not lead.
    fn check(&self, cluster_id: u64) -> Result<(), Status> {
        let status = |response: HttpResponse<Body>| {
            Status::from_header_map(response.headers()).unwrap_or_else(|| Status::unavailable("not leading"))
        };
        if cluster_id != self.peers.cluster_id {
            return Err(status(answers::wrong_cluster()));
        }
        match *self.backend.store.leading().borrow() {
            true => Ok(()),
            false => Err(status(answers::not_leading())),
        }
    }

    fn heard(&self, request: JoinRequest) -> Refusal {
        let peers = &self.peers;
        if request.cluster_id != peers.cluster_id {
            return Refusal::WrongCluster;
        }
        if !peers.standing.takes_forwarded() {
            return Refusal::NotLeading;
        }
        let member = member_from_wire(request.member.unwrap_or_default());
        let mut members = peers.members.lock();
        if request.leaves {
            members.left(&member.name, member.incarnation);
            return Refusal::None;
        }
        let name = member.name.clone();
        match members.heard(member, self.backend.clock.now()) {
            Ok(()) => Refusal::None,
            Err(refused) => {
                warn!(member = name, error = %refused, "a member is refused");
                match refused {
                    Refused::Replaced => Refusal::Replaced,
                    Refused::Full => Refusal::Full,
                }
            }
        }
    }
}

#[async_trait]
impl Peer for PeerService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let refusal = self.heard(request.into_inner());
        let members = match refusal {
            Refusal::None => self.peers.members.lock().live(self.backend.clock.now()),
            _ => Vec::new(),
        };
        Ok(Response::new(JoinResponse {
            refusal: refusal.into(),
            term: self.backend.store.term(),
            cluster_id: self.peers.cluster_id,
            members: members.into_iter().map(member_to_wire).collect(),
            alarms: self.backend.store.system.alarms().into_iter().map(|alarm| alarm as i32).collect(),
        }))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        self.check(request.into_inner().cluster_id)?;
        let Backend { store, .. } = self.backend.as_ref();
        // After the question came, and before the look at the revision.
        store.keys.confirm().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ConfirmResponse {
            revision: store.keys.revision().get(),
            compacted: store.keys.compacted().map(Revision::get),
            term: store.term(),
        }))
    }

    type FollowStream = BoxStream<'static, Result<FollowResponse, Status>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let FollowRequest { cluster_id, name } = request.into_inner();
        self.check(cluster_id)?;
        let full = || Status::resource_exhausted("there are as many followers as are served");
        let feed = self.peers.feeds.subscribe().ok_or_else(full)?;
        // Asked after the feed has begun: between the two nothing is missing.
        let published = Some(self.backend.store.keys.published().get());
        let owners = Some(self.peers.owners.to_wire());
        let first = FollowResponse { published, owners, ..FollowResponse::default() };
        info!(member = name, "a member follows");
        let items = stream::unfold(Some((feed, name)), |state| async {
            let (mut feed, name) = state?;
            match feed.next().await {
                Ok(item) => Some((Ok(item), Some((feed, name)))),
                Err(FellBehind) => {
                    warn!(member = name, "a member that follows is too slow: it has to read the log");
                    Some((Err(Status::resource_exhausted("it fell behind")), None))
                }
            }
        });
        Ok(Response::new(stream::iter([Ok(first)]).chain(items).boxed()))
    }

    type OwnStream = BoxStream<'static, Result<OwnResponse, Status>>;

    async fn own(
        &self,
        request: Request<Streaming<OwnRequest>>,
    ) -> Result<Response<Self::OwnStream>, Status> {
        let mut said = request.into_inner();
        let hello = said.message().await?.and_then(|first| first.hello);
        let Hello { cluster_id, member } =
            hello.ok_or_else(|| Status::invalid_argument("the first message has to say who speaks"))?;
        self.check(cluster_id)?;
        let member = member_from_wire(member.unwrap_or_default());
        info!(member = member.name, "a member can own partitions");
        let (to_member, mut from_here) = mpsc::unbounded_channel();
        let serving = serve_owner(self.clone(), member, said, to_member);
        let supervisor = &self.backend.supervisor;
        supervisor.spawn("owner", TaskKind::Request, super::forever(serving));
        let items = stream::poll_fn(move |context| from_here.poll_recv(context));
        Ok(Response::new(items.map(|message| Ok(to_owner_to_wire(message))).boxed()))
    }
}

/// Hands on what an owner says, until its stream ends or it is silent; it owns nothing any more then.
async fn serve_owner(
    service: PeerService,
    member: Member,
    mut said: Streaming<OwnRequest>,
    to_member: mpsc::UnboundedSender<ToOwner>,
) {
    let PeerService { backend, peers } = service;
    let (to_assignments, heard) = mpsc::unbounded_channel();
    let served = backend.store.assignments().serve(Incarnation(member.incarnation), heard, to_member);
    let pump = async {
        let to_assignments = to_assignments;
        let mut silent = pin!(falls_silent(&peers, backend.clock.as_ref(), &member));
        loop {
            let message = tokio::select! {
                biased;
                () = &mut silent => return warn!(member = member.name, "an owner is silent: its partitions are taken back"),
                message = said.message() => message,
            };
            let read = match message {
                Ok(Some(message)) => from_owner(message),
                Ok(None) => Err("it has ended its stream".to_owned()),
                Err(status) => Err(status.to_string()),
            };
            match read {
                Ok(message) => drop(to_assignments.send(message)),
                Err(reason) => {
                    return info!(member = member.name, reason, "a member owns partitions no more");
                }
            }
        }
    };
    tokio::join!(served, pump);
}

/// Completes when a member that was heard of is not heard of for a lease any more.
async fn falls_silent(peers: &Peers, clock: &dyn Clock, member: &Member) {
    let mut was_heard = false;
    loop {
        let is_heard =
            peers.members.lock().live(clock.now()).iter().any(|live| live.incarnation == member.incarnation);
        if was_heard && !is_heard {
            return;
        }
        was_heard |= is_heard;
        clock.sleep_until(clock.now() + peers.fleet.leader_lease / LOOKS_PER_LEASE).await;
    }
}
