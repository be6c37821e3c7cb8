use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use model::{Op, RangeOp, ReadRevision, Revision, Txn};
use partition::{RangeOutcome, ReadFailure, TxnOutcome, UserKeys};
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use proto::service::kv_server::Kv;
use proto::spliced::{DeleteRangeResponse, PutResponse, RangeResponse, RangeStreamResponse, TxnResponse};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::answer::sendable;
use super::range_stream;
use crate::admission::cost_bytes;
use crate::backend::Backend;
use crate::clients::Caller;
use crate::convert::{from_proto, to_proto};
use crate::error::EtcdError;
use crate::failure;
use crate::permissions::Access;

/// How often the newest state is read when it is compacted under the read: each time history has been given up at a
/// revision that was the newest a moment ago.
pub(super) const READS_MAX: usize = 5;
/// A read of more keys counts as one without a limit. Kubernetes reads pages of 500, and its API server of 10 000.
const PAGE_KEYS_MAX: usize = 1000;

/// The KV service.
pub(crate) struct KvService(pub(crate) Arc<Backend>);

impl KvService {
    /// Runs a transaction that the client may run and that the server has room for.
    async fn run(&self, access: &Access, txn: Txn) -> Result<TxnOutcome, Status> {
        let backend = &self.0;
        access.run(&txn, &backend.store.keys)?;
        if txn.can_mutate() {
            backend.admit(cost_bytes(&txn)).await?;
        }
        let _pending = backend.metrics.proposal_pending();
        let outcome =
            backend.within_timeout(async { backend.store.keys.txn(txn).await.map_err(failure::txn) }).await;
        backend.metrics.proposal_ended(&outcome);
        let outcome = outcome?;
        backend.metrics.mvcc.observe(&outcome);
        Ok(outcome)
    }

    async fn compact_to(&self, request: CompactionRequest) -> Result<(), Status> {
        let backend = &self.0;
        backend.admit(0).await?;
        let physical = request.physical;
        let revision = from_proto::compaction(request)?;
        let compaction = async { backend.store.system.compact(revision).await.map_err(failure::system) };
        backend.within_timeout(compaction).await?;
        backend.metrics.compacted(backend.clock.as_ref());
        if physical {
            let reclaimed = backend.store.keys.reclaimed(revision);
            backend.stopping.or(reclaimed).await.map_err(|_| EtcdError::Stopped)?;
        }
        Ok(())
    }
}

/// Reads, and names the newest revision. The newest state is read again where it is compacted meanwhile: its owner does
/// not know of readers elsewhere.
async fn read(
    keys: &UserKeys,
    op: &RangeOp,
    serializable: bool,
) -> Result<(Revision, RangeOutcome), ReadFailure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let read = async {
            let confirm = base::step("confirm");
            let view = match serializable {
                true => keys.serializable_view(op.revision).instrument(confirm).await?,
                false => keys.view(op.revision).instrument(confirm).await?,
            };
            Ok((view.newest(), view.range(op).instrument(base::step("read")).await?))
        };
        match read.await {
            Err(ReadFailure::Compacted(_)) if op.revision == ReadRevision::Latest && tries < READS_MAX => {}
            read => return read,
        }
    }
}

/// A read that may find more than a page of a list.
fn is_unlimited(op: &RangeOp) -> bool {
    !op.range.is_single() && !op.count_only && !(1..=PAGE_KEYS_MAX).contains(&op.limit)
}

#[async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let access = self.0.access(request.extensions());
        let request = request.into_inner();
        let serializable = request.serializable;
        let op = from_proto::range(request)?;
        access.read(&op.range)?;
        let _permit = match &caller {
            Some(caller) if is_unlimited(&op) => caller.client().unlimited_reads.acquire().await.ok(),
            _ => None,
        };
        let backend = &self.0;
        backend.metrics.mvcc.ranges.inc();
        let (newest, outcome) = read(&backend.store.keys, &op, serializable).await.map_err(failure::read)?;
        sendable(to_proto::range(backend.identity().header(newest), outcome))
    }

    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let access = self.0.access(request.extensions());
        let op = from_proto::range_stream(request.into_inner())?;
        access.read(&op.range)?;
        self.0.metrics.mvcc.ranges.inc();
        Ok(Response::new(range_stream::pieces(self.0.clone(), op)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let access = self.0.access(request.extensions());
        let request = request.into_inner();
        let too_large = self.0.check_size(&request);
        let put = from_proto::put(request)?;
        too_large?;
        let outcome = self.run(&access, Txn::only(Op::Put(put))).await?;
        Ok(Response::new(to_proto::put(&self.0.identity(), outcome)))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let access = self.0.access(request.extensions());
        let request = request.into_inner();
        let too_large = self.0.check_size(&request);
        let delete = from_proto::delete(request)?;
        too_large?;
        let outcome = self.run(&access, Txn::only(Op::Delete(delete))).await?;
        sendable(to_proto::delete(&self.0.identity(), outcome))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let access = self.0.access(request.extensions());
        let request = request.into_inner();
        let too_large = self.0.check_size(&request);
        let txn = from_proto::txn(request, self.0.config.max_txn_ops)?;
        if txn.can_mutate() {
            too_large?;
        }
        let outcome = self.run(&access, txn).await?;
        sendable(to_proto::txn(&self.0.identity(), outcome))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        self.0.access(request.extensions()).administer()?;
        self.compact_to(request.into_inner()).await?;
        Ok(Response::new(CompactionResponse { header: self.0.newest_header() }))
    }
}
