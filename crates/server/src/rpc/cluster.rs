use std::sync::Arc;

use async_trait::async_trait;
use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};
use proto::service::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use crate::backend::Backend;
use crate::config::Config;

/// The cluster service: the members are those that were started, and nobody adds or removes them here.
pub(crate) struct ClusterService(pub(crate) Arc<Backend>);

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("members are not managed by this API: a member is one when it is started"))
}

/// The one member of a store that has no others.
fn alone(config: &Config) -> Member {
    Member {
        id: config.member_id,
        name: config.name.clone(),
        peer_ur_ls: Vec::new(),
        client_ur_ls: config.advertise_client_urls.clone(),
        is_learner: false,
    }
}

fn listed(cluster_id: u64, member: fleet::Member) -> Member {
    Member {
        id: fleet::member_id(cluster_id, &member.name),
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: false,
    }
}

#[async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        self.0.access(request.extensions()).ask()?;
        let backend = &self.0;
        let members = match &backend.peers {
            Some(peers) => {
                let live = peers.members.lock().live(backend.clock.now());
                live.into_iter().map(|member| listed(backend.store.cluster_id, member)).collect()
            }
            None => vec![alone(&backend.config)],
        };
        Ok(Response::new(MemberListResponse { header: backend.newest_header(), members }))
    }

    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        unimplemented()
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        unimplemented()
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        unimplemented()
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        unimplemented()
    }
}
