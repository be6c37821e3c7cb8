//! The lines that are printed. Names of fields are those of etcd's JSON, where it has the same thing.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layout::log::{Body, LogRecord, PartitionId, SystemChange};
use layout::system::Alarm;
use model::{Change, ChangeKind};
use partition::{Content, LogHead};
use serde::Serialize;

/// One line.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    Store {
        cluster_id: u64,
        revision: i64,
        compacted_revision: Option<i64>,
    },
    Revision {
        revision: i64,
        #[serde(flatten)]
        slot: SlotFacts,
        changes: Vec<ChangeLine>,
    },
    System {
        #[serde(flatten)]
        slot: SlotFacts,
        changes: Vec<SystemLine>,
    },
    Takeover {
        #[serde(flatten)]
        slot: SlotFacts,
        owner: String,
        revision: i64,
    },
    Released {
        #[serde(flatten)]
        slot: SlotFacts,
    },
    Filler {
        #[serde(flatten)]
        slot: SlotFacts,
    },
    Gone {
        partition: u32,
        first_slot: u64,
        last_slot: u64,
    },
}

/// Where something stands.
#[derive(Clone, Copy, Serialize)]
pub(super) struct SlotFacts {
    pub(super) partition: u32,
    pub(super) slot: u64,
    pub(super) epoch: u64,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum ChangeLine {
    Put {
        key: String,
        value: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        value_gone: Option<&'static str>,
        lease: i64,
        create_revision: i64,
        version: i64,
        previous_revision: i64,
    },
    Delete {
        key: String,
        previous_revision: i64,
    },
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum SystemLine {
    LeaseGranted { lease: i64, ttl: i64 },
    LeaseRevoking { lease: i64 },
    LeaseRevoked { lease: i64 },
    Compacted { revision: i64 },
    AlarmRaised { alarm: &'static str },
    AlarmCleared { alarm: &'static str },
}

impl Line {
    pub(super) fn store(head: LogHead) -> Line {
        Line::Store {
            cluster_id: head.cluster_id,
            revision: head.revision.get(),
            compacted_revision: head.compacted.map(|compacted| compacted.get()),
        }
    }

    pub(super) fn gone(partition: PartitionId, slots: &RangeInclusive<u64>) -> Line {
        Line::Gone { partition: partition.0, first_slot: *slots.start(), last_slot: *slots.end() }
    }

    /// The changes of one revision, with what they left behind.
    pub(super) fn revision<'c>(
        slot: SlotFacts,
        revision: i64,
        changes: impl Iterator<Item = (&'c Change, Content)>,
    ) -> Line {
        Line::Revision { revision, slot, changes: changes.map(change).collect() }
    }

    /// A slot that changes no user key.
    pub(super) fn other(slot: SlotFacts, record: &LogRecord) -> Line {
        match &record.body {
            Body::System(changes) => Line::System { slot, changes: changes.iter().map(system).collect() },
            Body::Takeover => Line::Takeover {
                slot,
                owner: format!("{:032x}", record.owner.0),
                revision: record.revision.get(),
            },
            Body::Released => Line::Released { slot },
            Body::Filler | Body::Changes(_) => Line::Filler { slot },
        }
    }
}

fn change((change, content): (&Change, Content)) -> ChangeLine {
    let key = STANDARD.encode(change.key.as_slice());
    let previous_revision = change.previous.get();
    let ChangeKind::Put(meta) = change.kind else {
        return ChangeLine::Delete { key, previous_revision };
    };
    let (value, value_gone) = match content {
        Content::Value(value) => (Some(STANDARD.encode(value)), None),
        Content::Reclaimed | Content::Deleted => (None, Some("compacted")),
    };
    ChangeLine::Put {
        key,
        value,
        value_gone,
        lease: meta.lease.0,
        create_revision: meta.create_revision.get(),
        version: meta.version,
        previous_revision,
    }
}

fn system(change: &SystemChange) -> SystemLine {
    match *change {
        SystemChange::LeaseGranted(lease, ttl) => SystemLine::LeaseGranted { lease: lease.0, ttl },
        SystemChange::LeaseRevoking(lease) => SystemLine::LeaseRevoking { lease: lease.0 },
        SystemChange::LeaseRevoked(lease) => SystemLine::LeaseRevoked { lease: lease.0 },
        SystemChange::Compacted(revision) => SystemLine::Compacted { revision: revision.get() },
        SystemChange::AlarmRaised(alarm) => SystemLine::AlarmRaised { alarm: name(alarm) },
        SystemChange::AlarmCleared(alarm) => SystemLine::AlarmCleared { alarm: name(alarm) },
    }
}

fn name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}
