//! Clients that read: now, back then, in one go and in pages; and the one that compacts.

use bytes::Bytes;
use model::{RangeOp, ReadRevision, Revision};
use partition::{ChunkLimits, RangeOutcome, ReadFailure, SystemFailure};

use super::{Answered, Client};
use crate::evaluate::{in_range, range_of, read};
use crate::history::KeyValue;

/// What a read brought: its revision, and the answer in one go or in pages.
struct Brought {
    revision: i64,
    range: Option<RangeOutcome>,
    pages: Vec<Bytes>,
}

impl Client {
    pub(super) async fn read(&self) {
        let (at, op, pages) = self.question();
        let asked = op.clone();
        let read = self.ask(|process| async move {
            let view = process.store.keys.view(at).await?;
            let mut brought = Brought { revision: view.revision().get(), range: None, pages: Vec::new() };
            let Some(keys_max) = pages else {
                brought.range = Some(view.range(&asked).await?);
                return Ok::<_, ReadFailure>(brought);
            };
            let mut rest = Some(asked.range.clone());
            while let Some(range) = rest {
                let limits = ChunkLimits { keys_max, bytes_max: 1000, keys_only: false };
                let chunk = view.chunk(&range, limits).await?;
                brought.pages.extend(chunk.versions);
                rest = chunk.rest;
            }
            Ok(brought)
        });
        let Ok(Answered { answer, floor, .. }) = read.await else { return };
        match answer {
            Ok(brought) => self.check_read(&op, &brought, (at, floor)),
            Err(failure) => self.check_read_failure(&failure, (at, floor)),
        }
    }

    fn question(&self) -> (ReadRevision, RangeOp, Option<usize>) {
        let (compacted, newest) = self.oracle.known().bounds();
        let at = match self.world.below(3) {
            0 => {
                let from = (compacted - 1).max(1);
                let back_then = from + self.world.below((newest + 2 - from).max(1).unsigned_abs()) as i64;
                ReadRevision::At(Revision::new(back_then))
            }
            _ => ReadRevision::Latest,
        };
        let limit = if self.world.chance(300) { 1 + self.world.below(4) as usize } else { 0 };
        let op = RangeOp { limit, ..RangeOp::of(self.range()) };
        (at, op, self.world.chance(300).then(|| 1 + self.world.below(3) as usize))
    }

    fn check_read(&self, op: &RangeOp, brought: &Brought, (at, floor): (ReadRevision, i64)) {
        let revision = brought.revision;
        let mut known = self.oracle.known();
        let Some(state) = known.history.at(revision) else {
            drop(known);
            return self.world.violated(format!("revision {revision} was read, and nothing is there"));
        };
        known.resolve(revision);
        self.world.tell(|| format!("client {} read revision {revision} for {at:?}", self.number));
        drop(known);
        match at {
            ReadRevision::Latest => self.world.check(revision >= floor, || {
                format!("revision {revision} was read after {floor} had been told")
            }),
            ReadRevision::At(asked) => self.world.check(asked.get() == revision, || {
                format!("revision {revision} was read instead of {asked}")
            }),
        }
        if let Some(range) = &brought.range {
            let (got, expected) = (range_of(range), read(&state, op));
            self.world.check(got.as_ref() == Ok(&expected), || {
                format!("{op:?} at {revision} brought {got:?}, not {expected:?}")
            });
            return;
        }
        let got: Result<Vec<_>, _> = brought.pages.iter().map(KeyValue::decode).collect();
        let expected = in_range(&state, &op.range);
        self.world.check(got.as_ref() == Ok(&expected), || {
            format!("{:?} at {revision} in pages brought {got:?}, not {expected:?}", op.range)
        });
    }

    fn check_read_failure(&self, failure: &ReadFailure, (at, floor): (ReadRevision, i64)) {
        let compacted = self.oracle.known().compacted();
        let holds = match (failure, at) {
            (ReadFailure::Compacted(told), ReadRevision::At(asked)) => {
                asked < *told && told.get() <= compacted
            }
            (ReadFailure::FutureRevision, ReadRevision::At(asked)) => asked.get() > floor,
            // A process that was deposed does not hold back its successor's reclaiming.
            (ReadFailure::Compacted(told), ReadRevision::Latest) => {
                self.plan.machines > 1 && told.get() <= compacted
            }
            (ReadFailure::Unavailable(_), _) => {
                self.plan.weather.unreadable > 0 || self.plan.leader_lease.is_some()
            }
            (ReadFailure::Closed(_), _) => true,
            (ReadFailure::FutureRevision, ReadRevision::Latest) | (ReadFailure::Corrupt(_), _) => false,
        };
        self.world.check(holds, || {
            format!("a read at {at:?} failed: {failure:?}; compacted is {compacted}, told was {floor}")
        });
    }

    pub(super) async fn compact(&self) {
        let (compacted, newest) = self.oracle.known().bounds();
        let wanted = compacted + self.world.below((newest + 2 - compacted).max(1).unsigned_abs()) as i64;
        let revision = Revision::new(wanted);
        let done = self.change(|process| async move { process.store.system.compact(revision).await }).await;
        let Ok(Answered { answer, floor, .. }) = done else { return };
        let compacted = self.oracle.known().compacted();
        let holds = match &answer {
            Ok(()) => compacted >= wanted,
            Err(SystemFailure::Compacted(told)) => told.get() >= wanted && told.get() <= compacted,
            Err(SystemFailure::FutureRevision) => wanted > floor,
            Err(SystemFailure::LeaseExists | SystemFailure::LeaseNotFound) => false,
            Err(
                SystemFailure::NoSpace(_) | SystemFailure::Unavailable(_) | SystemFailure::Undetermined(_),
            ) => true,
        };
        self.world.tell(|| format!("client {} compacted at {wanted}: {answer:?}", self.number));
        self.world.check(holds, || {
            format!(
                "compacting at {wanted} was answered {answer:?}; compacted is {compacted}, told was {floor}"
            )
        });
    }
}
