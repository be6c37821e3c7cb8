//! A process that follows another one: it tells the same states and events, whatever becomes of what it is sent, and
//! leads later without loading anything again.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use model::{EventBatch, KeyRange, ReadRevision, Revision};
use parking_lot::Mutex;
use partition::{
    Applied, Authority, Confirmed, Follower, NotConfirmed, ReadFailure, Replica, Settings, SystemFailure,
    Through, TxnFailure, UserKeys,
};
use proptest::prelude::*;

use crate::common::{Machine, forgetful, put, retentive, settle};
use crate::histories::{any_settings, any_write, delete_range, range_of, write};
use crate::model::History;

/// What the owner sent and the follower has not received.
#[derive(Default)]
struct Wire(Mutex<VecDeque<Arc<EventBatch>>>);

impl Follower for Wire {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.0.lock().push_back(batch.clone());
    }
}

impl Wire {
    fn from(owner: &Machine) -> Arc<Wire> {
        let wire = Arc::new(Wire::default());
        owner.store.keys.follow(wire.clone());
        wire
    }

    fn next(&self) -> Option<Arc<EventBatch>> {
        self.0.lock().pop_front()
    }
}

/// Asks the owner directly.
struct Direct(UserKeys);

#[async_trait]
impl Authority for Direct {
    async fn confirm(&self) -> Result<Confirmed, NotConfirmed> {
        self.0.confirm().await?;
        Ok(Confirmed { revision: self.0.revision(), compacted: self.0.compacted() })
    }
}

fn ask(follower: &Machine, owner: &Machine) {
    follower.store.ask_through(Arc::new(Direct(owner.store.keys.clone())));
}

#[derive(Clone, Debug)]
enum Step {
    Writes(Vec<Vec<(usize, Option<String>)>>),
    DeleteRange(usize, usize),
    /// The next batch arrives, is lost, or arrives twice.
    Arrives,
    Lost,
    Twice,
    /// All arrive, what was lost is read from the log, and the follower tells what the owner does.
    Check(usize, usize),
    /// As `Check`, then the owner compacts at this many hundredths.
    Compact(i64),
    /// The follower takes over, and another one follows it.
    TakesOver,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(any_write(), 1..5).prop_map(Step::Writes),
        1 => (0..7usize, 0..7usize).prop_map(|(start, end)| Step::DeleteRange(start, end)),
        6 => Just(Step::Arrives),
        2 => Just(Step::Lost),
        2 => Just(Step::Twice),
        1 => (0..7usize, 0..7usize).prop_map(|(start, end)| Step::Check(start, end)),
        1 => (0..=100i64).prop_map(Step::Compact),
        1 => Just(Step::TakesOver),
    ]
}

/// Gives a batch to a replica, and has it look for what is missing before.
async fn give(replica: &Replica, batch: Arc<EventBatch>) {
    if replica.apply(batch.clone()).await == Applied::Gap {
        replica.catch_up(Through::Published(batch.after)).await.unwrap();
        assert_eq!(replica.apply(batch).await, Applied::Done, "the log has every batch that was lost");
    }
}

/// Everything arrives, or is read from the log where it was lost.
async fn arrive(replica: &Replica, wire: &Wire) {
    while let Some(batch) = wire.next() {
        give(replica, batch).await;
    }
    // The newest may have been lost: it is in the newest slot.
    replica.catch_up(Through::AllButNewest).await.unwrap();
    replica.catch_up(Through::End).await.unwrap();
}

async fn run(settings: Settings, steps: Vec<Step>) {
    let mut owner = Machine::start(settings).await;
    let mut history = History::default();
    let mut seed = 100;
    let (mut follower, mut candidate) = owner.follower(seed).await;
    ask(&follower, &owner);
    let mut wire = Wire::from(&owner);
    for step in steps {
        let replica = follower.store.replica();
        match step {
            Step::Writes(transactions) => write(&owner, &mut history, &transactions).await,
            Step::DeleteRange(start, end) => {
                delete_range(&owner, &mut history, range_of(start, end)).await;
            }
            Step::Arrives => {
                if let Some(batch) = wire.next() {
                    give(&replica, batch).await;
                }
            }
            Step::Lost => drop(wire.next()),
            Step::Twice => {
                if let Some(batch) = wire.next() {
                    give(&replica, batch.clone()).await;
                    assert_eq!(replica.apply(batch).await, Applied::Known);
                }
            }
            Step::Check(start, end) => {
                arrive(&replica, &wire).await;
                history.check(&follower.store.keys, &range_of(start, end)).await;
            }
            Step::Compact(share) => {
                arrive(&replica, &wire).await;
                let revision = history.compacted + (history.revision() - history.compacted) * share / 100;
                if revision > history.compacted {
                    owner.compact(revision).await;
                    history.compacted = revision;
                }
                history.check(&follower.store.keys, &KeyRange::all()).await;
            }
            Step::TakesOver => {
                // Without what is still on its way: it is in the log.
                candidate.lead().await.unwrap();
                owner.stop().await;
                owner = follower;
                history.check(&owner.store.keys, &KeyRange::all()).await;
                seed += 1;
                (follower, candidate) = owner.follower(seed).await;
                ask(&follower, &owner);
                wire = Wire::from(&owner);
            }
        }
    }
    arrive(&follower.store.replica(), &wire).await;
    history.check(&follower.store.keys, &KeyRange::all()).await;
    history.check(&owner.store.keys, &KeyRange::all()).await;
    history.check_engine(&owner.engine_view()).await;
    // It holds a handle of the owner's, to ask.
    drop((follower, candidate));
    owner.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_follower_tells_what_the_owner_does_whatever_becomes_of_what_it_is_sent(
        settings in any_settings(),
        steps in proptest::collection::vec(any_step(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(settings, steps));
    }
}

#[tokio::test]
async fn a_read_at_a_follower_waits_for_what_was_acknowledged_before() {
    let owner = Machine::start(retentive()).await;
    let (follower, _candidate) = owner.follower(2).await;
    ask(&follower, &owner);
    let wire = Wire::from(&owner);
    let written = owner.put("a", "1").await;
    let partition = follower.store.keys.clone();
    let known = partition.serializable_view(ReadRevision::Latest).await.unwrap();
    assert_eq!(known.revision(), written.previous(), "what it knows, without asking");
    let mut reading = std::pin::pin!(partition.view(ReadRevision::Latest));
    assert!(futures_util::poll!(&mut reading).is_pending(), "it has been told what it has to wait for");
    arrive(&follower.store.replica(), &wire).await;
    assert_eq!(reading.await.unwrap().revision(), written);
}

#[tokio::test]
async fn a_read_at_a_follower_that_hears_nothing_fails_in_time() {
    let owner = Machine::start(retentive()).await;
    let (follower, _candidate) = owner.follower(2).await;
    let partition = &follower.store.keys;
    let alone = partition.view(ReadRevision::Latest).await.map(drop).unwrap_err();
    assert!(matches!(alone, ReadFailure::Unavailable(_)), "nobody to ask: {alone}");
    ask(&follower, &owner);
    owner.put("a", "1").await;
    let behind = partition.view(ReadRevision::Latest).await.map(drop).unwrap_err();
    assert_eq!(behind, ReadFailure::Unavailable(NotConfirmed::Behind.to_string()));
}

#[tokio::test]
async fn a_follower_changes_nothing() {
    let owner = Machine::start(retentive()).await;
    let (follower, _candidate) = owner.follower(2).await;
    ask(&follower, &owner);
    let refused = follower.txn(put("a", "1")).await.unwrap_err();
    assert!(matches!(refused, TxnFailure::Elsewhere), "{refused}");
    let refused = follower.store.system.compact(Revision::FIRST).await.unwrap_err();
    assert!(matches!(refused, SystemFailure::Unavailable(_)), "{refused}");
    assert!(follower.store.system.confirm().await.is_err(), "what it knows of leases may be the past");
    settle().await;
    assert_eq!(owner.revision(), 1);
}

#[tokio::test]
async fn a_compaction_that_the_owner_confirmed_counts_at_the_follower_too() {
    let owner = Machine::start(retentive()).await;
    let (follower, _candidate) = owner.follower(2).await;
    ask(&follower, &owner);
    let wire = Wire::from(&owner);
    let (first, second) = (owner.put("a", "1").await, owner.put("a", "2").await);
    arrive(&follower.store.replica(), &wire).await;
    owner.compact(second.get()).await;
    let refused = follower.store.keys.view(ReadRevision::At(first)).await.map(drop);
    assert_eq!(refused, Err(ReadFailure::Compacted(second)));
}

#[tokio::test]
async fn a_read_at_a_follower_that_is_behind_a_compaction_waits_for_what_is_above() {
    let owner = Machine::start(retentive()).await;
    let (follower, _candidate) = owner.follower(2).await;
    let wire = Wire::from(&owner);
    owner.put("a", "1").await;
    let newest = owner.put("a", "2").await;
    follower.store.replica().compacted(newest);
    let partition = &follower.store.keys;
    let mut reading = std::pin::pin!(partition.serializable_view(ReadRevision::Latest));
    assert!(futures_util::poll!(&mut reading).is_pending(), "the newest that it has is compacted");
    arrive(&follower.store.replica(), &wire).await;
    assert_eq!(reading.await.unwrap().revision(), newest);
}

#[tokio::test]
async fn what_a_follower_reads_while_the_owner_reclaims_is_compacted_and_not_absent() {
    let owner = Machine::start(forgetful()).await;
    owner.put("a", "1").await;
    let (follower, _candidate) = owner.follower(2).await;
    let view = follower.store.keys.serializable_view(ReadRevision::Latest).await.unwrap();
    owner.put("a", "2").await;
    // What a change at the compacted revision replaced stays for watchers: only then does the first version go.
    let newest = owner.put("a", "3").await;
    owner.compact(newest.get()).await;
    let all = model::RangeOp::of(KeyRange::all());
    assert_eq!(view.range(&all).await.map(drop), Err(ReadFailure::Compacted(newest)));
}

#[tokio::test]
async fn who_has_missed_what_was_compacted_must_load_anew_and_does_not_lead() {
    let owner = Machine::start(forgetful()).await;
    let (follower, candidate) = owner.follower(2).await;
    owner.put("a", "1").await;
    owner.put("a", "2").await;
    let newest = owner.put("a", "3").await;
    owner.compact(newest.get()).await;
    let missed = follower.store.replica().catch_up(Through::End).await;
    assert_eq!(missed, Err(ReadFailure::Compacted(newest)));
    assert_eq!(candidate.lead().await, Err(partition::OpenFailure::FellBehind(newest)));
    let (fresh, candidate) = owner.follower(3).await;
    candidate.lead().await.unwrap();
    assert_eq!(fresh.put("a", "4").await, newest.next());
}

#[tokio::test]
async fn what_the_owner_has_not_published_is_not_shown_from_the_log() {
    let owner = Machine::start(retentive()).await;
    let (follower, _candidate) = owner.follower(2).await;
    let replica = follower.store.replica();
    let published = owner.put("a", "1").await;
    let newest = owner.put("a", "2").await;
    assert_eq!(
        replica.catch_up(Through::AllButNewest).await,
        Ok(published),
        "whether it heard of the newest is open"
    );
    assert_eq!(replica.catch_up(Through::Published(published)).await, Ok(published));
    assert_eq!(replica.catch_up(Through::Published(newest)).await, Ok(newest));
}

#[tokio::test]
async fn what_was_loaded_is_shown_once_the_leader_has_published_it() {
    let owner = Machine::start(retentive()).await;
    owner.put("a", "1").await;
    let (follower, _candidate) = owner.follower(2).await;
    assert!(follower.store.ready().await.is_err(), "nobody says that it is published");
    struct Says(i64);
    #[async_trait]
    impl Authority for Says {
        async fn confirm(&self) -> Result<Confirmed, NotConfirmed> {
            Ok(Confirmed { revision: Revision::new(self.0), compacted: None })
        }
    }
    follower.store.ask_through(Arc::new(Says(1)));
    assert_eq!(follower.store.ready().await, Err(NotConfirmed::Behind));
    follower.store.ask_through(Arc::new(Says(2)));
    assert_eq!(follower.store.ready().await, Ok(()));
}
