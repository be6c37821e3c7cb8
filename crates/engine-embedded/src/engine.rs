use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Batch, CommitError, Engine, KeySpan, ReadError, Snapshot, Usage};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::error::OpenError;
use crate::fs::{Fs, RealFs};
use crate::log::{Log, LogParts};
use crate::queue::{Commit, Request, batch_bytes};
use crate::recover::{lock, recover};
use crate::shared::{Shared, Stats};
use crate::snapshot::EmbeddedSnapshot;
use crate::state::State;
use crate::upkeep::Upkeep;
use crate::writer::Writer;

/// The split points that are given at most, whatever is asked for: each is worth a scan of its own.
const PIECES_MAX: usize = 1024;

/// An engine on one directory of this machine. Dropping it closes it; [`Engine::close`] does so without blocking
/// the thread.
pub struct EmbeddedEngine {
    shared: Arc<Shared>,
    /// The writer and the upkeep thread, and the lock on the directory, until the engine is closed.
    running: Mutex<Option<Running>>,
}

struct Running {
    writer: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    lock: Box<dyn Send + Sync>,
    shared: Arc<Shared>,
}

impl EmbeddedEngine {
    /// Opens the directory, creating and recovering it as needed. Blocks: it reads the index from disk.
    pub fn open(config: Config) -> Result<EmbeddedEngine, OpenError> {
        config.check()?;
        let fs = RealFs::new(&config.dir).map_err(|source| OpenError::Io {
            operation: "create",
            path: config.dir.clone(),
            source,
        })?;
        EmbeddedEngine::open_on(config, Arc::new(fs))
    }

    /// Opens the directory that `fs` shows.
    pub(crate) fn open_on(config: Config, fs: Arc<dyn Fs>) -> Result<EmbeddedEngine, OpenError> {
        let lock = lock(fs.as_ref(), &config)?;
        let recovered = recover(fs.as_ref(), &config)?;
        let log = Log::new(
            LogParts {
                fs: fs.clone(),
                clock: config.clock.clone(),
                random: config.random.clone(),
                segment_bytes: config.segment_bytes,
            },
            recovered.active,
            recovered.next_seq,
        );
        let state = State::new(recovered.index, recovered.segments, recovered.next_seq - 1);
        let shared = Arc::new(Shared::new(config, fs, state, recovered.reserve_ready));
        shared.signals.check();
        let thread =
            |name: &str, work: Box<dyn FnOnce() + Send>| {
                std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|source| {
                    OpenError::Io { operation: "start a thread for", path: shared.config.dir.clone(), source }
                })
            };
        let upkeep = Upkeep::new(shared.clone());
        let upkeep = thread("engine-upkeep", Box::new(move || upkeep.run()))?;
        let writer = Writer::new(shared.clone(), log);
        let writer = match thread("engine-writer", Box::new(move || writer.run())) {
            Ok(writer) => writer,
            Err(error) => {
                shared.signals.stop();
                return Err(error);
            }
        };
        let running = Mutex::new(Some(Running { writer, upkeep, lock, shared: shared.clone() }));
        Ok(EmbeddedEngine { shared, running })
    }

    /// What the engine did since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// Bytes of memory that the index takes. Not cheap: it walks the index.
    pub fn index_memory(&self) -> u64 {
        self.shared.state.read().index.memory() as u64
    }

    /// Begins to close, and gives what there is to wait for.
    fn stop(&self, reason: &str) -> Option<Running> {
        let running = self.running.lock().take();
        self.shared.queue.close(reason);
        running
    }
}

impl Running {
    /// Waits for the threads; the directory is free afterwards.
    fn join(self) {
        // A thread that panicked has said so already.
        let _ = self.writer.join();
        let _ = self.upkeep.join();
        // Otherwise the next start removes it; until then it would take space for nothing.
        if let Some(spare) = self.shared.spare.lock().take() {
            let _ = self.shared.fs.remove(&spare.name);
        }
        drop(self.lock);
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        if let Some(running) = self.stop("the engine was dropped") {
            running.join();
        }
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        Ok(Box::new(EmbeddedSnapshot::open(&self.shared)?))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let closed = || {
            let reason = self.shared.queue.closed().unwrap_or_else(|| "the engine was closed".to_owned());
            CommitError::Closed(reason)
        };
        let Some(room) = self.shared.queue.room(batch_bytes(&batch)).await else { return Err(closed()) };
        let (answer, answered) = oneshot::channel();
        let commit = Commit { batch, answer, _room: Some(room) };
        if self.shared.queue.push(Request::Commit(commit)).is_err() {
            return Err(closed());
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(CommitError::Undetermined("the writer ended without an answer".to_owned())),
        }
    }

    async fn split_points(&self, span: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        let state = self.shared.state.read();
        if let Some(reason) = &state.closed {
            return Err(ReadError::Closed(reason.clone()));
        }
        let bounds = state.index.leaf_bounds(&span.start, span.end.as_deref());
        let pieces = pieces.clamp(1, PIECES_MAX).min(bounds.len() + 1);
        Ok((1..pieces)
            .map(|piece| Bytes::copy_from_slice(bounds[piece * (bounds.len() + 1) / pieces - 1]))
            .collect())
    }

    fn usage(&self) -> Usage {
        let (total_bytes, live_bytes) = self.shared.state.read().usage();
        Usage { total_bytes, live_bytes }
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        match self.shared.signals.reclaim().await {
            Ok(done) => done,
            Err(_) => {
                let reason = self.shared.state.read().closed.clone();
                Err(ReadError::Closed(reason.unwrap_or_else(|| "the engine was closed".to_owned())))
            }
        }
    }

    async fn close(&self) {
        let Some(running) = self.stop("it was closed") else { return };
        // The threads finish what came before; joining them here would block others on this runtime's thread.
        let _ = tokio::task::spawn_blocking(move || running.join()).await;
    }
}
