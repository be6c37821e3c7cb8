//! A range answered in pieces, each read when the client has taken the one before.
//!
//! All pieces show one revision. It is not held between them, so that a client that takes its time keeps nothing
//! from being reclaimed: when history is given up beyond the revision meanwhile, the stream ends with the error
//! that says so, as etcd's does, and never with keys missing.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use model::{KeyRange, RangeOp, ReadRevision};
use partition::{ChunkLimits, ReadFailure};
use proto::spliced::{RangeResponse, RangeStreamResponse};
use tonic::Status;

use super::kv::READS_MAX;
use crate::backend::Backend;
use crate::failure;

/// The first piece has at most so many keys, so that the client has something early, as in etcd.
const FIRST_PIECE_KEYS: usize = 10;

type Piece = Result<RangeStreamResponse, Status>;

/// The answer to `op`, in pieces.
pub(crate) fn pieces(backend: Arc<Backend>, op: RangeOp) -> BoxStream<'static, Piece> {
    let keys_left = if op.limit == 0 { usize::MAX } else { op.limit };
    let pieces = Pieces {
        backend,
        keys_only: op.keys_only,
        count_only: op.count_only,
        revision: op.revision,
        newest: None,
        rest: Some(op.range),
        keys_left,
        keys_sent: 0,
        keys_per_piece: FIRST_PIECE_KEYS,
    };
    let next = |mut pieces: Pieces| async move {
        let piece = pieces.next().await?;
        if piece.is_err() {
            pieces.rest = None;
        }
        Some((piece, pieces))
    };
    stream::unfold(pieces, next).boxed()
}

/// How far a stream has come.
struct Pieces {
    backend: Arc<Backend>,
    keys_only: bool,
    count_only: bool,
    /// The revision that the pieces show; known from the first one on.
    revision: ReadRevision,
    /// The newest revision when the stream began: what its header says.
    newest: Option<model::Revision>,
    /// What is left of the range; none when the last piece was made.
    rest: Option<KeyRange>,
    keys_left: usize,
    keys_sent: usize,
    keys_per_piece: usize,
}

impl Pieces {
    async fn next(&mut self) -> Option<Piece> {
        let rest = self.rest.take()?;
        let is_newest = self.revision == ReadRevision::Latest;
        let mut piece = self.read(rest.clone()).await;
        for _ in 1..READS_MAX {
            // The newest state may be compacted before the first piece is read: its owner does not know of readers
            // elsewhere.
            if !(is_newest && matches!(piece, Err(ReadFailure::Compacted(_)))) {
                break;
            }
            self.revision = ReadRevision::Latest;
            self.newest = None;
            piece = self.read(rest.clone()).await;
        }
        Some(piece.map(|piece| RangeStreamResponse { range_response: Some(piece) }).map_err(failure::read))
    }

    async fn read(&mut self, range: KeyRange) -> Result<RangeResponse, ReadFailure> {
        let view = self.backend.store.keys.view(self.revision).await?;
        self.revision = ReadRevision::At(view.revision());
        let newest = *self.newest.get_or_insert(view.newest());
        if self.count_only {
            return Ok(self.last(newest, Vec::new(), view.count(&range).await?, false));
        }
        let limits = ChunkLimits {
            keys_max: self.keys_per_piece.min(self.keys_left),
            bytes_max: self.backend.config.max_request_bytes,
            keys_only: self.keys_only,
        };
        let chunk = view.chunk(&range, limits).await?;
        self.keys_sent += chunk.versions.len();
        self.keys_left -= chunk.versions.len();
        self.adapt(chunk.versions.iter().map(|version| version.len()).sum());
        match chunk.rest {
            None => Ok(self.last(newest, chunk.versions, 0, false)),
            Some(rest) if self.keys_left == 0 => {
                let cut = view.count(&rest).await?;
                Ok(self.last(newest, chunk.versions, cut, cut > 0))
            }
            rest => {
                self.rest = rest;
                Ok(RangeResponse { kvs: chunk.versions, ..RangeResponse::default() })
            }
        }
    }

    /// The piece that ends the stream: it alone says who answers, and how many keys the range has.
    fn last(
        &self,
        newest: model::Revision,
        kvs: Vec<bytes::Bytes>,
        not_sent: usize,
        more: bool,
    ) -> RangeResponse {
        let count = i64::try_from(self.keys_sent + not_sent).unwrap_or(i64::MAX);
        RangeResponse { header: self.backend.header(newest), kvs, more, count }
    }

    /// Aims the next piece at the size of the largest request: twice as many keys while pieces are much smaller.
    /// No piece is much larger, because it takes no further key beyond that size.
    fn adapt(&mut self, bytes: usize) {
        if bytes < self.backend.config.max_request_bytes / 2 {
            self.keys_per_piece = self.keys_per_piece.saturating_mul(2);
        }
    }
}
