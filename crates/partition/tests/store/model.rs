//! What a store must tell: every state written out, and every event.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Event, KeyRange, LeaseId, RangeOp, ReadRevision, Revision};
use partition::{ChunkLimits, ReadFailure, UserKeys};

use crate::common::EngineView;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub value: Bytes,
    pub lease: LeaseId,
}

pub fn decode(key_value: &Bytes) -> KeyValue {
    let meta = layout::object::meta_of(key_value).unwrap();
    KeyValue {
        key: layout::object::key_of(key_value).unwrap(),
        create: meta.create_revision.get(),
        modified: meta.mod_revision.get(),
        version: meta.version,
        value: layout::object::value_of(key_value).unwrap(),
        lease: meta.lease,
    }
}

type State = BTreeMap<Bytes, KeyValue>;

/// An event: the key, its revision, the new version, and the one that it replaced.
pub type Happened = (Bytes, i64, Option<KeyValue>, Option<KeyValue>);

/// A change of one key.
#[derive(Clone, Debug)]
pub enum Write {
    Put(Bytes, Bytes, LeaseId),
    Delete(Bytes),
}

/// Everything that a store has gone through. The state at revision `r` is `states[r]`.
pub struct History {
    states: Vec<State>,
    events: Vec<Happened>,
    pub compacted: i64,
}

impl Default for History {
    fn default() -> History {
        History { states: vec![State::new(); 2], events: Vec::new(), compacted: 0 }
    }
}

impl History {
    pub fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub fn newest(&self) -> &State {
        self.states.last().unwrap()
    }

    /// One transaction that changed these keys.
    pub fn write(&mut self, writes: &[Write]) {
        let revision = self.revision() + 1;
        let mut state = self.newest().clone();
        for write in writes {
            match write {
                Write::Put(key, value, lease) => {
                    let before = state.get(key).cloned();
                    let kv = KeyValue {
                        key: key.clone(),
                        create: before.as_ref().map_or(revision, |kv| kv.create),
                        modified: revision,
                        version: before.as_ref().map_or(0, |kv| kv.version) + 1,
                        value: value.clone(),
                        lease: *lease,
                    };
                    state.insert(key.clone(), kv.clone());
                    self.events.push((key.clone(), revision, Some(kv), before));
                }
                Write::Delete(key) => {
                    let before = state.remove(key);
                    assert!(before.is_some(), "only what exists is deleted");
                    self.events.push((key.clone(), revision, None, before));
                }
            }
        }
        self.states.push(state);
    }

    /// Nothing happened up to this revision: with several partitions some numbers come to nothing.
    pub fn skip_to(&mut self, revision: i64) {
        while self.revision() < revision {
            self.states.push(self.newest().clone());
        }
    }

    pub fn in_range(&self, range: &KeyRange, revision: i64) -> Vec<KeyValue> {
        let state = &self.states[revision as usize];
        state.values().filter(|kv| range.contains(&kv.key)).cloned().collect()
    }

    pub fn events(&self, range: &KeyRange, from: i64) -> Vec<Happened> {
        let wanted = |event: &&Happened| event.1 >= from && range.contains(&event.0);
        self.events.iter().filter(wanted).cloned().collect()
    }

    /// Compares what the partition tells with what happened: every state and every event not compacted.
    pub async fn check(&self, partition: &UserKeys, range: &KeyRange) {
        assert_eq!(partition.revision().get(), self.revision());
        assert_eq!(partition.key_count(), self.newest().len());
        self.check_bounds(partition).await;
        for revision in self.compacted.max(1)..=self.revision() {
            self.check_state(partition, range, revision).await;
        }
        for from in self.compacted.max(1)..=self.revision() + 2 {
            self.check_events(partition, range, from).await;
        }
    }

    async fn check_bounds(&self, partition: &UserKeys) {
        let open = async |revision| partition.view(ReadRevision::At(Revision::new(revision))).await.map(drop);
        assert_eq!(open(self.revision() + 1).await, Err(ReadFailure::FutureRevision));
        if self.compacted > 1 {
            let compacted = Err(ReadFailure::Compacted(Revision::new(self.compacted)));
            assert_eq!(open(self.compacted - 1).await, compacted);
            match partition.events(Revision::new(self.compacted - 1), &KeyRange::all()).await {
                Err(failure) => assert_eq!(Err(failure), compacted),
                // Memory may still have them: then they are right.
                Ok(page) => {
                    let expected = self.events(&KeyRange::all(), self.compacted - 1);
                    let told: Vec<_> = page.events.iter().map(|event| event.change.revision.get()).collect();
                    let expected: Vec<_> = expected.iter().map(|event| event.1).collect();
                    assert_eq!(told, expected[..told.len()]);
                }
            }
        }
    }

    pub async fn check_state(&self, partition: &UserKeys, range: &KeyRange, revision: i64) {
        let view = partition.view(ReadRevision::At(Revision::new(revision))).await.unwrap();
        let expected = self.in_range(range, revision);
        let context = format!("{range:?} at {revision}");
        assert_eq!(view.count(range).await.unwrap(), expected.len(), "{context}");
        for limit in [0, 1, 3] {
            let outcome = view.range(&RangeOp { limit, ..RangeOp::of(range.clone()) }).await.unwrap();
            let cut = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
            let versions: Vec<_> = outcome.versions.iter().map(decode).collect();
            assert_eq!(versions, expected[..cut], "{context}, limit {limit}");
            assert_eq!((outcome.count, outcome.more), (expected.len(), cut < expected.len()), "{context}");
        }
        let keys_only = view.range(&RangeOp { keys_only: true, ..RangeOp::of(range.clone()) }).await.unwrap();
        let without_values =
            |kv: &KeyValue| KeyValue { value: Bytes::new(), lease: LeaseId::NONE, ..kv.clone() };
        let keys: Vec<_> = expected.iter().map(without_values).collect();
        assert_eq!(keys_only.versions.iter().map(decode).collect::<Vec<_>>(), keys, "{context}");
        for (keys_max, bytes_max) in [(1, usize::MAX), (usize::MAX, 1), (2, 20), (0, 0)] {
            let limits = ChunkLimits { keys_max, bytes_max, keys_only: false };
            let mut streamed = Vec::new();
            let mut rest = Some(range.clone());
            while let Some(range) = rest {
                let chunk = view.chunk(&range, limits).await.unwrap();
                assert!(chunk.versions.len() <= keys_max.max(1), "{context}");
                streamed.extend(chunk.versions.iter().map(decode));
                rest = chunk.rest;
            }
            assert_eq!(streamed, expected, "{context}, in chunks of {limits:?}");
        }
    }

    pub async fn check_events(&self, partition: &UserKeys, range: &KeyRange, from: i64) {
        let mut told = Vec::new();
        let mut next = Revision::new(from);
        loop {
            let page = partition.events(next, range).await.unwrap();
            if page.through < next {
                assert!(page.events.is_empty() && page.through.get() + 1 == next.get());
                break;
            }
            assert!(page.through.get() <= self.revision(), "nothing is told before it is published");
            for event in &page.events {
                assert!(next <= event.change.revision && event.change.revision <= page.through);
                told.push(happened(partition, event).await);
            }
            next = page.through.next();
        }
        assert!(next.get() > self.revision());
        assert_eq!(told, self.events(range, from), "{range:?} from {from}");
    }

    /// What must lie in the engine, whatever happened.
    pub async fn check_engine(&self, engine: &EngineView) {
        let live: Vec<_> =
            engine.index().await.into_iter().map(|(key, meta)| (key, meta.mod_revision.get())).collect();
        let expected: Vec<_> = self
            .newest()
            .values()
            .map(|kv| (model::Key::new(kv.key.clone()).unwrap(), kv.modified))
            .collect();
        assert_eq!(live, expected, "one index record for each live key");
        let mut newest = 0;
        for partition in engine.partitions().await {
            let slots = engine.slots(partition).await;
            for pair in slots.windows(2) {
                let ((slot, record), (next_slot, next)) = (&pair[0], &pair[1]);
                let hole = slot.next() != *next_slot;
                assert!(
                    !hole || record.revision.get() < self.compacted,
                    "slots go below the compacted revision only"
                );
                assert!(record.revision <= next.revision && record.epoch <= next.epoch);
            }
            newest = newest.max(slots.last().unwrap().1.revision.get());
        }
        let last = self.events.last().map_or(1, |event| event.1);
        assert_eq!(newest, last, "the logs end with the newest change");
    }
}

pub async fn happened(partition: &UserKeys, event: &Event) -> Happened {
    let previous = partition.previous(event).await.unwrap();
    let key_value = decode(&event.key_value);
    assert_eq!(key_value.modified, event.change.revision.get());
    let new = (!event.is_delete()).then(|| key_value.clone());
    (key_value.key, key_value.modified, new, previous.as_ref().map(decode))
}
