//! Leases and alarms, and their log.

use std::collections::HashMap;

use engine::ReadError;
use layout::log::{Body, PartitionId, Slot, SystemChange};
use layout::map::PartitionMap;
use layout::system::{Alarm, LeaseRecord, SystemRecord};
use model::{LeaseId, Revision};

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};
use crate::log::{Last, after_damage};
use crate::meta::Positions;
use crate::pages::Pages;

/// Of so many leases the log's last word is remembered and compared: those of the slots that are kept, 64 MiB at most.
const LEASES_COMPARED_MAX: usize = 1 << 20;

/// What the log of the system partition says last.
#[derive(Default)]
struct LastWord {
    leases: HashMap<LeaseId, LeaseWord>,
    alarms: HashMap<Alarm, bool>,
    compacted: Option<Revision>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeaseWord {
    Granted(i64),
    Revoking,
    Revoked,
}

impl LastWord {
    fn hear(&mut self, change: SystemChange) {
        let (lease, word) = match change {
            SystemChange::LeaseGranted(lease, ttl_secs) => (lease, LeaseWord::Granted(ttl_secs)),
            SystemChange::LeaseRevoking(lease) => (lease, LeaseWord::Revoking),
            SystemChange::LeaseRevoked(lease) => (lease, LeaseWord::Revoked),
            SystemChange::Compacted(revision) => {
                self.compacted = self.compacted.max(Some(revision));
                return;
            }
            SystemChange::AlarmRaised(alarm) => {
                self.alarms.insert(alarm, true);
                return;
            }
            SystemChange::AlarmCleared(alarm) => {
                self.alarms.insert(alarm, false);
                return;
            }
        };
        if self.leases.len() < LEASES_COMPARED_MAX || self.leases.contains_key(&lease) {
            self.leases.insert(lease, word);
        }
    }
}

impl Checking<'_> {
    /// Leases and alarms by themselves.
    pub(crate) async fn system_state(&mut self) -> Result<(), ReadError> {
        let space = self.space.clone();
        let mut pages = Pages::of(space.system_span(), Phase::System);
        while let Some((key, value)) = pages.next(self).await? {
            let Some(value) = value else { continue };
            match space.decode_system(&key, &value) {
                Ok(SystemRecord::Lease(..)) => self.report.leases += 1,
                Ok(SystemRecord::Alarm(_)) => {}
                Err(damaged) => self.found(Finding::damaged(&damaged, &key)),
            }
        }
        Ok(())
    }

    /// The system partition's log by itself, and whether the state is what it says last; and that there are no logs of
    /// other partitions.
    pub(crate) async fn system_log(&mut self, positions: &Positions) -> Result<(), ReadError> {
        let space = self.space.clone();
        let mut word = LastWord::default();
        let mut last: Option<Last> = None;
        let mut pages = Pages::of(space.log_span(PartitionId::SYSTEM, Slot(0)), Phase::System);
        while let Some((key, value)) = pages.next(self).await? {
            let Some((slot, record)) = self.slot(&key, value) else {
                last = after_damage(&space, &key, last);
                continue;
            };
            let system = PartitionId::SYSTEM;
            self.follows(system, (slot, &record), last, (positions.reclaimed_of_system, false));
            last = Some(Last::of(slot, &record));
            match record.body {
                Body::System(changes) => changes.into_iter().for_each(|change| word.hear(change)),
                Body::Changes(_) => {
                    let text = "a slot of the system partition holds changes of user keys";
                    self.found(Finding::new(Problem::Contradiction, text).record(&key));
                }
                Body::Takeover | Body::Released | Body::Filler => {}
            }
        }
        if last.is_none() {
            self.found(Finding::new(Problem::Missing, "the log of the system partition is empty"));
        }
        self.strange_partitions(&positions.map).await?;
        self.compare_state(&word, positions).await
    }

    async fn strange_partitions(&mut self, map: &PartitionMap) -> Result<(), ReadError> {
        let mut known: Vec<PartitionId> = map.ids().chain([PartitionId::SYSTEM]).collect();
        known.sort();
        let ends = known.iter().map(|partition| self.space.log_span(*partition, Slot(0)).end);
        let starts = known.iter().skip(1).map(|partition| self.space.log_span(*partition, Slot(0)).start);
        let starts = starts.chain([self.space.index_span().start]);
        // What lies behind each log, up to the next.
        for (start, end) in ends.zip(starts).collect::<Vec<_>>() {
            let mut pages = Pages::of(layout::Span { start, end }, Phase::System);
            while let Some((key, _)) = pages.next(self).await? {
                let text = "there is a record of the log of a partition that does not exist";
                self.found(Finding::new(Problem::Unknown, text).record(&key));
            }
        }
        Ok(())
    }

    async fn compare_state(&mut self, word: &LastWord, positions: &Positions) -> Result<(), ReadError> {
        if let Some(compacted) = word.compacted.filter(|told| Some(*told) != positions.compacted) {
            let stored = positions.compacted.map_or_else(|| "nothing".to_owned(), |it| it.to_string());
            let text =
                format!("the log says that it is compacted at {compacted}, and the record says {stored}");
            let finding = Finding::new(Problem::Contradiction, text).at(compacted);
            self.found(finding.record(&self.space.compacted_key()));
        }
        let mut leases: Vec<_> = word.leases.iter().collect();
        leases.sort_unstable_by_key(|(lease, _)| lease.0);
        for (lease, word) in leases {
            self.compare_lease(*lease, *word).await?;
        }
        for (alarm, raised) in &word.alarms {
            let key = self.space.alarm_key(*alarm);
            let record = match self.snapshot.get(&key).await {
                // It was told when the alarms were read.
                Err(ReadError::Corrupt(_)) => continue,
                record => record?,
            };
            if record.is_some() != *raised {
                let text = "the log says another thing about an alarm than its record";
                self.found(Finding::new(Problem::Contradiction, text).record(&key));
            }
        }
        Ok(())
    }

    async fn compare_lease(&mut self, lease: LeaseId, word: LeaseWord) -> Result<(), ReadError> {
        let key = self.space.lease_key(lease);
        let record = match self.snapshot.get(&key).await {
            Ok(record) => record,
            // It was told when the leases were read.
            Err(ReadError::Corrupt(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let stored = match record.map(|record| self.space.decode_system(&key, &record)) {
            Some(Ok(SystemRecord::Lease(_, record))) => Some(record),
            Some(_) => return Ok(()),
            None => None,
        };
        let (problem, what) = match (word, stored) {
            (LeaseWord::Granted(_) | LeaseWord::Revoking, None) => {
                (Problem::Missing, "and its record is missing")
            }
            (LeaseWord::Revoked, Some(_)) => (Problem::Leftover, "and its record is there"),
            (LeaseWord::Granted(told), Some(LeaseRecord { ttl_secs, revoking }))
                if told != ttl_secs || revoking =>
            {
                (Problem::Contradiction, "and its record says something else")
            }
            (LeaseWord::Revoking, Some(LeaseRecord { revoking: false, .. })) => {
                (Problem::Contradiction, "and its record does not")
            }
            _ => return Ok(()),
        };
        let word = match word {
            LeaseWord::Granted(ttl_secs) => format!("granted for {ttl_secs} s"),
            LeaseWord::Revoking => "being revoked".to_owned(),
            LeaseWord::Revoked => "revoked".to_owned(),
        };
        let text = format!("the log says that the lease {:x} is {word}, {what}", lease.0);
        self.found(Finding::new(problem, text).record(&key));
        Ok(())
    }
}
