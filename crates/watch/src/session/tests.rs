use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use model::{Change, ChangeKind, EventBatch, Key, KeyMeta, KeyRange, LeaseId};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::history::HistoryPage;
use crate::watcher::Filter;

/// A store's past: all batches, and how far it is compacted.
#[derive(Default)]
struct Past {
    batches: Mutex<Vec<Arc<EventBatch>>>,
    compacted: Mutex<Option<Revision>>,
}

#[async_trait]
impl History for Past {
    async fn events(&self, from: Revision, range: &KeyRange) -> Result<HistoryPage, HistoryError> {
        if let Some(compacted) = self.compacted().filter(|&compacted| from < compacted) {
            return Err(HistoryError::Compacted(compacted));
        }
        let batches = self.batches.lock();
        // Two batches at a time, so that catching up takes several steps.
        let page: Vec<_> = batches.iter().filter(|batch| batch.revision >= from).take(2).collect();
        let events = page.iter().flat_map(|batch| &batch.events);
        let wanted = events
            .filter(|event| event.change.revision >= from && range.contains(event.change.key.as_slice()));
        let through = page.last().map_or(from.previous(), |batch| batch.revision);
        Ok(HistoryPage { events: wanted.cloned().collect(), through })
    }

    fn compacted(&self) -> Option<Revision> {
        *self.compacted.lock()
    }

    async fn previous(&self, event: &Event) -> Result<Option<Bytes>, HistoryError> {
        if let Some(compacted) = self.compacted().filter(|&compacted| event.change.revision < compacted) {
            return Err(HistoryError::Compacted(compacted));
        }
        let previous = event.change.previous;
        Ok((!previous.is_none()).then(|| Bytes::from(previous.get().to_string())))
    }
}

/// A store that can be written to and watched.
struct Store {
    past: Arc<Past>,
    hub: Arc<Hub>,
    keys: BTreeMap<Key, Revision>,
    revision: Revision,
}

impl Store {
    fn new() -> Store {
        let hub = Arc::new(Hub::new(Revision::FIRST));
        Store { past: Arc::default(), hub, keys: BTreeMap::new(), revision: Revision::FIRST }
    }

    fn session(&self) -> Session {
        Session::new(self.hub.clone(), self.past.clone())
    }

    /// Commits transactions as one batch; each is a list of keys and whether to delete them.
    fn commit(&mut self, txns: &[Vec<(&str, bool)>]) {
        let after = self.revision;
        let mut events = Vec::new();
        for txn in txns {
            self.revision = self.revision.next();
            for &(key, delete) in txn {
                events.push(self.event(key, delete));
            }
        }
        let batch = Arc::new(EventBatch { after, revision: self.revision, events });
        self.past.batches.lock().push(batch.clone());
        self.hub.publish(&batch);
    }

    fn event(&mut self, key: &str, delete: bool) -> Arc<Event> {
        let (key, revision) = (Key::new(key.to_owned()).unwrap(), self.revision);
        let previous = self.keys.get(&key).copied().unwrap_or(Revision::NONE);
        let kind = if delete {
            self.keys.remove(&key);
            ChangeKind::Delete
        } else {
            self.keys.insert(key.clone(), revision);
            ChangeKind::Put(KeyMeta {
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: LeaseId::NONE,
                value_len: 0,
            })
        };
        Arc::new(Event::new(Change { revision, key, kind, previous }, Bytes::from(vec![0; 64])))
    }

    fn put(&mut self, key: &str) {
        self.commit(&[vec![(key, false)]]);
    }

    fn compact(&self, revision: Revision) {
        *self.past.compacted.lock() = Some(revision);
    }
}

fn request(start: &str, end: &str, from: Option<i64>) -> Request {
    Request {
        range: KeyRange::between(&Key::new(start.to_owned()).unwrap(), end.to_owned()),
        start: from.map(Revision::new),
        id: None,
        filter: Filter::default(),
        previous: true,
        progress: false,
    }
}

/// The next update if there is one without waiting.
fn poll(session: &mut Session) -> Option<Update> {
    let next = pin!(session.next());
    match next.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(update) => Some(update.unwrap()),
        Poll::Pending => None,
    }
}

/// An update in a line: what the tests state.
fn line(update: Option<Update>) -> String {
    match update {
        None => "-".to_owned(),
        Some(Update::Progress { id, revision }) => {
            format!("progress {} {revision}", id.map_or(-1, |id| id.0))
        }
        Some(Update::Compacted { id, compacted, .. }) => format!("compacted {} {compacted}", id.0),
        Some(Update::Events { id, events, revision }) => {
            let event = |(event, previous): &(Arc<Event>, Option<Bytes>)| {
                let what = if event.is_delete() { "del" } else { "put" };
                let before =
                    previous.as_ref().map_or(String::new(), |_| format!("<{}", event.change.previous));
                format!("{what} {}@{}{before}", event.change.key, event.change.revision)
            };
            let events: Vec<_> = events.iter().map(event).collect();
            format!("{} [{}] {revision}", id.0, events.join(", "))
        }
    }
}

#[test]
fn a_watcher_hears_of_its_range_from_now_on() {
    let mut store = Store::new();
    store.put("pods/a");
    let mut session = store.session();
    let watched = session.watch(request("pods/", "pods0", None)).unwrap();
    assert_eq!(watched, Watched { id: WatchId(0), revision: Revision::new(2) });
    assert_eq!(line(poll(&mut session)), "-");
    store.put("podtemplates/a");
    assert_eq!(line(poll(&mut session)), "-");
    store.commit(&[vec![("pods/a", true), ("pods/b", false)], vec![("pods/b", false)]]);
    assert_eq!(
        line(poll(&mut session)),
        "0 [del pods/a@4<2, put pods/b@4, put pods/b@5<4] 5",
        "the events of a transaction come together, with the versions that they replaced"
    );
    assert_eq!(line(poll(&mut session)), "-");
}

#[test]
fn a_watcher_that_starts_in_the_past_catches_up_and_then_keeps_up() {
    let mut store = Store::new();
    for _ in 0..5 {
        store.put("a");
    }
    let mut session = store.session();
    session.watch(request("a", "b", Some(3))).unwrap();
    assert_eq!(line(poll(&mut session)), "0 [put a@3<2, put a@4<3] 4");
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@5<4, put a@6<5] 6");
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@7<6, put a@8<7] 8");
    assert_eq!(line(poll(&mut session)), "-");
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@9<8] 9");
}

#[test]
fn a_watcher_may_start_at_the_revision_of_an_empty_store() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(request("a", "b", Some(1))).unwrap();
    session.request_progress();
    assert_eq!(line(poll(&mut session)), "progress -1 1");
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@2] 2");
}

#[test]
fn a_watcher_that_starts_in_the_future_hears_nothing_before() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(Request { progress: true, ..request("a", "b", Some(4)) }).unwrap();
    store.put("a");
    store.put("a");
    session.tick();
    session.request_progress();
    assert_eq!(line(poll(&mut session)), "-", "neither events nor progress below its start");
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@4<3] 4");
    assert_eq!(line(poll(&mut session)), "progress -1 4", "the question is answered when there is an answer");
}

#[test]
fn a_watcher_may_start_at_the_compacted_revision_but_not_below() {
    let mut store = Store::new();
    for _ in 0..4 {
        store.put("a");
    }
    store.compact(Revision::new(4));
    let mut session = store.session();
    session.watch(request("a", "b", Some(3))).unwrap();
    session.watch(Request { previous: false, ..request("a", "b", Some(4)) }).unwrap();
    assert_eq!(line(poll(&mut session)), "compacted 0 4");
    assert_eq!(line(poll(&mut session)), "1 [put a@4, put a@5] 5");
    assert!(!session.cancel(WatchId(0)), "a compacted watcher is gone");
}

#[test]
fn a_watcher_that_begins_at_the_compacted_revision_is_told_where_previous_values_begin() {
    let mut store = Store::new();
    for _ in 0..4 {
        store.put("a");
    }
    store.put("b");
    store.compact(Revision::new(4));
    let mut session = store.session();
    session.watch(request("a", "b", Some(4))).unwrap();
    session.watch(request("b", "c", Some(4))).unwrap();
    assert_eq!(line(poll(&mut session)), "compacted 0 5");
    assert_eq!(line(poll(&mut session)), "1 [put b@6] 6", "nobody is cancelled for what another one misses");
    session.watch(request("a", "b", Some(5))).unwrap();
    assert_eq!(line(poll(&mut session)), "2 [put a@5<4] 6");
}

#[test]
fn an_idle_watcher_survives_every_compaction() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(request("a", "b", None)).unwrap();
    for _ in 0..9 {
        store.put("z");
    }
    store.compact(Revision::new(10));
    assert_eq!(line(poll(&mut session)), "-");
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@11] 11");
}

#[test]
fn an_event_whose_previous_version_is_gone_ends_the_watcher_instead_of_coming_without() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(request("a", "b", None)).unwrap();
    store.put("a");
    store.put("a");
    store.put("z");
    store.compact(Revision::new(4));
    assert_eq!(line(poll(&mut session)), "compacted 0 4");
}

#[test]
fn progress_waits_until_every_watcher_of_the_stream_has_everything() {
    let mut store = Store::new();
    for _ in 0..6 {
        store.put("a");
    }
    let mut session = store.session();
    session.request_progress();
    assert_eq!(line(poll(&mut session)), "-", "there is nobody whose progress it could be");
    session.watch(request("z", "zz", None)).unwrap();
    session.watch(request("a", "b", Some(2))).unwrap();
    let told: Vec<_> = std::iter::from_fn(|| poll(&mut session)).map(|update| line(Some(update))).collect();
    assert_eq!(told.last().unwrap(), "progress -1 7");
    assert_eq!(told.len(), 4, "three steps of history came first: {told:?}");
}

#[test]
fn a_tick_makes_those_speak_who_were_told_nothing() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(Request { progress: true, ..request("a", "b", None) }).unwrap();
    session.watch(Request { progress: true, ..request("c", "d", None) }).unwrap();
    session.watch(request("e", "f", None)).unwrap();
    store.put("a");
    assert_eq!(line(poll(&mut session)), "0 [put a@2] 2");
    session.tick();
    assert_eq!(line(poll(&mut session)), "progress 1 2");
    assert_eq!(line(poll(&mut session)), "-");
    session.tick();
    let mut told = [line(poll(&mut session)), line(poll(&mut session))];
    told.sort();
    assert_eq!(told, ["progress 0 2", "progress 1 2"]);
}

#[test]
fn numbers_are_given_in_order_and_taken_ones_are_refused() {
    let store = Store::new();
    let mut session = store.session();
    let with_id = |id| Request { id: Some(WatchId(id)), ..request("a", "b", None) };
    assert_eq!(session.watch(with_id(1)).unwrap().id, WatchId(1));
    assert_eq!(session.watch(with_id(1)), Err(Refusal::DuplicateId));
    assert_eq!(session.watch(request("a", "b", None)).unwrap().id, WatchId(0));
    assert_eq!(session.watch(request("a", "b", None)).unwrap().id, WatchId(2));
    assert_eq!(session.watch(request("b", "b", None)), Err(Refusal::EmptyRange));
    assert!(session.cancel(WatchId(0)) && !session.cancel(WatchId(0)));
    assert_eq!(store.hub.member_count(), 2);
    drop(session);
    assert_eq!(store.hub.member_count(), 0, "a stream that ends leaves nothing behind");
}

#[test]
fn a_filter_leaves_out_what_it_names() {
    let mut store = Store::new();
    let mut session = store.session();
    let only =
        |no_put, no_delete| Request { filter: Filter { no_put, no_delete }, ..request("a", "b", None) };
    session.watch(only(true, false)).unwrap();
    session.watch(only(false, true)).unwrap();
    store.put("a");
    store.commit(&[vec![("a", true)]]);
    let mut told = [line(poll(&mut session)), line(poll(&mut session))];
    told.sort();
    assert_eq!(told, ["0 [del a@3<2] 3", "1 [put a@2] 2"]);
}

#[test]
fn a_watcher_that_does_not_take_its_events_reads_them_from_history_later() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(request("a", "b", None)).unwrap();
    let batches = crate::watcher::HANDED_MAX + 50;
    for _ in 0..batches {
        store.put("a");
    }
    let mut seen = Vec::new();
    while let Some(Update::Events { events, .. }) = poll(&mut session) {
        seen.extend(events.iter().map(|(event, _)| event.change.revision.get()));
    }
    assert_eq!(seen, (2..=batches as i64 + 1).collect::<Vec<_>>());
}

#[test]
fn a_stuck_watcher_holds_a_bounded_part_of_what_history_forgets() {
    let mut store = Store::new();
    let mut session = store.session();
    session.watch(request("a", "b", None)).unwrap();
    let large = Bytes::from(vec![0; 1 << 20]);
    let mut weak = Vec::new();
    for _ in 0..40 {
        store.revision = store.revision.next();
        let event = store.event("a", false);
        let event = Arc::new(Event::new(event.change.clone(), large.clone()));
        weak.push(Arc::downgrade(&event));
        let batch =
            EventBatch { after: store.revision.previous(), revision: store.revision, events: vec![event] };
        store.hub.publish(&batch);
    }
    let held = weak.iter().filter(|event| event.strong_count() > 0).count();
    assert_eq!(held, crate::watcher::HANDED_BYTES_MAX >> 20);
}

/// What a client can do, and what the store can do meanwhile.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Vec<(u8, bool)>>),
    Watch { start: u8, end: u8, from: Option<u8>, progress: bool },
    Cancel(u8),
    Progress,
    Tick,
    Take(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let txn = proptest::collection::vec((0..6u8, any::<bool>()), 1..4);
    prop_oneof![
        4 => proptest::collection::vec(txn, 1..4).prop_map(Step::Commit),
        2 => (0..6u8, 1..7u8, proptest::option::of(0..40u8), any::<bool>())
            .prop_map(|(start, end, from, progress)| Step::Watch { start, end, from, progress }),
        1 => (0..8u8).prop_map(Step::Cancel),
        1 => Just(Step::Progress),
        1 => Just(Step::Tick),
        4 => (1..6u8).prop_map(Step::Take),
    ]
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// A watcher as the client sees it: what it asked for, and what came.
struct Seen {
    range: KeyRange,
    from: Revision,
    events: Vec<(Revision, Key)>,
    /// Everything through here must have come.
    told: Revision,
}

impl Seen {
    fn expected(&self, store: &Store, through: Revision) -> Vec<(Revision, Key)> {
        let batches = store.past.batches.lock();
        let events = batches.iter().flat_map(|batch| &batch.events);
        let wanted = events.filter(|event| {
            let revision = event.change.revision;
            revision >= self.from && revision <= through && self.range.contains(event.change.key.as_slice())
        });
        wanted.map(|event| (event.change.revision, event.change.key.clone())).collect()
    }

    fn assert_complete(&self, store: &Store, through: Revision) {
        assert_eq!(
            self.events,
            self.expected(store, through),
            "everything through {through}, once, in order"
        );
    }
}

fn take(store: &Store, session: &mut Session, seen: &mut BTreeMap<WatchId, Seen>) -> bool {
    match poll(session) {
        None => return false,
        Some(Update::Events { id, events, revision }) => {
            let watcher = seen.get_mut(&id).unwrap();
            assert!(revision >= watcher.told, "a header does not go back");
            watcher
                .events
                .extend(events.iter().map(|(event, _)| (event.change.revision, event.change.key.clone())));
            watcher.told = revision;
            watcher.assert_complete(store, revision);
        }
        Some(Update::Progress { id, revision }) => {
            for (&other, watcher) in &mut *seen {
                if id.is_none_or(|id| id == other) {
                    assert!(revision >= watcher.told);
                    watcher.told = revision;
                    watcher.assert_complete(store, revision);
                }
            }
        }
        Some(Update::Compacted { .. }) => panic!("nothing was compacted"),
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the client and the store do: each watcher gets every event from its start on, once, in order, whole
    /// revisions only, and no header or progress runs ahead of what was sent.
    #[test]
    fn every_watcher_gets_everything_once_and_in_order(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut store = Store::new();
        let mut session = store.session();
        let mut seen: BTreeMap<WatchId, Seen> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(txns) => {
                    let named = |(key, delete): &(u8, bool)| (NAMES[usize::from(*key)], *delete);
                    let txns: Vec<Vec<_>> = txns.iter().map(|txn| {
                        let mut txn: Vec<_> = txn.iter().map(named).collect();
                        txn.sort_unstable();
                        txn.dedup_by_key(|(key, _)| *key);
                        txn
                    }).collect();
                    store.commit(&txns);
                }
                Step::Watch { start, end, from, progress } => {
                    let (start, end) = (NAMES[usize::from(start)], NAMES[usize::from(end)]);
                    let request = Request { progress, ..request(start, end, from.map(i64::from)) };
                    let range = request.range.clone();
                    let Ok(watched) = session.watch(request) else { continue };
                    let from = from.map_or(watched.revision.next(), |from| Revision::new(i64::from(from)));
                    seen.insert(watched.id, Seen { range, from, events: Vec::new(), told: Revision::NONE });
                }
                Step::Cancel(id) => {
                    let id = WatchId(i64::from(id));
                    prop_assert_eq!(session.cancel(id), seen.remove(&id).is_some());
                }
                Step::Progress => session.request_progress(),
                Step::Tick => session.tick(),
                Step::Take(count) => {
                    for _ in 0..count {
                        take(&store, &mut session, &mut seen);
                    }
                }
            }
        }
        while take(&store, &mut session, &mut seen) {}
        for watcher in seen.values() {
            watcher.assert_complete(&store, store.revision);
        }
    }
}
