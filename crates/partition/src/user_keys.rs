use std::future::Future;
use std::pin::Pin as BoxedPin;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use layout::log::PartitionId;
use model::{
    Compare, CompareTarget, Event, KeyRange, LeaseId, Op, PutValue, RangeOp, ReadRevision, Revision, Txn,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::assignments::Assignments;
use crate::error::{ReadFailure, TxnFailure};
use crate::events::EventsPage;
use crate::leadership::{Leadership, NotConfirmed};
use crate::outcome::{BranchOutcome, Listing, OpOutcome, RangeOutcome, TxnOutcome, Unread};
use crate::ownership::Owned;
use crate::pins::Pin;
use crate::range::finish;
use crate::reader::View;
use crate::reclaim::Done;
use crate::role::{Confirmed, Role};
use crate::route::touched;
use crate::sequencer::{Command, Detached, Evaluated, Reply};
use crate::state::{Follower, Shared};
use crate::traced::Traced;
use crate::values::Found;

/// The transactions that wait for the sequencer together hold at most this many bytes; who comes later waits to
/// wait, so that a flood of large writes cannot fill the memory.
pub(crate) const WAITING_BYTES_MAX: usize = 128 << 20;
/// The room in the queue is counted in pieces of this size.
pub(crate) const ROOM_BYTES_PER_PERMIT: usize = 1 << 10;

/// How often, and after which pause, a partition that changes hands is asked again to delete what hangs on a lease: for
/// about as long as a change of hands may take.
const DETACH_TRIES_MAX: usize = 120;
const DETACH_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What waits for the sequencers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Transactions that it has not taken yet.
    pub txns: usize,
    /// About how many bytes those take, and those that are being committed, in pieces of 1 KiB.
    pub bytes: usize,
}

/// A handle on all user keys, whose partitions this process owns when it leads. Cheap to clone.
#[derive(Clone)]
pub struct UserKeys {
    shared: Arc<Shared>,
    commands: Arc<Commands>,
    room: Arc<Semaphore>,
    /// For each partition.
    reclaimed: Arc<[Arc<Done>]>,
    leadership: Leadership,
    role: Arc<Role>,
    clock: Arc<dyn Clock>,
    owned: Arc<Owned>,
    assignments: Assignments,
}

/// Where to send what is asked of the owner.
pub(crate) struct Commands {
    /// In the order of the partitions.
    pub(crate) of_one: Vec<mpsc::Sender<Command>>,
    /// For what touches several.
    pub(crate) of_several: mpsc::Sender<Command>,
}

impl UserKeys {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: Commands,
        (owned, assignments): (Arc<Owned>, Assignments),
        reclaimed: Arc<[Arc<Done>]>,
        (leadership, role, clock): (Leadership, Arc<Role>, Arc<dyn Clock>),
    ) -> UserKeys {
        let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX / ROOM_BYTES_PER_PERMIT));
        let commands = Arc::new(commands);
        UserKeys { shared, commands, room, reclaimed, leadership, role, clock, owned, assignments }
    }

    pub(crate) fn room(&self) -> Arc<Semaphore> {
        self.room.clone()
    }

    pub(crate) fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    /// Whether this process owns the partition at this place for another one that leads.
    pub fn owns_at(&self, place: usize) -> bool {
        self.owned.has(place)
    }

    /// How many partitions this process owns: for another one that leads, or as the leader, which has what nobody else has.
    pub fn owned_count(&self) -> usize {
        match self.role.leads() {
            true => self.assignments.owners().borrow().iter().filter(|owner| owner.is_none()).count(),
            false => self.owned.count(),
        }
    }

    /// The only partition that `txn` touches, by its place; `None` when it touches several.
    pub fn place_of(&self, txn: &Txn) -> Option<usize> {
        let places = touched(txn, &self.shared.map);
        places.first().copied().filter(|_| places.len() == 1)
    }

    /// Whether this process carries such a transaction out: it leads, or owns the only partition that it touches.
    pub fn carries_out(&self, txn: &Txn) -> bool {
        self.role.leads() || self.owns(txn)
    }

    /// Whether this process owns the only partition that such a transaction touches, for another one that leads.
    pub fn owns(&self, txn: &Txn) -> bool {
        self.place_of(txn).is_some_and(|place| self.owned.has(place))
    }

    /// The newest revision that anybody was told to have happened: everything acknowledged so far is at or below it.
    ///
    /// With several partitions, something at or below it may still be on its way; reads wait for that.
    pub fn revision(&self) -> Revision {
        self.shared.newest()
    }

    /// Nothing at or below this revision can appear any more.
    pub fn published(&self) -> Revision {
        self.shared.published()
    }

    /// How many partitions the keys are split into.
    pub fn partition_count(&self) -> usize {
        self.shared.map.count()
    }

    /// The partitions, in the order of their keys.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.shared.map.ids().collect()
    }

    /// The revision below which history was given up.
    pub fn compacted(&self) -> Option<Revision> {
        self.shared.compacted()
    }

    /// How many keys exist.
    pub fn key_count(&self) -> usize {
        let state = self.shared.state.read();
        state.index.count(&KeyRange::all(), self.shared.published())
    }

    /// What waits for the partition's sequencer now.
    pub fn waiting(&self) -> Waiting {
        let all = WAITING_BYTES_MAX / ROOM_BYTES_PER_PERMIT;
        let queues = self.commands.of_one.iter().chain([&self.commands.of_several]);
        Waiting {
            txns: queues.map(|queue| queue.max_capacity().saturating_sub(queue.capacity())).sum(),
            bytes: all.saturating_sub(self.room.available_permits()) * ROOM_BYTES_PER_PERMIT,
        }
    }

    /// Tells `follower` of every batch from now on. Returns the published revision before the first of them.
    pub fn follow(&self, follower: Arc<dyn Follower>) -> Revision {
        self.shared.follow(follower)
    }

    /// Runs a transaction: durable when this returns, unless the failure says otherwise.
    ///
    /// No way through it may change a key twice, except by deletions that overlap: who makes it checks that.
    ///
    /// Cancel-safety: a transaction whose future is dropped may happen or not.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, TxnFailure> {
        if !self.carries_out(&txn) {
            return Err(TxnFailure::Elsewhere);
        }
        // What the answer has to read must not be reclaimed before it is read.
        let pin = self.pin_for(&txn)?;
        let weight_bytes = weight_of(&txn);
        let commands = self.commands_for(&txn);
        let evaluated = self.ask(commands, weight_bytes, |reply| Command::Txn(txn, reply)).await?;
        let Evaluated { revision, changed, branch } = evaluated;
        let loaded = self.load_branch(branch).await;
        drop(pin);
        match loaded {
            Ok(branch) => Ok(TxnOutcome { revision, branch }),
            // It has happened: a failure that says "nothing was changed" would be a lie.
            Err(failure) if changed => {
                let why =
                    format!("written at revision {revision}, but what it returns cannot be read: {failure}");
                Err(TxnFailure::Undetermined(why))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Deletes up to `count` of the keys that hang on `lease`, of each partition's at one revision, with ordinary delete
    /// events.
    pub async fn delete_attached(&self, lease: LeaseId, count: usize) -> Result<Detached, TxnFailure> {
        if !self.role.leads() {
            return Err(TxnFailure::Elsewhere);
        }
        let mut all = Detached { deleted: 0, left: 0 };
        for (place, commands) in self.commands.of_one.iter().enumerate() {
            let count = count.saturating_sub(all.deleted);
            let Detached { deleted, left } = self.detach(place, commands, (lease, count)).await?;
            all = Detached { deleted: all.deleted + deleted, left: all.left + left };
        }
        Ok(all)
    }

    /// Deletes attached keys of one partition, wherever that is: while it changes hands it is waited for.
    async fn detach(
        &self,
        place: usize,
        commands: &mpsc::Sender<Command>,
        (lease, count): (LeaseId, usize),
    ) -> Result<Detached, TxnFailure> {
        let mut tries = 0;
        loop {
            let failure = match self.assignments.delete_attached(place, lease, count).await {
                Some(Ok(detached)) => return Ok(detached),
                // What it has deleted is not there the next time.
                Some(Err(reason)) => TxnFailure::Undetermined(reason),
                None => {
                    let ask = |reply| Command::DeleteAttached(lease, count, reply);
                    match self.ask(commands, ROOM_BYTES_PER_PERMIT, ask).await {
                        Err(TxnFailure::Elsewhere) => TxnFailure::Elsewhere,
                        done => return done,
                    }
                }
            };
            tries += 1;
            if tries == DETACH_TRIES_MAX {
                return Err(failure);
            }
            self.clock.sleep_until(self.clock.now() + DETACH_AGAIN_AFTER).await;
        }
    }

    fn commands_for(&self, txn: &Txn) -> &mpsc::Sender<Command> {
        let Commands { of_one, of_several } = &*self.commands;
        if let [only] = of_one.as_slice() {
            return only;
        }
        let places = touched(txn, &self.shared.map);
        match places.first().and_then(|&place| of_one.get(place)) {
            Some(one) if places.len() == 1 => one,
            _ => of_several,
        }
    }

    /// The keys that hang on `lease`, in order.
    pub fn attached(&self, lease: LeaseId) -> Vec<Bytes> {
        let state = self.shared.state.read();
        state.attachments.of(lease).map(|key| key.bytes().clone()).collect()
    }

    /// A view of the state that `at` asks for: exact, and with everything that was acknowledged before the call, also by
    /// another process that may have taken over.
    pub async fn view(&self, at: ReadRevision) -> Result<View, ReadFailure> {
        self.confirm().await?;
        self.open(at).await
    }

    /// A view of the state that this process knows: exact, but another process may have gone on. Only what is not known
    /// here yet is asked of the leader.
    pub async fn serializable_view(&self, at: ReadRevision) -> Result<View, ReadFailure> {
        match self.open(at).await {
            Err(ReadFailure::FutureRevision) if !self.role.leads() => self.view(at).await,
            known => known,
        }
    }

    /// A view of what is visible here, of the newest state that is not compacted: a process that does not lead may hear
    /// of a compaction before it hears of everything below.
    async fn open(&self, at: ReadRevision) -> Result<View, ReadFailure> {
        // What happened in one partition may be known before what came before it in another.
        match at {
            ReadRevision::Latest => self.reached(Revision::MAX).await?,
            ReadRevision::At(revision) => self.reached(revision).await?,
        }
        loop {
            match View::open(self.shared.clone(), at) {
                Err(ReadFailure::Compacted(compacted)) if at == ReadRevision::Latest => {
                    self.arrived(compacted).await?;
                }
                opened => return opened,
            }
        }
    }

    /// Completes when it is certain that [`UserKeys::published`], read from then on, is not below any revision that was
    /// acknowledged before the call, also by another process that may have taken over; and that every follower has been told.
    pub async fn confirm(&self) -> Result<(), NotConfirmed> {
        if self.role.leads() {
            self.leadership.confirm().await?;
            return self.arrived(self.shared.newest()).await;
        }
        let Confirmed { revision, compacted } = self.role.ask().await?;
        // Whoever was told of a compaction must find it here too.
        if let Some(compacted) = compacted {
            self.shared.raise_compacted(compacted);
        }
        self.arrived(revision).await
    }

    /// Completes when everything through `revision` is visible here, unless nobody was told of that revision yet.
    pub(crate) async fn reached(&self, revision: Revision) -> Result<(), NotConfirmed> {
        self.arrived(revision.min(self.shared.newest())).await
    }

    /// Completes when everything through `revision` is visible here, and every follower was told.
    async fn arrived(&self, revision: Revision) -> Result<(), NotConfirmed> {
        match self.shared.arrived(revision, self.clock.as_ref()).await {
            true => Ok(()),
            false => Err(NotConfirmed::Behind),
        }
    }

    /// What happened in `range` from `from` on: the next step's worth.
    pub async fn events(&self, from: Revision, range: &KeyRange) -> Result<EventsPage, ReadFailure> {
        self.shared.events(from, range).await
    }

    /// The encoded version that an event replaced; `None` where there was none.
    pub async fn previous(&self, event: &Event) -> Result<Option<Bytes>, ReadFailure> {
        self.shared.previous(event).await
    }

    /// Waits until what a compaction at `revision` has freed is gone.
    pub async fn reclaimed(&self, revision: Revision) {
        for reclaimed in self.reclaimed.iter() {
            let mut reclaimed = reclaimed.subscribe();
            // The sender lives as long as this does.
            let _ = reclaimed.wait_for(|done| done.is_some_and(|done| done >= revision)).await;
        }
    }

    /// The published revision, as it moves.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.shared.subscribe()
    }

    fn pin_for(&self, txn: &Txn) -> Result<Option<Pin>, TxnFailure> {
        let Some(lowest) = lowest_read(txn, self.published()) else { return Ok(None) };
        loop {
            // Only a branch that runs may fail the transaction for its revision: that is for the sequencer to say,
            // which lets no read below the compacted revision pass.
            let lowest = lowest.max(self.compacted().unwrap_or(Revision::NONE));
            match self.shared.pin(lowest) {
                Ok(pin) => return Ok(Some(pin)),
                // The compacted revision has moved meanwhile.
                Err(ReadFailure::Compacted(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    async fn ask<T>(
        &self,
        commands: &mpsc::Sender<Command>,
        weight_bytes: usize,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, TxnFailure> {
        let stopping = || TxnFailure::Unavailable("the store is stopping".to_owned());
        let traced = Traced::queue();
        let permits =
            (weight_bytes / ROOM_BYTES_PER_PERMIT + 1).min(WAITING_BYTES_MAX / ROOM_BYTES_PER_PERMIT);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| stopping())?;
        let (to, answer) = oneshot::channel();
        let reply = Reply { to, room, weight_bytes, traced };
        commands.send(command(reply)).await.map_err(|_| stopping())?;
        let lost = || TxnFailure::Undetermined("the store stopped before it answered".to_owned());
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Loads what the outcome of a branch refers to.
    fn load_branch(
        &self,
        branch: BranchOutcome<Unread, Found>,
    ) -> BoxedPin<Box<dyn Future<Output = Result<BranchOutcome, ReadFailure>> + Send + '_>> {
        Box::pin(async move {
            let mut ops = Vec::with_capacity(branch.ops.len());
            for op in branch.ops {
                ops.push(self.load_op(op).await?);
            }
            Ok(BranchOutcome { succeeded: branch.succeeded, ops })
        })
    }

    async fn load_op(&self, op: OpOutcome<Unread, Found>) -> Result<OpOutcome, ReadFailure> {
        let values = &self.shared.values;
        Ok(match op {
            OpOutcome::Range { revision, outcome } => {
                OpOutcome::Range { revision, outcome: self.load_range(revision, outcome).await? }
            }
            OpOutcome::Put { revision, previous } => {
                let previous = values.load(previous.into_iter().collect(), revision).await?.pop();
                OpOutcome::Put { revision, previous }
            }
            OpOutcome::Delete { revision, deleted, previous } => {
                OpOutcome::Delete { revision, deleted, previous: values.load(previous, revision).await? }
            }
            OpOutcome::Txn(nested) => OpOutcome::Txn(self.load_branch(nested).await?),
        })
    }

    /// `newest` is the revision of the newest state that the range saw.
    async fn load_range(
        &self,
        newest: Revision,
        Unread { op, listing }: Unread,
    ) -> Result<RangeOutcome, ReadFailure> {
        match (listing, op.revision) {
            (Listing::Found { found, count }, _) => {
                finish(&op, found, count, (&self.shared.values, newest)).await
            }
            // The transaction's own pin holds this state, even if it was compacted meanwhile.
            (Listing::Older, ReadRevision::At(revision)) => {
                let pin = self.shared.pins.pin(revision);
                View::pinned(self.shared.clone(), newest, pin).range(&op).await
            }
            (Listing::Older, ReadRevision::Latest) => self.open(op.revision).await?.range(&op).await,
        }
    }
}

/// The lowest revision that the answer of a transaction may have to be read at; `None` when there is nothing to read.
fn lowest_read(txn: &Txn, published: Revision) -> Option<Revision> {
    let of_op = |op: &Op| match op {
        Op::Range(RangeOp { revision: ReadRevision::At(revision), .. }) => Some((*revision).min(published)),
        Op::Range(_) => Some(published),
        Op::Put(put) => put.return_previous.then_some(published),
        Op::Delete(delete) => delete.return_previous.then_some(published),
        Op::Txn(nested) => lowest_read(nested, published),
    };
    txn.success.iter().chain(&txn.failure).filter_map(of_op).min()
}

fn weight_of(txn: &Txn) -> usize {
    let of_op = |op: &Op| match op {
        Op::Range(_) | Op::Delete(_) => OP_BYTES,
        Op::Put(put) => {
            let value_len = match &put.value {
                PutValue::Set(value) => value.len(),
                PutValue::Keep => 0,
            };
            OP_BYTES + put.key.as_slice().len() + value_len
        }
        Op::Txn(nested) => weight_of(nested),
    };
    let of_compare = |compare: &Compare| match &compare.target {
        CompareTarget::Value(value) => OP_BYTES + value.len(),
        _ => OP_BYTES,
    };
    let ops = txn.success.iter().chain(&txn.failure).map(of_op);
    OP_BYTES + ops.chain(txn.compares.iter().map(of_compare)).sum::<usize>()
}

/// What an operation weighs beside its key and value, about.
const OP_BYTES: usize = 200;
