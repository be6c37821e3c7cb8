//! The upkeep thread: writes hints, prepares the next segment's file, rewrites mostly dead segments, and looks
//! for space after the disk was full. It changes the log only by asking the writer, in small steps.

mod relocate;
mod signals;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::{CommitError, ReadError};
use tracing::{info, warn};

use crate::format::segment_name;
use crate::hint::{self, Gather, Summary};
use crate::log::allocate_spare;
use crate::queue::Request;
use crate::recover::ensure_reserve;
use crate::shared::Shared;
use crate::walk::{WalkError, Walker, read_header};
pub(crate) use signals::{Signals, Work};

/// How often a full disk is looked at for space.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// The upkeep thread's own state.
pub(crate) struct Upkeep {
    shared: Arc<Shared>,
    /// Damage that was found and not yet told to anybody who asked for space: it may be found in the background.
    untold: RefCell<Option<String>>,
}

impl Upkeep {
    pub(crate) fn new(shared: Arc<Shared>) -> Upkeep {
        Upkeep { shared, untold: RefCell::default() }
    }

    /// Works until the engine is closed.
    pub(crate) fn run(self) {
        let clock = self.shared.config.clock.clone();
        // Space is looked for this long after the last time, and not after a silence: whoever is refused and tries
        // again makes the writer ask for something each time, and then there is none.
        let mut look_at = clock.now();
        loop {
            let full = !self.shared.takes_new_data() || self.shared.signals.is_full();
            match self.shared.signals.take(full.then(|| look_at.saturating_sub(clock.now()))) {
                Work::Stop => return,
                Work::Hint(segment) => self.hint(segment),
                Work::Spare => self.spare(),
                Work::Check => self.reclaim_worst(),
                Work::Reclaim(answer) => {
                    let done = self.reclaim_all();
                    self.look_for_space();
                    let _ = answer.send(done);
                }
                Work::Nothing => {
                    self.reclaim_worst();
                    self.look_for_space();
                    look_at = clock.now() + FULL_RETRY;
                }
            }
        }
    }

    /// Writes the hint of a segment that was completed.
    fn hint(&self, segment: u32) {
        let Some(file) = self.shared.state.read().segments.get(&segment).map(|segment| segment.file.clone())
        else {
            return;
        };
        let work = || {
            let header = read_header(file.as_ref())?;
            let mut walker = Walker::new(file.as_ref(), header).map_err(WalkError::Io)?;
            let mut gather = Gather::default();
            while let Some(frame) = walker.next()? {
                gather.add(&frame)?;
            }
            let summary = Summary { header, end: walker.at, last_seq: walker.seq - 1 };
            hint::write(self.shared.fs.as_ref(), &summary, &gather.finish()).map_err(WalkError::Io)
        };
        if let Err(error) = work() {
            self.report(
                segment,
                &error,
                "could not write the hint of a segment; the next start reads all of it",
            );
        }
    }

    /// Logs an error in a segment, and what follows from it.
    fn report(&self, segment: u32, error: &WalkError, consequence: &str) {
        let file = self.shared.fs.path(&segment_name(segment));
        match error {
            WalkError::Io(error) => warn!(file = %file.display(), %error, "{consequence}"),
            WalkError::Bad { offset, reason } => {
                tracing::error!(file = %file.display(), offset, reason, "a data file is damaged: {consequence}");
                let damage = || format!("{} at offset {offset}: {reason}", file.display());
                self.untold.borrow_mut().get_or_insert_with(damage);
                if let Some(segment) = self.shared.state.write().segments.get_mut(&segment) {
                    segment.damaged = true;
                }
            }
        }
    }

    /// Prepares the file of the next segment, so that no commit waits for it.
    fn spare(&self) {
        let mut spare = self.shared.spare.lock();
        // On a disk that was full the first space is the reserve's: beside a spare there may never be enough for it.
        if spare.is_some() || !self.shared.takes_new_data() {
            return;
        }
        let config = &self.shared.config;
        match allocate_spare(self.shared.fs.as_ref(), config.segment_bytes, config.segment_bytes) {
            Ok(ready) => *spare = Some(ready),
            // Whoever needs it meets the same error, and can say it to someone.
            Err(error) => info!(%error, "could not prepare the next segment file"),
        }
    }

    /// After the disk was full: sets the reserve aside again before anything else takes the space.
    fn look_for_space(&self) {
        if self.shared.takes_new_data() {
            self.shared.signals.set_full(false);
            return;
        }
        if ensure_reserve(self.shared.fs.as_ref(), &self.shared.config) {
            info!("there is space on the disk again: new data is accepted");
            self.shared.reserve_ready.store(true, Ordering::Release);
            self.shared.signals.set_full(false);
        }
    }

    /// Asks the writer for something and waits for its answer.
    fn ask(&self, request: impl FnOnce(crate::queue::Answer<()>) -> Request) -> Result<(), CommitError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.shared.queue.push(request(answer)).map_err(|(_, reason)| CommitError::Closed(reason))?;
        match answered.blocking_recv() {
            Ok(answer) => answer,
            Err(_) => Err(CommitError::Closed("the writer ended".to_owned())),
        }
    }
}

/// What a reader is told when the log did not take what was asked of it.
fn read_error(error: &CommitError) -> ReadError {
    match error {
        CommitError::Closed(reason) | CommitError::Undetermined(reason) => ReadError::Closed(reason.clone()),
        other => ReadError::Unavailable(other.to_string()),
    }
}
