//! Clients that write and read, and what they may expect of their answers. Shared by the models that have a log of user
//! keys.
//!
//! A write puts a marker of its own into one or several *places*. A place is what is read as a whole: a partition, or,
//! where partitions split, a key. So the state of a place is the set of writes that it has.

use super::script::Script;
use super::set::Set;
use super::violation::{Promise, Violation};

pub(crate) const PLACES: usize = 2;
const WRITES: usize = 3;
const READS: usize = 2;

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    #[default]
    NotInvoked,
    Invoked,
    /// An owner or a coordinator deals with it.
    Taken,
    Acknowledged,
    /// Its client was told that it certainly did not happen.
    Failed,
    /// Its client was told that nobody knows.
    Unknown,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) fate: Fate,
    /// The highest revision that a client knew when it was invoked.
    floor: u8,
    /// Its revision in the log; 0 while it is in none.
    pub(crate) revision: u8,
    /// What it saw in the places that it compares.
    pub(crate) compared: Set,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Progress {
    #[default]
    NotInvoked,
    /// Not invoked, but an ask that it will join was answered already (only without R11).
    AskedAhead,
    Invoked,
    /// The leader told a revision and epochs.
    Granted,
    Answered,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    pub(crate) progress: Progress,
    /// The highest revision that a client knew when it was invoked.
    floor: u8,
    /// The writes that clients knew of.
    must: Set,
    /// The revision at which it reads.
    pub(crate) revision: u8,
    /// For each place the epoch that the leader confirmed; 0 for none.
    pub(crate) epochs: [u8; PLACES],
    /// The places that have answered, what they showed, and the highest header.
    answered: Set,
    shown: [Set; PLACES],
    header: u8,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Clients {
    pub(crate) writes: [Write; WRITES],
    pub(crate) reads: [Read; READS],
    /// The highest revision that any client knows.
    seen_revision: u8,
    /// The writes that some client knows to have happened.
    seen_writes: Set,
}

/// What a place answers to a read.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) read: usize,
    pub(crate) place: usize,
    pub(crate) header: u8,
    pub(crate) shown: Set,
}

impl Clients {
    /// Writes that may be invoked now. Of writes that are alike the first goes first.
    pub(crate) fn next_writes(&self, script: &Script) -> impl Iterator<Item = usize> {
        let ops = script.writes.clone();
        let writes = self.writes;
        (0..ops.len()).filter(move |&i| {
            let is_later = i > 0 && ops[i] == ops[i - 1] && writes[i - 1].fate == Fate::NotInvoked;
            writes[i].fate == Fate::NotInvoked && !is_later
        })
    }

    /// Reads that may be invoked now.
    pub(crate) fn next_reads(&self, script: &Script) -> impl Iterator<Item = usize> {
        let ops = script.reads.clone();
        let reads = self.reads;
        let waits = |read: &Read| matches!(read.progress, Progress::NotInvoked | Progress::AskedAhead);
        (0..ops.len()).filter(move |&i| {
            let is_later = i > 0 && ops[i] == ops[i - 1] && waits(&reads[i - 1]);
            waits(&reads[i]) && !is_later
        })
    }

    pub(crate) fn invoke_write(&mut self, write: usize) {
        self.writes[write] = Write { fate: Fate::Invoked, floor: self.seen_revision, ..Write::default() };
    }

    pub(crate) fn invoke_read(&mut self, read: usize) {
        let must = self.seen_writes;
        let floor = self.seen_revision;
        let read = &mut self.reads[read];
        read.progress = match read.progress {
            Progress::AskedAhead => Progress::Granted,
            _ => Progress::Invoked,
        };
        (read.floor, read.must) = (floor, must);
    }

    /// The leader's answer reaches the frontend that asked for a read.
    pub(crate) fn grant(&mut self, read: usize, revision: u8, epochs: [u8; PLACES]) {
        let read = &mut self.reads[read];
        read.progress = match read.progress {
            Progress::NotInvoked => Progress::AskedAhead,
            _ => Progress::Granted,
        };
        (read.revision, read.epochs) = (revision, epochs);
    }

    /// The frontend drops the leader's answer and asks again.
    pub(crate) fn ask_again(&mut self, read: usize) {
        let Read { floor, must, .. } = self.reads[read];
        self.reads[read] = Read { progress: Progress::Invoked, floor, must, ..Read::default() };
    }

    /// Whether this place still owes this read an answer.
    pub(crate) fn is_owed(&self, script: &Script, read: usize, place: usize) -> bool {
        script.reads[read].has(place) && !self.reads[read].answered.has(place)
    }

    pub(crate) fn acknowledge(&mut self, write: usize, revision: u8) -> Option<Violation> {
        let floor = self.writes[write].floor;
        self.writes[write].fate = Fate::Acknowledged;
        self.seen_writes = self.seen_writes.with(write);
        self.seen_revision = self.seen_revision.max(revision);
        (revision <= floor).then(|| {
            let particulars = format!(
                "write w{write} is acknowledged at revision {revision}, and {floor} was known before it was invoked"
            );
            Violation::new(Promise::RevisionsFollowRealTime, particulars)
        })
    }

    /// A place answers. `content` says which writes a place has at or below a revision. The second value is the
    /// response's revision, if this was the last answer of the read.
    pub(crate) fn answer(
        &mut self,
        script: &Script,
        answer: Answer,
        content: impl Fn(usize, u8) -> Set,
    ) -> (Option<Violation>, Option<u8>) {
        let Answer { read: number, place, header, shown } = answer;
        let here: Set = (0..script.writes.len()).filter(|&w| script.writes[w].writes.has(place)).collect();
        let read = &mut self.reads[number];
        read.answered = read.answered.with(place);
        read.shown[place] = shown;
        read.header = read.header.max(header);
        let read = *read;
        let is_last = read.answered == script.reads[number];
        let mut violation = stale(&read, number, here.and(read.must), answer);
        let places = if is_last { script.reads[number] } else { Set::of(&[]).with(place) };
        let at = if is_last { read.header } else { header };
        for place in places.iter() {
            violation = violation.or_else(|| inexact(&read, number, place, content(place, at), at));
        }
        if is_last {
            let all = script.reads[number].iter().fold(Set::default(), |all, p| all.or(read.shown[p]));
            self.seen_writes = self.seen_writes.or(all);
            self.seen_revision = self.seen_revision.max(read.header);
            self.reads[number] = Read { progress: Progress::Answered, ..Read::default() };
        }
        (violation, is_last.then_some(read.header))
    }

    pub(crate) fn are_answered(&self, script: &Script) -> bool {
        let writes = &self.writes[..script.writes.len()];
        let reads = &self.reads[..script.reads.len()];
        writes.iter().all(|write| matches!(write.fate, Fate::Acknowledged | Fate::Failed | Fate::Unknown))
            && reads.iter().all(|read| read.progress == Progress::Answered)
    }

    /// What a log may not say about the writes: `copies` is how often a write is in the log of a place.
    pub(crate) fn contradiction(
        &self,
        script: &Script,
        copies: impl Fn(usize, usize) -> usize,
    ) -> Option<Violation> {
        let breach = |promise, write: usize, place: usize| {
            Some(Violation::new(promise, format!("write w{write}, in the log of place {place}")))
        };
        for (write, op) in script.writes.iter().enumerate() {
            let fate = self.writes[write].fate;
            for place in op.writes.iter() {
                match (fate, copies(write, place)) {
                    (Fate::Acknowledged, 0) => {
                        return breach(Promise::NothingAcknowledgedIsLost, write, place);
                    }
                    (Fate::Failed, 1..) => return breach(Promise::FailedNeverHappened, write, place),
                    (_, 2..) => return breach(Promise::NoWriteTwice, write, place),
                    _ => {}
                }
            }
        }
        None
    }
}

fn stale(read: &Read, number: usize, must: Set, answer: Answer) -> Option<Violation> {
    let missing = must.without(answer.shown);
    let particulars = if !missing.is_empty() {
        format!("read r{number} misses the writes {missing}, which were known before it was invoked")
    } else if answer.header < read.floor {
        format!(
            "read r{number} has the revision {}, and {} was known before it was invoked",
            answer.header, read.floor
        )
    } else {
        return None;
    };
    Some(Violation::new(Promise::ReadsAreFresh, particulars))
}

fn inexact(read: &Read, number: usize, place: usize, content: Set, at: u8) -> Option<Violation> {
    let missing = content.without(read.shown[place]);
    (!missing.is_empty()).then(|| {
        let particulars = format!(
            "read r{number} at revision {at} misses the writes {missing}, which place {place} has at or below it"
        );
        Violation::new(Promise::ReadsAreExact, particulars)
    })
}
