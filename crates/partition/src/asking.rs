//! How an owner that does not lead asks the one that does, and tells it what became of its batches.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use base::{Clock, PlantedBug, Supervisor, TaskKind, is_planted};
use layout::log::Slot;
use model::{Event, LeaseId, Revision};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::assignment::{FromOwner, Grant, Settled, Tenure};
use crate::error::TxnFailure;
use crate::numbering::Numbers;
use crate::sequencer::Done;
use crate::state::Shared;

/// A connection with the leader. Nothing of it may be awaited once it has ended: whoever waits is told.
pub(crate) struct Line {
    /// No bound of its own: a partition has one batch on its way, so that each tenure has at most one question and two
    /// reports in here.
    to_leader: mpsc::UnboundedSender<FromOwner>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    ended: bool,
    asked: u64,
    grants: HashMap<u64, oneshot::Sender<Result<Grant, String>>>,
    settled: HashMap<u64, oneshot::Sender<()>>,
}

impl Line {
    pub(crate) fn new(to_leader: mpsc::UnboundedSender<FromOwner>) -> Line {
        Line { to_leader, waiting: Mutex::default() }
    }

    /// Says something to the leader, if it is still there.
    pub(crate) fn say(&self, message: FromOwner) {
        let _ = self.to_leader.send(message);
    }

    /// The leader has answered.
    pub(crate) fn granted(&self, request: u64, granted: Result<Grant, String>) {
        let waiting = self.waiting.lock().grants.remove(&request);
        // Who does not wait any more does not need it.
        let _ = waiting.map(|waiting| waiting.send(granted));
    }

    /// The leader knows what it was told.
    pub(crate) fn settled(&self, request: u64) {
        let waiting = self.waiting.lock().settled.remove(&request);
        let _ = waiting.map(|waiting| waiting.send(()));
    }

    /// No answer comes any more.
    pub(crate) fn end(&self) {
        let mut waiting = self.waiting.lock();
        *waiting = Waiting { ended: true, asked: waiting.asked, ..Waiting::default() };
    }

    /// The number of a new question, and where its answer will come; `None` when the line has ended.
    fn ask<T>(
        &self,
        of: impl FnOnce(&mut Waiting) -> &mut HashMap<u64, oneshot::Sender<T>>,
    ) -> Option<(u64, oneshot::Receiver<T>)> {
        let mut waiting = self.waiting.lock();
        if waiting.ended {
            return None;
        }
        waiting.asked += 1;
        let request = waiting.asked;
        let (answer, answered) = oneshot::channel();
        of(&mut waiting).insert(request, answer);
        Some((request, answered))
    }
}

/// The owner of one partition, as it speaks to the leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) tenure: Tenure,
    pub(crate) line: Arc<Line>,
    /// Becomes true when the partition is to be given back.
    pub(crate) recalled: watch::Receiver<bool>,
    /// Held as long as somebody waits to hear that a batch is known.
    pub(crate) unsettled: mpsc::Sender<Infallible>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) supervisor: Supervisor,
}

impl Asking {
    /// Revisions for a batch, all above what anybody was told; the error says why there are none.
    pub(crate) async fn take(&self, count: usize, leases: Vec<LeaseId>) -> Result<Grant, String> {
        let lost = || "this server has lost the leader, which gives out the revisions".to_owned();
        let (request, granted) = self.line.ask(|waiting| &mut waiting.grants).ok_or_else(lost)?;
        self.line.say(FromOwner::Take(self.tenure, request, count, leases));
        granted.await.map_err(|_| lost())?
    }

    /// The numbers are not used.
    pub(crate) fn came_to_nothing(&self, numbers: Numbers) {
        // Nobody waits to hear that it is known.
        let settled = Settled { taker: numbers.taker, slot: Slot(0), events: Vec::new() };
        self.line.say(FromOwner::Settle(self.tenure, 0, settled));
    }

    /// A batch is durable. Its clients are answered once the leader knows of it, so that nobody who asks the leader later
    /// misses it; or once it is visible here, by whichever leader has found it in the log.
    pub(crate) fn happened(
        &self,
        numbers: &Numbers,
        (slot, events): (Slot, Vec<Arc<Event>>),
        done: Vec<Done>,
    ) {
        let used = events.last().map_or(numbers.first, |event| event.change.revision);
        let asked = self.line.ask(|waiting| &mut waiting.settled);
        let settled = Settled { taker: numbers.taker, slot, events };
        let request = asked.as_ref().map_or(0, |(request, _)| *request);
        self.line.say(FromOwner::Settle(self.tenure, request, settled));
        let (shared, clock, unsettled) = (self.shared.clone(), self.clock.clone(), self.unsettled.clone());
        self.supervisor.spawn("answers", TaskKind::Request, async move {
            let is_known = match asked {
                _ if is_planted(PlantedBug::OwnerAnswersFirst) => true,
                Some((_, settled)) => settled.await.is_ok(),
                None => false,
            };
            match is_known || shared.arrived(used, clock.as_ref()).await {
                true => done.into_iter().for_each(Done::answer),
                false => done.into_iter().for_each(|done| done.fail(&not_known(used))),
            }
            drop(unsettled);
            Ok::<(), Infallible>(())
        });
    }

    /// Completes when the partition is to be given back. Cancel-safe.
    pub(crate) async fn recalled(&self) {
        let mut recalled = self.recalled.clone();
        // Who would recall it has gone: then it is over as well.
        let _ = recalled.wait_for(|recalled| *recalled).await;
    }
}

/// It is durable, and a leader that lives will know it; that is not for this process to promise.
fn not_known(revision: Revision) -> TxnFailure {
    TxnFailure::Undetermined(format!("written at revision {revision}, which no leader has confirmed"))
}
