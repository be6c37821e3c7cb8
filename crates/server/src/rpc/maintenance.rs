use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use layout::system::Alarm;
use model::{ReadRevision, Revision};
use partition::ReadFailure;
use prometheus_client::metrics::gauge::Gauge;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use proto::service::maintenance_server::Maintenance;
use tonic::{Request, Response, Status};
use tracing::info;

use super::{hash, snapshot};
use crate::backend::Backend;
use crate::error::EtcdError;
use crate::failure;
use crate::peer::heartbeat::ask_for_alarms;
use crate::version;

/// The maintenance service.
pub(crate) struct MaintenanceService(pub(crate) Arc<Backend>);

/// What the API calls an alarm.
pub(crate) fn alarm_name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}

fn engine_failure(error: engine::ReadError) -> Status {
    failure::read(ReadFailure::from(error))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl MaintenanceService {
    fn status_now(&self) -> StatusResponse {
        let backend = &self.0;
        let revision = backend.store.keys.revision();
        let usage = backend.engine.usage();
        // There is no Raft log. What people compare by its index is how far members have come: the revision.
        let index = revision.get().unsigned_abs();
        let member_id = backend.config.member_id;
        let leader = backend.leader_id();
        let alarms = backend.store.system.alarms();
        let alarms = alarms.into_iter().map(|it| format!("memberID:{member_id} alarm:{}", alarm_name(it)));
        let errors = leader.is_none().then(|| EtcdError::NoLeader.to_string()).into_iter().chain(alarms);
        StatusResponse {
            header: backend.header(revision),
            version: version::SERVER.to_owned(),
            // Never nothing, as in etcd: etcdctl divides by it. On TiKV a server that has written nothing knows of no bytes.
            db_size: signed(usage.total_bytes.max(1)),
            db_size_in_use: signed(usage.live_bytes),
            // Zero is nobody.
            leader: leader.unwrap_or(0),
            raft_index: index,
            raft_applied_index: index,
            raft_term: backend.store.term(),
            errors: errors.collect(),
            is_learner: false,
            storage_version: version::STORAGE.to_owned(),
            db_size_quota: signed(backend.config.quota_backend_bytes),
            downgrade_info: Some(DowngradeInfo { enabled: false, target_version: String::new() }),
        }
    }

    async fn carry_out(&self, request: AlarmRequest) -> Result<Vec<AlarmMember>, Status> {
        let system = &self.0.store.system;
        let own = self.0.config.member_id;
        let member = |alarm: Alarm| AlarmMember { member_id: own, alarm: alarm as i32 };
        let named = u8::try_from(request.alarm).ok().and_then(Alarm::from_number);
        let action = AlarmAction::try_from(request.action);
        match (action.map_err(|_| Status::invalid_argument("unknown alarm action"))?, named) {
            (AlarmAction::Get, named) => {
                let wanted = |alarm: &Alarm| request.alarm == 0 || named == Some(*alarm);
                Ok(system.alarms().into_iter().filter(wanted).map(member).collect())
            }
            (AlarmAction::Activate, Some(alarm)) => {
                system.raise(alarm).await.map_err(failure::system)?;
                Ok(vec![member(alarm)])
            }
            // An alarm belongs to the member that raised it; here there is this one.
            (AlarmAction::Deactivate, Some(alarm))
                if system.is_raised(alarm) && [0, own].contains(&request.member_id) =>
            {
                system.clear(alarm).await.map_err(failure::system)?;
                Ok(vec![member(alarm)])
            }
            (AlarmAction::Activate | AlarmAction::Deactivate, _) => Ok(Vec::new()),
        }
    }
}

/// Counts as one of those under way until it is dropped.
struct Counting<'a>(&'a Gauge);

impl Counting<'_> {
    fn begin(gauge: &Gauge) -> Counting<'_> {
        gauge.inc();
        Counting(gauge)
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let access = self.0.access(request.extensions());
        match request.get_ref().action() {
            AlarmAction::Get => access.ask()?,
            AlarmAction::Activate | AlarmAction::Deactivate => access.administer()?,
        }
        let alarms = self.0.within_timeout(self.carry_out(request.into_inner())).await?;
        Ok(Response::new(AlarmResponse { header: self.0.newest_header(), alarms }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.0.access(request.extensions()).ask()?;
        // Clients decide by this answer what they may use: a store that cannot be read gives none.
        self.0.check_engine().await.map_err(engine_failure)?;
        if let Some(peers) = &self.0.peers {
            ask_for_alarms(peers, &self.0.store.system, self.0.clock.as_ref()).await;
        }
        Ok(Response::new(self.status_now()))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        self.0.access(request.extensions()).administer()?;
        info!("giving space back");
        let metrics = &self.0.metrics.maintenance;
        let under_way = Counting::begin(&metrics.defragmenting);
        let begun = self.0.clock.now();
        self.0.engine.reclaim().await.map_err(engine_failure)?;
        metrics.defragment_secs.observe(self.0.clock.now().saturating_sub(begun));
        drop(under_way);
        // etcd leaves the header out.
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        self.0.access(request.extensions()).administer()?;
        let begun = self.0.clock.now();
        let hash = hash::of_everything(&self.0.store).await.map_err(failure::read)?;
        self.0.metrics.maintenance.hash_secs.observe(self.0.clock.now().saturating_sub(begun));
        Ok(Response::new(HashResponse { header: self.0.header(hash.newest), hash: hash.hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        self.0.access(request.extensions()).administer()?;
        let at = match request.into_inner().revision {
            ..=0 => ReadRevision::Latest,
            revision => ReadRevision::At(Revision::new(revision)),
        };
        let begun = self.0.clock.now();
        let hash = hash::of_keys(&self.0.store, at).await.map_err(failure::read)?;
        self.0.metrics.maintenance.hash_keys_secs.observe(self.0.clock.now().saturating_sub(begun));
        Ok(Response::new(HashKvResponse {
            header: self.0.header(hash.newest),
            hash: hash.hash,
            // etcd says -1 as long as nothing was compacted.
            compact_revision: self.0.store.keys.compacted().map_or(-1, Revision::get),
            hash_revision: hash.revision.get(),
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.0.access(request.extensions()).administer()?;
        Ok(Response::new(snapshot::pieces(self.0.clone()).await?))
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.0.access(request.extensions()).administer()?;
        Err(Status::unimplemented("leadership cannot be moved: this member is the only one"))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        self.0.access(request.extensions()).administer()?;
        Err(Status::unimplemented(
            "a downgrade needs no preparation: a version refuses data that it cannot read",
        ))
    }
}
