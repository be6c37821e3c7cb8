use std::sync::Arc;

use engine::{ReadError, Snapshot, Usage};

use crate::config::Config;
use crate::error::OpenError;
use crate::fs::{FrozenFs, Fs};
use crate::recover::{is_ours, lock, recover};
use crate::shared::Shared;
use crate::snapshot::EmbeddedSnapshot;
use crate::state::State;

/// The batches in a directory, to be looked at: nothing in it is changed, not even what recovery would tidy up.
///
/// It shows what [`EmbeddedEngine::open`](crate::EmbeddedEngine::open) would: all complete batches, without the remains
/// of a write that was interrupted. As long as it lives, no engine can open the directory, but others may look too.
pub struct ReadOnlyEngine {
    shared: Arc<Shared>,
    _lock: Box<dyn Send + Sync>,
}

impl ReadOnlyEngine {
    /// Reads the directory. Blocks: it reads the index from disk. Only the directory counts of the settings.
    pub fn open(config: Config) -> Result<ReadOnlyEngine, OpenError> {
        config.check()?;
        let fs: Arc<dyn Fs> = Arc::new(FrozenFs::new(&config.dir));
        if !is_ours(fs.as_ref()) {
            return Err(OpenError::Absent { dir: config.dir });
        }
        let lock = lock(fs.as_ref(), &config)?;
        let recovered = recover(fs.as_ref(), &config)?;
        let state = State::new(recovered.index, recovered.segments, recovered.next_seq - 1);
        let shared = Shared::new(config, fs, state, false);
        shared.queue.close("the directory was opened to be read only");
        Ok(ReadOnlyEngine { shared: Arc::new(shared), _lock: lock })
    }

    /// What the directory occupies, and how much of that a view shows.
    pub fn usage(&self) -> Usage {
        let (total_bytes, live_bytes) = self.shared.state.read().usage();
        Usage { total_bytes, live_bytes }
    }

    /// A view of everything in the directory.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        Ok(Box::new(EmbeddedSnapshot::open(&self.shared)?))
    }
}
