//! The owner's loop: takes waiting transactions, evaluates them in order, commits them as one batch, publishes.
//!
//! It never waits for a batch to fill: while one is being committed the next one gathers, so that batches grow
//! with the load and cost nothing when there is none. One commit is in flight at a time.
//!
//! Each partition has one, for the transactions that touch no other. One more takes those that touch several: it holds
//! the logs of all of them, in their order, while it evaluates and commits, and writes a slot of each.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use base::Failure;
use bytes::Bytes;
use engine::{BatchClass, Write};
use layout::KeySpace;
use layout::log::{Body, Slot};
use model::{Change, ChangeKind, Event, Key, LeaseId, Op, PutLease, Revision, Txn};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::begun::BegunBatch;
use crate::error::TxnFailure;
use crate::evaluate::{
    Evaluation, Leases, NotEvaluated, Pending, Present, delete_attached, evaluate, take_back,
};
use crate::index::Index;
use crate::log_writer::{AppendError, LogWriter, append_to_all};
use crate::numbering::Numbers;
use crate::outcome::{BranchOutcome, Unread};
use crate::route::touched;
use crate::shared_log::{HeldLog, SharedLog};
use crate::source::{Basis, Source};
use crate::state::{AtHand, Move, Shared, State};
use crate::traced::{Step, Traced};
use crate::values::Found;

/// A batch takes at most this many transactions: enough to share an fsync among all that wait, few enough that the
/// first of them does not wait long for the evaluation of the last.
const BATCH_TXNS_MAX: usize = 4096;
/// And at most about this many bytes of values beyond the first transaction.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How many transactions may wait for the sequencer; who comes later waits to wait.
pub(crate) const QUEUE_TXNS_MAX: usize = 8192;
/// A transaction that keeps asking for other values is given up. Each round decides the compares of one more level
/// of nesting, and no decoder lets more than a hundred levels through.
const ROUNDS_MAX: usize = 128;

/// What the sequencer is asked to do.
pub(crate) enum Command {
    Txn(Txn, Reply<Evaluated>),
    /// Delete up to so many of the partition's keys that hang on a lease.
    DeleteAttached(LeaseId, usize, Reply<Detached>),
}

/// Where an answer goes, and the room in the queue that the command takes until then.
pub(crate) struct Reply<T> {
    pub(crate) to: oneshot::Sender<Result<T, TxnFailure>>,
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) weight_bytes: usize,
    /// Of a request that is traced.
    pub(crate) traced: Option<Box<Traced>>,
}

/// The outcome of a transaction, its ranges still to be loaded.
pub(crate) struct Evaluated {
    pub(crate) revision: Revision,
    /// Whether it changed anything.
    pub(crate) changed: bool,
    pub(crate) branch: BranchOutcome<Unread, Found>,
}

/// What became of the keys that hung on a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// How many keys were deleted now.
    pub deleted: usize,
    /// How many still hang on it.
    pub left: usize,
}

/// A command that was evaluated, and what it will answer when the batch is durable.
pub(crate) enum Done {
    Txn {
        txn: Txn,
        reply: Reply<Evaluated>,
        /// A failure too is only true once what it was seen on is durable.
        answer: Result<Evaluated, TxnFailure>,
        puts: bool,
    },
    Detached {
        lease: LeaseId,
        count: usize,
        reply: Reply<Detached>,
        answer: Detached,
    },
}

impl Done {
    /// Gives the answer.
    pub(crate) fn answer(self) {
        match self {
            Done::Txn { reply, answer, .. } => reply.answer(answer),
            Done::Detached { reply, answer, .. } => reply.answer(Ok(answer)),
        }
    }

    /// Gives this answer instead.
    pub(crate) fn fail(self, failure: &TxnFailure) {
        match self {
            Done::Txn { reply, .. } => reply.answer(Err(failure.clone())),
            Done::Detached { reply, .. } => reply.answer(Err(failure.clone())),
        }
    }

    /// The command again.
    fn command(self) -> Command {
        match self {
            Done::Txn { txn, reply, .. } => Command::Txn(txn, reply),
            Done::Detached { lease, count, reply, .. } => Command::DeleteAttached(lease, count, reply),
        }
    }
}

/// The batch that is being put together.
struct Round {
    /// None while nobody in it may change anything.
    numbers: Option<Numbers>,
    /// Of an owner that does not lead, until the fate of the numbers is known.
    begun: Option<BegunBatch>,
    /// What who only looks may be told.
    told: Revision,
    leases: Arc<dyn Leases>,
    /// In the order of their revisions.
    pending: Vec<Pending>,
    done: Vec<Done>,
    /// The values that transactions of the round needed so far.
    at_hand: AtHand,
}

pub(crate) struct Sequencer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Source,
    /// The logs of the partitions that its commands touch, the first of which is at this place in the map.
    pub(crate) logs: Vec<SharedLog>,
    pub(crate) first_place: usize,
    /// The revision of the newest state that a command sees, what is being committed included.
    pub(crate) newest: Revision,
}

impl Sequencer {
    /// Runs until every sender of commands is gone, or the partition is recalled or lost.
    pub(crate) async fn run(mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), Failure> {
        loop {
            let first = tokio::select! {
                biased;
                () = self.source.recalled() => return Ok(()),
                first = commands.recv() => first,
            };
            let Some(first) = first else { return Ok(()) };
            let gathered = gather(first, commands);
            self.commit(gathered).await?;
        }
    }

    async fn commit(&mut self, mut commands: Vec<Command>) -> Result<(), Failure> {
        let Some(mut held) = self.hold_touched_by(&commands).await else {
            commands.into_iter().for_each(|command| command.fail(TxnFailure::Elsewhere));
            return Ok(());
        };
        loop {
            let mut round = match self.begin(&commands).await {
                Ok(round) => round,
                Err(reason) => {
                    // Whoever owns the partition next carries them out.
                    commands.into_iter().for_each(|command| command.fail(TxnFailure::Elsewhere));
                    return Err(Failure { task: "sequencer", reason });
                }
            };
            self.evaluate_all(commands, &mut round).await;
            let commits = Step::Commit { txns: round.done.len(), revision: self.newest };
            round.traced().for_each(|traced| traced.begin(commits));
            match self.append(&round, &mut held).await {
                // The disk is full for new data; what frees space must still get through. That can turn into a put
                // without the puts before it, so that it may take more than one try; each has fewer commands.
                Err(AppendError::NoSpace(reason)) if round.puts() => {
                    commands = self.refuse_puts(round, &reason)
                }
                outcome => return self.settle(round, outcome, &held),
            }
        }
    }

    /// Holds all logs that the commands need. `None` when it is one, and its partition is away: its owner carries them out.
    /// Of several, those that are away are fetched.
    async fn hold_touched_by(&self, commands: &[Command]) -> Option<Vec<HeldLog>> {
        if let [log] = self.logs.as_slice() {
            return Some(vec![log.hold_unless_away().await?]);
        }
        let mut held = Vec::new();
        // In their order, so that two who hold several never wait for each other.
        for log in self.touched_by(commands) {
            held.push(log.hold().await);
        }
        Some(held)
    }

    /// The logs of the partitions that some command reads or writes.
    fn touched_by(&self, commands: &[Command]) -> Vec<SharedLog> {
        let places = commands.iter().flat_map(|command| match command {
            Command::Txn(txn, _) => touched(txn, &self.shared.map),
            Command::DeleteAttached(..) => (self.first_place..self.first_place + self.logs.len()).collect(),
        });
        let places: BTreeSet<usize> = places.collect();
        places.into_iter().filter_map(|place| self.logs.get(place - self.first_place).cloned()).collect()
    }

    /// Numbers are taken for all that may need one, and only while the logs are held: whatever was acknowledged before a
    /// command came has a lower one.
    async fn begin(&mut self, commands: &[Command]) -> Result<Round, String> {
        let count = commands.iter().filter(|command| command.may_change()).count();
        let leases = || commands.iter().flat_map(Command::leases).collect();
        let Basis { numbers, newest, leases } = self.source.take(count, leases, &self.shared).await?;
        self.newest = numbers.as_ref().map_or(newest, |numbers| numbers.first.previous());
        let begun = match (&self.source, &numbers) {
            (Source::Leader(_), Some(numbers)) => {
                let begun = self.shared.begun.begin(self.first_place, numbers.first);
                Some(begun.ok_or_else(|| "another process owns the partition by now".to_owned())?)
            }
            _ => None,
        };
        let (pending, done, at_hand) = (Vec::new(), Vec::new(), AtHand::default());
        Ok(Round { numbers, begun, told: newest, leases, pending, done, at_hand })
    }

    async fn evaluate_all(&mut self, commands: Vec<Command>, round: &mut Round) {
        for command in commands {
            self.evaluate(command, round).await;
        }
        match &mut round.numbers {
            Some(numbers) if !round.pending.is_empty() => self.source.keep(numbers, self.newest),
            Some(_) => self.only_looked(round),
            None => {}
        }
    }

    /// Nothing was changed: the numbers go back, and nobody is told one that another partition has on its way, and may
    /// never use.
    fn only_looked(&mut self, round: &mut Round) {
        self.give_all_back(round);
        self.newest = self.source.newest(round.told, &self.shared);
        for done in &mut round.done {
            if let Done::Txn { answer: Ok(evaluated), .. } = done {
                evaluated.revision = self.newest;
                evaluated.branch.observed_at(self.newest);
            }
        }
    }

    fn give_all_back(&self, round: &mut Round) {
        round.begun = None;
        if let Some(numbers) = round.numbers.take() {
            self.source.came_to_nothing(numbers);
        }
    }

    async fn evaluate(&mut self, command: Command, round: &mut Round) {
        let before = round.pending.len();
        match command {
            Command::Txn(txn, mut reply) => {
                reply.begin(Step::Evaluate);
                let branch = self.evaluate_txn(&txn, round).await;
                let changes = round.pending.get(before..).unwrap_or_default();
                let changed = !changes.is_empty();
                let puts = changes.iter().any(|pending| pending.object.is_some());
                let answer = branch.map(|branch| Evaluated { revision: self.newest, changed, branch });
                round.done.push(Done::Txn { txn, reply, answer, puts });
            }
            Command::DeleteAttached(lease, count, reply) => {
                let range = self.shared.map.range(self.first_place);
                let mut state = self.shared.state.write();
                let State { index, attachments, .. } = &mut *state;
                let present = self.present(index, round);
                let of_lease = (lease, &range, count);
                let (changes, left) = delete_attached(of_lease, present, attachments, &round.pending);
                let answer = Detached { deleted: changes.len(), left };
                drop(state);
                self.keep(changes, round);
                round.done.push(Done::Detached { lease, count, reply, answer });
            }
        }
    }

    async fn evaluate_txn(
        &mut self,
        txn: &Txn,
        round: &mut Round,
    ) -> Result<BranchOutcome<Unread, Found>, TxnFailure> {
        for _ in 0..ROUNDS_MAX {
            let evaluated = {
                let mut state = self.shared.state.write();
                evaluate(txn, self.present(&mut state.index, round))
            };
            match evaluated {
                Ok(Evaluation { pending, branch }) => {
                    self.keep(pending, round);
                    return Ok(branch);
                }
                Err(NotEvaluated::Failed(failure)) => return Err(failure),
                // Only this loop changes the state, so that what is fetched now is still the newest then.
                Err(NotEvaluated::Needs(found)) => self.fetch(found, round).await?,
            }
        }
        Err(TxnFailure::Unavailable("the transaction needs too many values one after another".to_owned()))
    }

    /// Puts the values of these versions at hand.
    async fn fetch(&self, needed: Vec<Found>, round: &mut Round) -> Result<(), TxnFailure> {
        let mut found = Vec::with_capacity(needed.len());
        for version in needed {
            match round.key_value_of(&version) {
                Some(key_value) => drop(round.at_hand.insert(version.object_key, key_value)),
                None => found.push(version),
            }
        }
        let keys: Vec<Bytes> = found.iter().map(|found| found.object_key.clone()).collect();
        let values = self.shared.values.load(found, self.newest).await?;
        round.at_hand.extend(keys.into_iter().zip(values));
        Ok(())
    }

    fn present<'a>(&'a self, index: &'a mut Index, round: &'a Round) -> Present<'a> {
        Present {
            space: &self.shared.space,
            index,
            leases: round.leases.as_ref(),
            values: &round.at_hand,
            revision: self.newest,
            compacted: self.shared.compacted(),
        }
    }

    fn keep(&mut self, pending: Vec<Pending>, round: &mut Round) {
        if !pending.is_empty() {
            self.newest = self.newest.next();
            round.pending.extend(pending);
        }
    }

    /// Writes the round's changes as one batch, which proves that nobody has taken over. What only looked needs that
    /// proof as well: the state that it saw may be another's past.
    ///
    /// A partition that was only looked at gets a slot too: its owner could be another one by now.
    async fn append(&mut self, round: &Round, held: &mut [HeldLog]) -> Result<(), AppendError> {
        let Some(before) = round.numbers.as_ref().map(|numbers| numbers.first.previous()) else {
            let is_owner_elsewhere = matches!(self.source, Source::Leader(_));
            if is_owner_elsewhere && self.shared.is_changed_by_others(self.first_place, round.told) {
                return Err(AppendError::Deposed("another process owns the partition by now".to_owned()));
            }
            return self.source.confirm().await.map_err(AppendError::Refused);
        };
        let class = if round.puts() { BatchClass::Normal } else { BatchClass::Reclaim };
        let bodies = self.bodies(round, held);
        let space = &self.shared.space;
        let writes = || writes_of(&round.pending, space, before);
        let mut logs: Vec<&mut LogWriter> = held.iter_mut().map(|log| &mut **log).collect();
        append_to_all(&mut logs, bodies, self.newest, class, writes).await
    }

    /// What each log's slot says.
    fn bodies(&self, round: &Round, held: &[HeldLog]) -> Vec<Body> {
        let changes = round.pending.iter().map(|pending| pending.change.clone());
        if held.len() == 1 {
            return vec![Body::Changes(changes.collect())];
        }
        let mut of_partition: HashMap<_, Vec<Change>> = HashMap::new();
        for change in changes {
            let place = self.shared.map.position(change.key.as_slice());
            if let Some(partition) = self.shared.map.id(place) {
                of_partition.entry(partition).or_default().push(change);
            }
        }
        let mut body =
            |log: &HeldLog| Body::Changes(of_partition.remove(&log.partition()).unwrap_or_default());
        held.iter().map(&mut body).collect()
    }

    fn settle(
        &mut self,
        mut round: Round,
        outcome: Result<(), AppendError>,
        held: &[HeldLog],
    ) -> Result<(), Failure> {
        match outcome {
            Ok(()) => {
                self.publish(round, held.first().map_or(Slot(0), |log| log.end().0));
                Ok(())
            }
            Err(AppendError::NoSpace(reason)) => {
                self.fail(round, &TxnFailure::NoSpace(reason));
                Ok(())
            }
            Err(AppendError::Refused(reason)) => {
                self.fail(round, &TxnFailure::Unavailable(reason));
                Ok(())
            }
            Err(AppendError::Deposed(reason) | AppendError::Closed(reason)) => {
                // Certainly not done; where the leader is another process, it finds who does it.
                let failure = match self.source {
                    Source::Here { .. } => TxnFailure::Unavailable(reason.clone()),
                    Source::Leader(_) => TxnFailure::Elsewhere,
                };
                self.fail(round, &failure);
                Err(Failure { task: "sequencer", reason })
            }
            Err(AppendError::Unknown(reason)) => {
                // Its numbers stay open: it may have happened, and nothing above it may be shown as if it had not.
                round.numbers = None;
                self.fail(round, &TxnFailure::Undetermined(reason.clone()));
                Err(Failure { task: "sequencer", reason })
            }
        }
    }

    fn publish(&mut self, mut round: Round, slot: Slot) {
        self.tell_of_traced(&mut round);
        let begun = round.begun.take();
        let Some(numbers) = round.numbers else {
            return round.done.into_iter().for_each(Done::answer);
        };
        let (events, moves) = self.events_of(round.pending);
        if !moves.is_empty() {
            self.shared.state.write().attach(&moves);
        }
        // The leader publishes it as soon as it knows.
        drop(begun);
        self.source.happened(numbers, (slot, events), round.done);
    }

    /// The events of changes that are durable, and the keys that they put on another lease.
    fn events_of(&self, changes: Vec<Pending>) -> (Vec<Arc<Event>>, Vec<Move>) {
        let mut events = Vec::with_capacity(changes.len());
        let mut moves = Vec::new();
        for pending in changes {
            let (before, after) = (pending.lease_before, pending.lease_after());
            if before != after {
                // A copy, because attachments live longer than what the request's key shares its bytes with.
                let key = Key::new(Bytes::copy_from_slice(pending.change.key.as_slice()));
                moves.extend(key.map(|key| (key, before, after)));
            }
            let key_value = pending.key_value();
            if pending.object.is_some() {
                self.shared.values.remember(pending.object_key, key_value.clone());
            }
            events.push(Arc::new(Event::new(compact(pending.change, &key_value), key_value)));
        }
        if self.logs.len() > 1 {
            // As the logs tell them later: within a revision, partition by partition.
            let place = |event: &Arc<Event>| self.shared.map.position(event.change.key.as_slice());
            events.sort_by_key(|event| (event.change.revision, place(event)));
        }
        (events, moves)
    }

    /// Those who follow are told which of the round's changes are traced, before they are told of the changes.
    fn tell_of_traced(&self, round: &mut Round) {
        for done in &mut round.done {
            if let Done::Txn { reply: Reply { traced: Some(traced), .. }, answer, .. } = done {
                traced.begin(Step::Publish);
                if let Ok(Evaluated { revision, changed: true, .. }) = answer {
                    self.shared.traced(*revision, traced.request());
                }
            }
        }
    }

    fn fail(&mut self, mut round: Round, failure: &TxnFailure) {
        self.take_back(&mut round);
        round.done.into_iter().for_each(|done| done.fail(failure));
    }

    /// Takes a round back, tells those who put something that there is no space, and gives the others back.
    fn refuse_puts(&mut self, mut round: Round, reason: &str) -> Vec<Command> {
        self.take_back(&mut round);
        let mut rest = Vec::new();
        for done in round.done {
            match done {
                Done::Txn { reply, puts: true, .. } => {
                    reply.answer(Err(TxnFailure::NoSpace(reason.to_owned())));
                }
                done => rest.push(done.command()),
            }
        }
        rest
    }

    /// The round has not happened. Its numbers were shown to nobody, so that others may have them.
    fn take_back(&self, round: &mut Round) {
        take_back(&round.pending, &mut self.shared.state.write().index);
        self.give_all_back(round);
    }
}

impl Round {
    /// Of those of its transactions that are traced.
    fn traced(&mut self) -> impl Iterator<Item = &mut Traced> {
        self.done.iter_mut().filter_map(|done| match done {
            Done::Txn { reply, .. } => reply.traced.as_deref_mut(),
            Done::Detached { reply, .. } => reply.traced.as_deref_mut(),
        })
    }

    fn puts(&self) -> bool {
        self.pending.iter().any(|pending| pending.object.is_some())
    }

    /// The value of a version that the round itself has put.
    fn key_value_of(&self, version: &Found) -> Option<Bytes> {
        let revision = version.meta.mod_revision;
        let from = self.pending.partition_point(|pending| pending.change.revision < revision);
        let rest = self.pending.get(from..).unwrap_or_default();
        let of_revision = rest.iter().take_while(|pending| pending.change.revision == revision);
        of_revision
            .into_iter()
            .find(|pending| pending.object_key == version.object_key)
            .map(Pending::key_value)
    }
}

/// The index and object records of changes. A key that several transactions of the batch changed has one index
/// record, that of the last, and an object record for each.
///
/// `before` lies above the revisions of all earlier batches.
fn writes_of(pending: &[Pending], space: &KeySpace, before: Revision) -> Vec<Write> {
    let mut writes = Vec::with_capacity(pending.len() * 2);
    // Most batches change each key once, and then there is nothing to look out for.
    let changed_again = pending.iter().any(|pending| pending.follows > before);
    let mut indexed = HashSet::new();
    for Pending { change, object_key, object, .. } in pending.iter().rev() {
        let object = object.clone().unwrap_or_else(|| space.encode_tombstone(object_key));
        writes.push(Write::Put(object_key.clone(), object));
        if changed_again && !indexed.insert(&change.key) {
            continue;
        }
        let index_key = space.index_key(change.key.as_slice());
        writes.push(match &change.kind {
            ChangeKind::Put(meta) => {
                let record = space.encode_index(&index_key, meta);
                Write::Put(index_key, record)
            }
            ChangeKind::Delete => Write::Delete(index_key),
        });
    }
    writes
}

fn gather(first: Command, commands: &mut mpsc::Receiver<Command>) -> Vec<Command> {
    let mut weight_bytes = first.weight_bytes();
    let mut gathered = vec![first];
    while gathered.len() < BATCH_TXNS_MAX && weight_bytes < BATCH_BYTES_MAX {
        let Ok(command) = commands.try_recv() else { break };
        weight_bytes += command.weight_bytes();
        gathered.push(command);
    }
    gathered
}

impl Command {
    /// Whether some way through it changes something.
    fn may_change(&self) -> bool {
        match self {
            Command::Txn(txn, _) => may_change(txn),
            Command::DeleteAttached(..) => true,
        }
    }

    /// The leases that some way through it puts keys on.
    fn leases(&self) -> Vec<LeaseId> {
        match self {
            Command::Txn(txn, _) => leases_of(txn),
            Command::DeleteAttached(..) => Vec::new(),
        }
    }

    pub(crate) fn fail(self, failure: TxnFailure) {
        match self {
            Command::Txn(_, reply) => reply.answer(Err(failure)),
            Command::DeleteAttached(_, _, reply) => reply.answer(Err(failure)),
        }
    }

    fn weight_bytes(&self) -> usize {
        match self {
            Command::Txn(_, reply) => reply.weight_bytes,
            Command::DeleteAttached(_, _, reply) => reply.weight_bytes,
        }
    }
}

fn may_change(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Range(_) => false,
        Op::Put(_) | Op::Delete(_) => true,
        Op::Txn(nested) => may_change(nested),
    })
}

fn leases_of(txn: &Txn) -> Vec<LeaseId> {
    let of_op = |op: &Op| match op {
        Op::Range(_) | Op::Delete(_) => Vec::new(),
        Op::Put(put) => match put.lease {
            PutLease::Set(lease) if !lease.is_none() => vec![lease],
            PutLease::Set(_) | PutLease::Keep => Vec::new(),
        },
        Op::Txn(nested) => leases_of(nested),
    };
    txn.success.iter().chain(&txn.failure).flat_map(of_op).collect()
}

impl<T> Reply<T> {
    fn begin(&mut self, step: Step) {
        if let Some(traced) = &mut self.traced {
            traced.begin(step);
        }
    }

    fn answer(self, answer: Result<T, TxnFailure>) {
        // A client that has gone away hears nothing; what it asked for has happened all the same.
        let _ = self.to.send(answer);
        drop(self.room);
    }
}

/// The change with its key out of `key_value`, which history holds anyway: the key that came with the request shares
/// its bytes with everything else that came over the connection with it, and would keep all of that in memory.
fn compact(change: Change, key_value: &Bytes) -> Change {
    match layout::object::key_of(key_value).ok().and_then(|key| Key::new(key).ok()) {
        Some(key) => Change { key, ..change },
        None => change,
    }
}
