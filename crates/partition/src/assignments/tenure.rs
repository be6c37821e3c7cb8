use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Failure, PlantedBug, is_planted};
use layout::log::{Epoch, Incarnation, Slot};
use model::{Event, LeaseId, Revision};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::{Assignments, Member, Office};
use crate::assignment::{FromOwner, Grant, Settled, Tenure, ToOwner};
use crate::error::ReadFailure;
use crate::log_writer::LogWriter;
use crate::numbering::Numbers;
use crate::open::{OpenFailure, Taken};

/// How long a new owner may take until it has the log, and one that is to give it back until it has done so. What comes
/// before a revision may take 5 s to arrive there.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(6);
/// The pause before a log is tried to be taken back once more.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A partition that another process owns, or is about to, or owned until now.
pub(super) struct Assigned {
    pub(super) assignments: Assignments,
    pub(super) place: usize,
    pub(super) owner: Incarnation,
    pub(super) tenure: Tenure,
    pub(super) member: Member,
    /// What the owner says.
    pub(super) heard: mpsc::UnboundedReceiver<FromOwner>,
    /// Becomes true when the partition is to be given back.
    pub(super) recalled: watch::Receiver<bool>,
}

/// What the owner has on its way.
struct Open {
    /// By what they are called.
    numbers: BTreeMap<u64, Numbers>,
    /// Everything through this slot is known here.
    slot: Slot,
}

impl Assigned {
    /// Until this process has the partition again, which it needs to go on.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let assignments = self.assignments.clone();
        let Some(office) = assignments.office() else { return Ok(()) };
        let Some(shared_log) = office.logs.get(self.place) else { return Ok(()) };
        // Whoever wants this partition alone finds it at its new owner, also who waits for it now.
        shared_log.set_away(true);
        // Whoever waits for the log from here on needs it together with others.
        let wanted = shared_log.wanted();
        let mut log = shared_log.hold_to_give_away().await;
        let (slot, revision) = log.end();
        let mut open = Open { numbers: BTreeMap::new(), slot };
        self.say(ToOwner::Assign(self.tenure, slot, revision));
        self.listen(office, &mut open, wanted).await;
        self.member.end(&self.tenure);
        if assignments.owner_of(self.place).is_some() {
            assignments.set_owner(self.place, None);
        }
        match self.take_back(office, open).await {
            Ok(taken_back) => *log = taken_back,
            // Whoever leads next has it already: this process is about to end, and that in order.
            Err(failure) if office.opening.world.supervisor.shutdown().has_begun() => {
                info!(partition = self.tenure.partition.0, %failure, "a partition is left to the next leader");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
        drop(log);
        shared_log.set_away(false);
        // Only then may the next one have it.
        if let Some(known) = assignments.inner.places.get(self.place) {
            known.lock().tenure = None;
        }
        Ok(())
    }

    /// Serves the owner until it has given the partition back, or cannot be waited for.
    async fn listen(&mut self, office: &Office, open: &mut Open, mut wanted: watch::Receiver<()>) {
        let world = &office.opening.world;
        let shutdown = world.supervisor.shutdown().clone();
        let mut late = world.clock.sleep_until(world.clock.now() + HAND_OVER_TIME_MAX);
        let (mut waits, mut is_recalled) = (true, false);
        let mut recalled = self.recalled.clone();
        loop {
            let recall = tokio::select! {
                biased;
                heard = self.heard.recv() => match heard {
                    None | Some(FromOwner::Released(_)) => return,
                    Some(FromOwner::Owns(_)) => {
                        self.assignments.set_owner(self.place, Some(self.owner));
                        waits = is_recalled;
                        false
                    }
                    Some(message) => {
                        self.serve(office, open, message).await;
                        false
                    }
                },
                () = &mut late, if waits => {
                    warn!(partition = self.tenure.partition.0, "a partition is taken from an owner that does not answer");
                    return;
                }
                () = becomes_true(&mut recalled), if !is_recalled => true,
                Ok(()) = wanted.changed(), if !is_recalled => {
                    self.note_fetched();
                    true
                }
                () = shutdown.begun(), if !is_recalled => true,
            };
            if recall {
                self.say(ToOwner::Recall(self.tenure));
                late = world.clock.sleep_until(world.clock.now() + HAND_OVER_TIME_MAX);
                (waits, is_recalled) = (true, true);
            }
        }
    }

    fn note_fetched(&self) {
        if let Some(place) = self.assignments.inner.places.get(self.place) {
            place.lock().fetched += 1;
        }
    }

    async fn serve(&self, office: &Office, open: &mut Open, message: FromOwner) {
        match message {
            FromOwner::Take(_, request, count, leases) => {
                let granted = self.grant(office, open, count, leases).await;
                self.say(ToOwner::Granted(self.tenure, request, granted));
            }
            FromOwner::Settle(_, request, Settled { taker, slot, events }) => {
                open.slot = open.slot.max(slot);
                if let Some(numbers) = open.numbers.remove(&taker) {
                    office.numbering.happened_elsewhere(numbers, events);
                }
                self.say(ToOwner::Settled(self.tenure, request));
            }
            FromOwner::Detached(_, request, detached) => {
                let place = self.assignments.inner.places.get(self.place);
                let waiting =
                    place.and_then(|place| place.lock().tenure.as_mut()?.detaching.remove(&request));
                let _ = waiting.map(|waiting| waiting.send(detached));
            }
            FromOwner::Owns(_) | FromOwner::Released(_) => {}
        }
    }

    /// Revisions for the owner's next batch, if this process still leads: asked after the question has come.
    async fn grant(
        &self,
        office: &Office,
        open: &mut Open,
        count: usize,
        leases: Vec<LeaseId>,
    ) -> Result<Grant, String> {
        office.leadership.confirm().await.map_err(|error| error.to_string())?;
        let shared = &self.assignments.inner.shared;
        let attachable = leases.into_iter().filter(|&lease| office.leases.is_attachable(lease)).collect();
        let (newest, compacted) = (shared.newest(), shared.compacted());
        let (mut taker, mut first) = (0, newest);
        if count > 0 {
            let numbers = office.numbering.take(count);
            (taker, first) = (numbers.taker, numbers.first);
            open.numbers.insert(taker, numbers);
        }
        Ok(Grant { taker, first, newest, compacted, attachable })
    }

    /// Takes the log over again, and finds in it what the owner has not told: nothing of it can follow any more.
    async fn take_back(&self, office: &Office, open: Open) -> Result<LogWriter, Failure> {
        let failed = |reason: String| Failure { task: "assignment", reason };
        let clock = &office.opening.world.clock;
        let (taken, events) = loop {
            let tried = match self.next_epoch(office) {
                None => return Err(failed("a partition has changed hands too often".to_owned())),
                Some(epoch) => self.take_over(office, epoch).await,
            };
            let events = match &tried {
                Ok(_) => self.events_after(open.slot).await.map_err(OpenFailure::from),
                Err(failure) => Err(failure.clone()),
            };
            match (tried, events) {
                (Ok(taken), Ok(events)) => break (taken, events),
                (
                    _,
                    Err(OpenFailure::Write(reason) | OpenFailure::Read(ReadFailure::Unavailable(reason))),
                ) => {
                    warn!(
                        partition = self.tenure.partition.0,
                        error = reason,
                        "a partition is not taken back yet"
                    );
                }
                (_, Err(failure)) => return Err(failed(failure.to_string())),
                (Err(failure), Ok(_)) => return Err(failed(failure.to_string())),
            }
            clock.sleep_until(clock.now() + AGAIN_AFTER).await;
        };
        let events = if is_planted(PlantedBug::TakenBackUnread) { Vec::new() } else { events };
        info!(partition = self.tenure.partition.0, "the leader has a partition again");
        self.settle(office, open, &events);
        Ok(self.pen(office, &taken))
    }

    async fn take_over(&self, office: &Office, epoch: Epoch) -> Result<Taken, OpenFailure> {
        let (opening, partition) = (&office.opening, self.tenure.partition);
        // What an owner that died has left on the next slot would be waited for.
        opening.settle_log(partition).await?;
        opening.take_over(partition, opening.owner(), epoch).await
    }

    fn pen(&self, office: &Office, taken: &Taken) -> LogWriter {
        office.opening.pen(self.tenure.partition, taken)
    }

    fn settle(&self, office: &Office, open: Open, events: &[Arc<Event>]) {
        for numbers in open.numbers.into_values() {
            let own = numbers.first..=numbers.last;
            let of_batch = events.iter().filter(|event| own.contains(&event.change.revision)).cloned();
            office.numbering.happened_elsewhere(numbers, of_batch.collect());
        }
    }

    async fn events_after(&self, slot: Slot) -> Result<Vec<Arc<Event>>, ReadFailure> {
        self.assignments.inner.shared.events_after((self.tenure.partition, slot), Revision::MAX).await
    }

    fn next_epoch(&self, office: &Office) -> Option<Epoch> {
        let place = self.assignments.inner.places.get(self.place)?;
        place.lock().next_epoch(office.term)
    }

    fn say(&self, message: ToOwner) {
        // Whoever has gone is noticed by what it does not say.
        let _ = self.member.line.send(message);
    }
}

async fn becomes_true(recalled: &mut watch::Receiver<bool>) {
    // Who would say so has gone: then it is over as well.
    let _ = recalled.wait_for(|recalled| *recalled).await;
}
