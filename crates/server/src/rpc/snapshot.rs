//! A snapshot of the store at one revision, as the file that etcd would stream.
//!
//! The file is laid out from what the index knows, then written from front to back while the client takes it: no file is
//! needed here, and a client that reads slowly holds some MiB. The versions that are still to be sent are kept from
//! being reclaimed meanwhile, so who takes nothing for a while is cut off.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::snapshot::{Catalogue, Facts, Member, STORAGE_VERSION, Writer};
use base::TaskKind;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use model::{KeyRange, LeaseId, ReadRevision, Revision};
use partition::{ReadFailure, View};
use proto::etcdserverpb::SnapshotResponse;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;
use tracing::{info, warn};

use crate::backend::Backend;
use crate::failure;

/// So many snapshots may be under way: each lists all keys in memory.
pub(crate) const SNAPSHOTS_MAX: usize = 2;
/// A client that takes nothing for so long is cut off: nothing that it is still to be sent can be reclaimed.
const SNAPSHOT_STALL_TIME_MAX: Duration = Duration::from_secs(60);
/// One look at the index takes so many keys.
const KEYS_PER_LOOK: usize = 2048;
/// One read takes at most so many versions.
const VERSIONS_PER_READ_MAX: usize = 1024;
/// And no further one when they have so many bytes.
const BYTES_PER_READ_MAX: usize = 4 << 20;
/// A piece of the file has so many bytes, as in etcd.
const PIECE_BYTES: usize = 32 << 10;
/// A compaction, or a lease that comes and goes, can get in the way of the beginning of a snapshot, but not this often.
const TRIES_MAX: usize = 8;

type Piece = Result<SnapshotResponse, Status>;

/// What the writing task tells the stream.
enum Told {
    Piece(Piece),
    /// There is no more: a stream that ends without it was broken off.
    End,
}

/// A snapshot of the newest revision, in pieces. Only the server that leads knows every lease, and only what it holds is
/// not reclaimed.
pub(crate) async fn pieces(backend: Arc<Backend>) -> Result<BoxStream<'static, Piece>, Status> {
    // Not "unavailable": etcd's client would ask the same server again and again.
    backend.store.system.confirm().await.map_err(|error| {
        Status::failed_precondition(format!(
            "a snapshot is taken by the server that leads, which `etcdctl endpoint status --cluster` names: {error}"
        ))
    })?;
    let permit = backend.snapshots.clone().try_acquire_owned().map_err(|_| {
        Status::resource_exhausted(format!(
            "{SNAPSHOTS_MAX} snapshots are being taken already, which is the most: try again when one is done"
        ))
    })?;
    let Begun { view, facts, catalogue } = begin(&backend).await?;
    let revision = facts.revision.get();
    // Sorting all keys takes a while: not on a thread that serves.
    let writer = tokio::task::spawn_blocking(move || Writer::new(&facts, catalogue)).await;
    let writer = writer.map_err(|error| Status::internal(error.to_string()))?.map_err(refused)?;
    info!(revision, bytes = writer.file_len(), "sending a snapshot");
    let (pieces, told) = mpsc::channel(1);
    let sending = Sending { backend: backend.clone(), view, writer, sent: 0, pieces, _permit: permit };
    backend.supervisor.spawn("snapshot", TaskKind::Request, async move {
        sending.run().await;
        Ok::<(), Infallible>(())
    });
    let next = |mut told: Option<mpsc::Receiver<Told>>| async move {
        let piece = match told.as_mut()?.recv().await {
            Some(Told::Piece(piece)) => piece,
            Some(Told::End) => return None,
            None => Err(Status::aborted(format!(
                "the snapshot was broken off: the server stops, or nothing was read for {} s",
                SNAPSHOT_STALL_TIME_MAX.as_secs()
            ))),
        };
        let rest = if piece.is_ok() { told } else { None };
        Some((piece, rest))
    };
    Ok(stream::unfold(Some(told), next).boxed())
}

fn refused(error: ::snapshot::WriteError) -> Status {
    failure::read(ReadFailure::Corrupt(error.to_string()))
}

/// What a snapshot holds, and the hold on it.
struct Begun {
    view: View,
    facts: Facts,
    catalogue: Catalogue,
}

async fn begin(backend: &Backend) -> Result<Begun, Status> {
    let mut last = ReadFailure::Unavailable("leases come and go too fast for a snapshot".to_owned());
    for _ in 0..TRIES_MAX {
        match try_begin(backend).await {
            Ok(Some(begun)) => return Ok(begun),
            Ok(None) => {}
            // The revision was compacted before what it deleted was read: there is a newer one.
            Err(failure @ ReadFailure::Compacted(_)) => last = failure,
            Err(failure) => return Err(failure::read(failure)),
        }
    }
    Err(failure::read(last))
}

/// `None` when a lease that a key hangs on cannot be told: it was granted and revoked while this looked.
async fn try_begin(backend: &Backend) -> Result<Option<Begun>, ReadFailure> {
    let store = &backend.store;
    // Leases have no revision. One that a key hangs on was there at the view's: it is in one of these two lists, unless
    // it came after the first and went before the second.
    let mut leases = store.system.leases();
    let view = store.keys.view(ReadRevision::Latest).await?;
    leases.extend(store.system.leases());
    leases.sort_unstable_by_key(|(lease, _)| *lease);
    leases.dedup_by_key(|(lease, _)| *lease);
    let known: HashSet<LeaseId> = leases.iter().map(|(lease, _)| *lease).collect();

    let mut catalogue = deleted_at(backend, view.revision()).await?;
    let mut rest = Some(KeyRange::all());
    while let Some(range) = rest {
        let page = view.facts(&range, KEYS_PER_LOOK).await?;
        for (key, meta) in &page.keys {
            if !meta.lease.is_none() && !known.contains(&meta.lease) {
                return Ok(None);
            }
            catalogue.add(key, meta);
        }
        rest = page.rest;
        tokio::task::yield_now().await;
    }
    let facts = Facts {
        revision: view.revision(),
        leases: leases.into_iter().map(|(lease, record)| (lease, record.ttl_secs)).collect(),
        member: Member {
            id: backend.config.member_id,
            name: backend.config.name.clone(),
            client_urls: backend.config.advertise_client_urls.clone(),
        },
        term: backend.store.term().max(1),
    };
    Ok(Some(Begun { view, facts, catalogue }))
}

/// What `revision`, the newest, deleted: who watches from it on is told of that.
async fn deleted_at(backend: &Backend, revision: Revision) -> Result<Catalogue, ReadFailure> {
    let mut catalogue = Catalogue::default();
    let page = backend.store.keys.events(revision, &KeyRange::all()).await?;
    // The changes of one revision are in one page.
    let of_revision = page.events.iter().filter(|event| event.change.revision == revision);
    for event in of_revision.filter(|event| event.is_delete()) {
        catalogue.add_deleted(&event.change.key, revision);
    }
    Ok(catalogue)
}

/// A snapshot on its way to a client.
struct Sending {
    backend: Arc<Backend>,
    view: View,
    writer: Writer,
    sent: u64,
    pieces: mpsc::Sender<Told>,
    _permit: OwnedSemaphorePermit,
}

/// Nobody takes the pieces any more.
struct Gone;

impl Sending {
    async fn run(mut self) {
        let done = self.send_all().await;
        match done {
            Ok(Ok(())) => info!(bytes = self.sent, "sent a snapshot"),
            Ok(Err(status)) => {
                let _ = self.tell(Told::Piece(Err(status))).await;
            }
            Err(Gone) => warn!(sent_bytes = self.sent, "a snapshot was not taken to its end"),
        }
    }

    async fn send_all(&mut self) -> Result<Result<(), Status>, Gone> {
        loop {
            let wanted = self.writer.wanted(VERSIONS_PER_READ_MAX, BYTES_PER_READ_MAX);
            let is_end = wanted.is_empty();
            let given = match is_end {
                true => self.writer.finish().map_err(refused),
                false => self.give(&wanted).await,
            };
            if let Err(status) = given {
                return Ok(Err(status));
            }
            while let Some(blob) = self.writer.take(PIECE_BYTES) {
                self.sent += blob.len() as u64;
                let remaining_bytes = self.writer.file_len().saturating_sub(self.sent);
                self.tell(Told::Piece(Ok(response(remaining_bytes, blob)))).await?;
            }
            if is_end {
                self.tell(Told::Piece(Ok(response(0, self.writer.checksum())))).await?;
                self.tell(Told::End).await?;
                return Ok(Ok(()));
            }
        }
    }

    async fn give(&mut self, wanted: &[(Bytes, Revision)]) -> Result<(), Status> {
        let versions = self.view.versions(wanted).await.map_err(failure::read)?;
        self.writer.give(versions).map_err(refused)
    }

    async fn tell(&self, told: Told) -> Result<(), Gone> {
        let clock = &self.backend.clock;
        tokio::select! {
            // A piece that can be handed over is, and then it was not too late.
            biased;
            sent = self.pieces.send(told) => sent.map_err(|_| Gone),
            () = self.backend.stopping.begun() => Err(Gone),
            () = clock.sleep_until(clock.now() + SNAPSHOT_STALL_TIME_MAX) => Err(Gone),
        }
    }
}

fn response(remaining_bytes: u64, blob: Bytes) -> SnapshotResponse {
    SnapshotResponse { remaining_bytes, blob, version: STORAGE_VERSION.to_owned(), header: None }
}
