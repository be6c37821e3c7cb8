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

/// The cluster service: the members are those that were started, and nobody adds or removes them here.
pub(crate) struct ClusterService(pub(crate) Arc<Backend>);

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("members are not managed by this API: a member is one when it is started"))
}

#[async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        _: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let config = &self.0.config;
        let member = Member {
            id: config.member_id,
            name: config.name.clone(),
            // Members do not talk to one another by etcd's peer protocol.
            peer_ur_ls: Vec::new(),
            client_ur_ls: config.advertise_client_urls.clone(),
            is_learner: false,
        };
        Ok(Response::new(MemberListResponse { header: self.0.newest_header(), members: vec![member] }))
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
