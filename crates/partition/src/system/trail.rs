use std::collections::VecDeque;

use layout::log::{Body, Slot};

/// How many slots of the system partition's log are kept behind the newest: enough for whoever follows it to catch
/// up without loading the tables again.
const SLOTS_KEPT: usize = 1024;
/// Older ones go when there are this many of them, in one batch: one by one each change would cost two batches.
const SLOTS_TRIMMED: usize = 256;

/// The newest slots of the system partition's log, to know which may go.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// Slots in order.
    slots: VecDeque<(Slot, Holds)>,
}

/// What a slot holds, as far as trimming goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Changes,
    Takeover,
    Filler,
}

impl Holds {
    pub(crate) fn of(body: &Body) -> Holds {
        match body {
            Body::Takeover => Holds::Takeover,
            Body::Filler => Holds::Filler,
            Body::Changes(_) | Body::System(_) | Body::Released => Holds::Changes,
        }
    }
}

/// What may be trimmed now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trim {
    /// The last slot that may be missing afterwards.
    pub(crate) through: Slot,
    /// The slots that go: all up to there but those that stay for ever (see `docs/invariants.md`), which are
    /// takeovers, the slot right before one, and fillers.
    pub(crate) slots: Vec<Slot>,
}

impl Trail {
    /// Notes the next slot. Those between it and the one before, if any, hold fillers.
    pub(crate) fn push(&mut self, slot: Slot, holds: Holds) {
        while let Some((last, _)) = self.slots.back()
            && last.next() < slot
        {
            self.slots.push_back((last.next(), Holds::Filler));
        }
        self.slots.push_back((slot, holds));
    }

    /// Notes a slot with changes, or none, unless it is noted already.
    pub(crate) fn push_new(&mut self, slot: Slot) {
        if self.slots.back().is_none_or(|(last, _)| *last < slot) {
            self.push(slot, Holds::Changes);
        }
    }

    /// What may go, once there is enough of it. The same again until [`Trail::trimmed`] says that it is gone.
    pub(crate) fn trim(&self) -> Option<Trim> {
        if self.slots.len() < SLOTS_KEPT + SLOTS_TRIMMED {
            return None;
        }
        let followed = self.slots.iter().zip(self.slots.iter().skip(1)).take(SLOTS_TRIMMED);
        let goes =
            followed.filter(|((_, holds), (_, next))| *holds == Holds::Changes && *next != Holds::Takeover);
        let slots = goes.map(|((slot, _), _)| *slot).collect();
        self.slots.get(SLOTS_TRIMMED - 1).map(|&(through, _)| Trim { through, slots })
    }

    /// Forgets the slots through this one.
    pub(crate) fn trimmed(&mut self, through: Slot) {
        while self.slots.front().is_some_and(|(slot, _)| *slot <= through) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail_of(slots: impl Iterator<Item = u64>, takeovers: &[u64]) -> Trail {
        let mut trail = Trail::default();
        for slot in slots {
            trail.push(Slot(slot), if takeovers.contains(&slot) { Holds::Takeover } else { Holds::Changes });
        }
        trail
    }

    #[test]
    fn takeovers_and_the_slots_before_them_stay() {
        let enough = (SLOTS_KEPT + SLOTS_TRIMMED) as u64;
        assert_eq!(trail_of(1..enough, &[]).trim(), None);
        let mut trail = trail_of(1..=enough, &[1, 4]);
        let through = SLOTS_TRIMMED as u64;
        let trim = trail.trim().unwrap();
        let goes: Vec<_> = (1..=through).filter(|slot| ![1, 3, 4].contains(slot)).map(Slot).collect();
        assert_eq!(trim, Trim { through: Slot(through), slots: goes });
        assert_eq!(trail.trim(), Some(trim), "until it is done");
        trail.trimmed(Slot(through));
        assert_eq!(trail.trim(), None);
        assert_eq!(trail.slots.front(), Some(&(Slot(through + 1), Holds::Changes)));
    }

    #[test]
    fn the_slot_before_a_takeover_stays_where_the_cut_lies_between_them() {
        let cut = SLOTS_TRIMMED as u64;
        let enough = (SLOTS_KEPT + SLOTS_TRIMMED) as u64;
        let trim = trail_of(1..=enough, &[cut + 1]).trim().unwrap();
        assert_eq!(trim.slots.last(), Some(&Slot(cut - 1)));
    }

    #[test]
    fn fillers_stay_also_those_that_nobody_noted() {
        let enough = (SLOTS_KEPT + SLOTS_TRIMMED) as u64;
        let mut trail = trail_of((1..enough).filter(|slot| slot % 7 != 0), &[]);
        trail.push(Slot(enough), Holds::Filler);
        let trim = trail.trim().unwrap();
        let goes: Vec<_> = (1..=SLOTS_TRIMMED as u64).filter(|slot| slot % 7 != 0).map(Slot).collect();
        assert_eq!(trim.slots, goes);
    }
}
