//! What a call costs that does nothing: gRPC decodes the request, and it is answered at once. No store can be cheaper
//! on the same library.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use prost::Message;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader,
    TxnRequest,
};
use proto::mvccpb::KeyValue;
use proto::service::kv_server::{Kv, KvServer};
use proto::spliced::{
    DeleteRangeResponse, PutResponse, RangeResponse, RangeStreamResponse, Response as Answer, ResponseOp,
    TxnResponse,
};
use tonic::{Request, Response, Status};

use crate::connection::Error;
use crate::requests;

/// Where and how the floor listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Threads of the runtime; 0: one for each core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Bytes of the value that a read is answered with
    #[arg(long, default_value_t = 512)]
    value_bytes: usize,
}

/// Serves until it is killed.
pub(crate) fn serve(options: &Options) -> Result<(), Error> {
    let mut runtime = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if options.threads > 1 {
        runtime.worker_threads(options.threads);
    }
    let floor = Floor { revision: AtomicI64::new(1), value: requests::value(options.value_bytes) };
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(KvServer::new(floor));
    runtime.enable_all().build()?.block_on(server.serve(options.listen))?;
    Ok(())
}

struct Floor {
    revision: AtomicI64,
    value: Bytes,
}

impl Floor {
    fn header(&self, writes: bool) -> Option<ResponseHeader> {
        let revision = match writes {
            true => self.revision.fetch_add(1, Ordering::Relaxed) + 1,
            false => self.revision.load(Ordering::Relaxed),
        };
        Some(ResponseHeader { cluster_id: 1, member_id: 1, revision, raft_term: 1 })
    }
}

#[async_trait]
impl Kv for Floor {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        if !request.range_end.is_empty() {
            return Err(Status::unimplemented("the floor has single keys only"));
        }
        let kv = KeyValue {
            key: request.key,
            value: self.value.clone(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        let kvs = vec![kv.encode_to_vec().into()];
        Ok(Response::new(RangeResponse { header: self.header(false), kvs, more: false, count: 1 }))
    }

    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("the floor has single keys only"))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Ok(Response::new(PutResponse { header: self.header(true), ..PutResponse::default() }))
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Ok(Response::new(DeleteRangeResponse { header: self.header(true), deleted: 1, prev_kvs: Vec::new() }))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let header = self.header(true);
        let done = request.into_inner().success.into_iter().map(|op| ResponseOp {
            response: Some(match op.request {
                Some(Op::RequestDeleteRange(_)) => Answer::ResponseDeleteRange(DeleteRangeResponse {
                    header,
                    deleted: 1,
                    prev_kvs: Vec::new(),
                }),
                _ => Answer::ResponsePut(PutResponse { header, ..PutResponse::default() }),
            }),
        });
        Ok(Response::new(TxnResponse { header, succeeded: true, responses: done.collect() }))
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented("the floor has no history"))
    }
}
