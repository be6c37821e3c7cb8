use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use model::{LeaseId, LeaseTtl};
use partition::SystemFailure;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use proto::service::lease_server::Lease;
use tonic::{Request, Response, Status, Streaming};

use crate::admission::LEASE_COST_BYTES;
use crate::backend::Backend;
use crate::error::EtcdError;
use crate::failure;
use crate::leases::TTL_SECS_MIN;
use crate::permissions::Access;

/// How often an id is drawn for a lease before its grant is given up: 63 random bits are taken already about never.
const DRAWS_MAX: usize = 8;
/// How long a keepalive waits for a lease that is being revoked to vanish. The other leases of its stream wait with
/// it, as in etcd, so that it must end before a common TTL does.
const VANISHING_PATIENCE: Duration = Duration::from_secs(5);

/// The lease service.
pub(crate) struct LeaseService(pub(crate) Arc<Backend>);

impl LeaseService {
    async fn grant(&self, id: i64, ttl: LeaseTtl) -> Result<LeaseId, Status> {
        let system = &self.0.store.system;
        if id != 0 {
            system.grant(LeaseId(id), ttl).await.map_err(failure::system)?;
            return Ok(LeaseId(id));
        }
        for _ in 0..DRAWS_MAX {
            // Positive ones only, as etcd draws them.
            let lease = LeaseId((self.0.random.next_u64() >> 1).cast_signed());
            if lease.is_none() {
                continue;
            }
            match system.grant(lease, ttl).await {
                Ok(()) => return Ok(lease),
                Err(SystemFailure::LeaseExists) => {}
                Err(failure) => return Err(failure::system(failure)),
            }
        }
        Err(EtcdError::LeaseExist.into())
    }
}

async fn keep_alive(backend: &Backend, access: &Access, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    access.write_lease(LeaseId(id), &backend.store.keys)?;
    // Before the renewal: else a lease could end at a revision at which the client was told that it lives.
    let header = backend.newest_header();
    let ttl = backend.leases.renew(LeaseId(id), VANISHING_PATIENCE).await?;
    Ok(LeaseKeepAliveResponse { header, id, ttl: ttl.map_or(0, LeaseTtl::secs) })
}

#[async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.0.access(request.extensions()).grant()?;
        let LeaseGrantRequest { ttl, id } = request.into_inner();
        self.0.admit(LEASE_COST_BYTES).await?;
        let ttl = LeaseTtl::clamped(ttl, TTL_SECS_MIN).ok_or(EtcdError::LeaseTtlTooLarge)?;
        let lease = self.0.within_timeout(self.grant(id, ttl)).await?;
        let granted = u64::try_from(ttl.secs()).unwrap_or_default();
        self.0.metrics.leases.ttl_secs.observe(Duration::from_secs(granted));
        let header = self.0.newest_header();
        Ok(Response::new(LeaseGrantResponse { header, id: lease.0, ttl: ttl.secs(), error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.0.admit(0).await?;
        let access = self.0.access(request.extensions());
        let lease = LeaseId(request.into_inner().id);
        access.write_lease(lease, &self.0.store.keys)?;
        self.0.within_timeout(self.0.leases.revoke(lease)).await?;
        Ok(Response::new(LeaseRevokeResponse { header: self.0.newest_header() }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let extensions = request.extensions().clone();
        let state = Some((request.into_inner(), self.0.clone(), extensions));
        let answers = stream::unfold(state, |state| async move {
            let (mut requests, backend, extensions) = state?;
            let answer = match requests.message().await {
                // Asked each time: what a client may do can change while its stream lives.
                Ok(Some(request)) => keep_alive(&backend, &backend.access(&extensions), request.id).await,
                Ok(None) => return None,
                Err(status) => Err(status),
            };
            let next = answer.is_ok().then_some((requests, backend, extensions));
            Some((answer, next))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let access = self.0.access(request.extensions());
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let header = self.0.newest_header();
        let lease = LeaseId(id);
        access.read_lease(lease, &self.0.store.keys)?;
        let answer = match self.0.leases.remaining(lease).await? {
            Some(time) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: i64::try_from(time.left.as_secs()).unwrap_or(i64::MAX),
                granted_ttl: time.granted.secs(),
                keys: if keys { self.0.store.keys.attached(lease) } else { Vec::new() },
            },
            // Not an error: this is how clients ask whether a lease exists.
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..LeaseTimeToLiveResponse::default() },
        };
        Ok(Response::new(answer))
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let access = self.0.access(request.extensions());
        access.ask()?;
        let leases = self.0.leases.list().await?;
        for lease in &leases {
            access.read_lease(*lease, &self.0.store.keys)?;
        }
        let leases = leases.into_iter().map(|lease| LeaseStatus { id: lease.0 }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: self.0.newest_header(), leases }))
    }
}
