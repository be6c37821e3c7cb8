//! The owner's loop: takes waiting transactions, evaluates them in order, commits them as one batch, publishes.
//!
//! It never waits for a batch to fill: while one is being committed the next one gathers, so that batches grow
//! with the load and cost nothing when there is none. One commit is in flight at a time.

use std::collections::HashSet;
use std::sync::Arc;

use base::Failure;
use bytes::Bytes;
use engine::{BatchClass, Write};
use layout::KeySpace;
use layout::log::Body;
use model::{Change, ChangeKind, Event, EventBatch, Key, LeaseId, Revision, Txn};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::error::TxnFailure;
use crate::evaluate::{
    Evaluation, Leases, NotEvaluated, Pending, Present, delete_attached, evaluate, take_back,
};
use crate::index::Index;
use crate::leadership::Leadership;
use crate::log_writer::{AppendError, LogWriter};
use crate::outcome::{BranchOutcome, Unread};
use crate::state::{AtHand, Shared, State};
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
    /// Delete up to so many of the keys that hang on a lease.
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
enum Done {
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

/// The batch that is being put together.
#[derive(Default)]
struct Round {
    /// In the order of their revisions.
    pending: Vec<Pending>,
    done: Vec<Done>,
    /// The values that transactions of the round needed so far.
    at_hand: AtHand,
}

pub(crate) struct Sequencer {
    shared: Arc<Shared>,
    leases: Arc<dyn Leases>,
    log: LogWriter,
    leadership: Leadership,
    commands: mpsc::Receiver<Command>,
    /// The revision of the newest state, what is being committed included.
    newest: Revision,
}

impl Sequencer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        leases: Arc<dyn Leases>,
        log: LogWriter,
        leadership: Leadership,
        commands: mpsc::Receiver<Command>,
    ) -> Sequencer {
        let newest = shared.published();
        Sequencer { shared, leases, log, leadership, commands, newest }
    }

    /// Runs until every sender of commands is gone, or the partition is lost.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        while let Some(first) = self.commands.recv().await {
            let commands = self.gather(first);
            if let Err(lost) = self.commit(commands).await {
                self.refuse_waiting(&lost).await;
                return Err(lost);
            }
        }
        Ok(())
    }

    /// Tells those who still wait that nothing of theirs was begun.
    async fn refuse_waiting(&mut self, lost: &Failure) {
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            command.fail(TxnFailure::Unavailable(lost.reason.clone()));
        }
    }

    fn gather(&mut self, first: Command) -> Vec<Command> {
        let mut weight_bytes = first.weight_bytes();
        let mut commands = vec![first];
        while commands.len() < BATCH_TXNS_MAX && weight_bytes < BATCH_BYTES_MAX {
            let Ok(command) = self.commands.try_recv() else { break };
            weight_bytes += command.weight_bytes();
            commands.push(command);
        }
        commands
    }

    async fn commit(&mut self, mut commands: Vec<Command>) -> Result<(), Failure> {
        loop {
            let mut round = Round::default();
            for command in commands {
                self.evaluate(command, &mut round).await;
            }
            let commits = Step::Commit { txns: round.done.len(), revision: self.newest };
            round.traced().for_each(|traced| traced.begin(commits));
            match self.append(&round).await {
                // The disk is full for new data; what frees space must still get through. That can turn into a put
                // without the puts before it, so that it may take more than one try; each has fewer commands.
                Err(AppendError::NoSpace(reason)) if round.puts() => {
                    commands = self.refuse_puts(round, &reason)
                }
                outcome => return self.settle(round, outcome),
            }
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
                let mut state = self.shared.state.write();
                let State { index, attachments, .. } = &mut *state;
                let present = self.present(index, &round.at_hand);
                let (changes, left) = delete_attached((lease, count), present, attachments, &round.pending);
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
                evaluate(txn, self.present(&mut state.index, &round.at_hand))
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

    fn present<'a>(&'a self, index: &'a mut Index, values: &'a AtHand) -> Present<'a> {
        Present {
            space: &self.shared.space,
            index,
            leases: self.leases.as_ref(),
            values,
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
    async fn append(&mut self, round: &Round) -> Result<(), AppendError> {
        if round.pending.is_empty() {
            let confirmed = self.leadership.confirm().await;
            return confirmed.map_err(|error| AppendError::Refused(error.to_string()));
        }
        let class = if round.puts() { BatchClass::Normal } else { BatchClass::Reclaim };
        let changes: Vec<Change> = round.pending.iter().map(|pending| pending.change.clone()).collect();
        let (space, published) = (&self.shared.space, self.shared.published());
        let writes = || writes_of(&round.pending, space, published);
        self.log.append(self.newest, Body::Changes(changes), class, writes).await.map(|_| ())
    }

    fn settle(&mut self, round: Round, outcome: Result<(), AppendError>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => {
                self.publish(round);
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
                self.fail(round, &TxnFailure::Unavailable(reason.clone()));
                Err(Failure { task: "sequencer", reason })
            }
            Err(AppendError::Unknown(reason)) => {
                self.fail(round, &TxnFailure::Undetermined(reason.clone()));
                Err(Failure { task: "sequencer", reason })
            }
        }
    }

    fn publish(&mut self, mut round: Round) {
        self.tell_of_traced(&mut round);
        if !round.pending.is_empty() {
            let mut events = Vec::with_capacity(round.pending.len());
            let mut moves = Vec::new();
            for pending in round.pending {
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
            let after = self.shared.published();
            self.shared.publish(Arc::new(EventBatch { after, revision: self.newest, events }), &moves);
        }
        for done in round.done {
            match done {
                Done::Txn { reply, answer, .. } => reply.answer(answer),
                Done::Detached { reply, answer, .. } => reply.answer(Ok(answer)),
            }
        }
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

    fn fail(&mut self, round: Round, failure: &TxnFailure) {
        self.take_back(&round.pending);
        for done in round.done {
            match done {
                Done::Txn { reply, .. } => reply.answer(Err(failure.clone())),
                Done::Detached { reply, .. } => reply.answer(Err(failure.clone())),
            }
        }
    }

    /// Takes a round back, tells those who put something that there is no space, and gives the others back.
    fn refuse_puts(&mut self, round: Round, reason: &str) -> Vec<Command> {
        self.take_back(&round.pending);
        let mut rest = Vec::new();
        for done in round.done {
            match done {
                Done::Txn { reply, puts: true, .. } => {
                    reply.answer(Err(TxnFailure::NoSpace(reason.to_owned())));
                }
                Done::Txn { txn, reply, .. } => rest.push(Command::Txn(txn, reply)),
                Done::Detached { lease, count, reply, .. } => {
                    rest.push(Command::DeleteAttached(lease, count, reply));
                }
            }
        }
        rest
    }

    fn take_back(&mut self, pending: &[Pending]) {
        take_back(pending, &mut self.shared.state.write().index);
        // The numbers were shown to nobody, so that the next batch may have them.
        self.newest = self.shared.published();
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
fn writes_of(pending: &[Pending], space: &KeySpace, published: Revision) -> Vec<Write> {
    let mut writes = Vec::with_capacity(pending.len() * 2);
    // Most batches change each key once, and then there is nothing to look out for.
    let changed_again = pending.iter().any(|pending| pending.follows > published);
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

impl Command {
    fn fail(self, failure: TxnFailure) {
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
