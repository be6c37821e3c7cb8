//! Clients that watch: over streams that break, from any revision, and every event is held against what happened.

use std::time::Duration;

use ::watch::{Filter, Request, Session, Update, WatchId};
use bytes::Bytes;
use model::{Event, KeyRange, Revision};
use tokio::sync::{mpsc, watch};

use super::Client;
use crate::history::{Happened, KeyValue};
use crate::process::Process;

/// Updates on their way to the client; then the stream waits for it.
const ON_THE_WAY_MAX: usize = 2;
/// How long a client that waits for the end lets pass before it asks for progress again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a client asks of its stream.
enum Ask {
    Watch(usize, Request),
    Progress,
    Tick,
}

/// What the stream sends.
enum Sent {
    Watching(usize, WatchId, Revision),
    Update(Update),
}

/// One of a client's watchers. It outlives streams.
struct Watching {
    /// What anybody had been told when it was asked for.
    floor: i64,
    range: KeyRange,
    filter: Filter,
    previous: bool,
    /// Everything of it before this revision was told; 0 as long as it began nowhere.
    next: i64,
    /// Its number on the stream, once it is made there.
    id: Option<WatchId>,
}

/// Watches until everything through the revision that `end` says in the end was told.
pub(crate) async fn watch(client: Client, end: watch::Receiver<Option<i64>>) {
    let watchers = 1 + client.world.below(4);
    let mut watchings: Vec<Watching> = (0..watchers).map(|_| client.watching()).collect();
    while !client.follow(&mut watchings, end.clone()).await {
        client.world.tell(|| format!("client {}: its stream broke", client.number));
        client.world.linger(client.plan.pause_max).await;
    }
}

impl Client {
    fn watching(&self) -> Watching {
        let next = match self.world.below(3) {
            0 => 0,
            1 => 1,
            _ => 1 + self.world.below(20) as i64,
        };
        let filter = Filter { no_put: self.world.chance(100), no_delete: self.world.chance(100) };
        // A watcher of an empty range would be refused.
        let drawn = self.range();
        let range = if drawn.is_empty() { KeyRange::all() } else { drawn };
        Watching { floor: 0, range, filter, previous: self.world.chance(700), next, id: None }
    }

    /// Follows one stream. `true` when everything was told, `false` when the stream broke.
    async fn follow(&self, watchings: &mut [Watching], mut end: watch::Receiver<Option<i64>>) -> bool {
        let (ask, asked) = mpsc::channel(2 * watchings.len());
        let (send, mut sent) = mpsc::channel(ON_THE_WAY_MAX);
        let process = self.host.any().await;
        self.world.spawn(process.group, stream(process, asked, send));
        for (at, watching) in watchings.iter_mut().enumerate() {
            watching.id = None;
            watching.floor = self.oracle.known().told;
            self.watch_again(at, watching, &ask);
        }
        loop {
            let target = *end.borrow();
            let done = target.is_some_and(|target| {
                watchings.iter().all(|watching| watching.id.is_some() && watching.next > target)
            });
            if done {
                return true;
            }
            tokio::select! {
                biased;
                sent = sent.recv() => match sent {
                    Some(sent) => self.take(sent, watchings, &ask),
                    None => return false,
                },
                _ = end.changed(), if target.is_none() => {}
                // As etcd, a stream with a watcher that begins in the future says nothing of all of them.
                () = self.world.sleep(ASK_AGAIN_AFTER) => self.nudge(&ask, Ask::Tick),
            }
            if self.world.chance(100) {
                self.nudge(&ask, if self.world.chance(500) { Ask::Progress } else { Ask::Tick });
            }
            if self.world.chance(100) {
                self.world.linger(self.plan.pause_max).await;
            }
        }
    }

    fn watch_again(&self, at: usize, watching: &Watching, ask: &mpsc::Sender<Ask>) {
        let request = Request {
            range: watching.range.clone(),
            start: (watching.next > 0).then(|| Revision::new(watching.next)),
            id: None,
            filter: watching.filter,
            previous: watching.previous,
            progress: true,
        };
        // There is room for one for each watcher.
        let _ = ask.try_send(Ask::Watch(at, request));
    }

    /// Asks for something that can as well be left, as long as there is room for what cannot.
    fn nudge(&self, ask: &mpsc::Sender<Ask>, what: Ask) {
        if ask.capacity() > ask.max_capacity() / 2 {
            let _ = ask.try_send(what);
        }
    }

    fn take(&self, sent: Sent, watchings: &mut [Watching], ask: &mpsc::Sender<Ask>) {
        match sent {
            Sent::Watching(at, id, revision) => {
                let Some(watching) = watchings.get_mut(at) else { return };
                watching.id = Some(id);
                if watching.next == 0 {
                    let floor = watching.floor;
                    self.world.check(revision.get() >= floor, || {
                        format!("a watcher from now on begins at {revision} after {floor} had been told")
                    });
                    watching.next = revision.get() + 1;
                }
            }
            Sent::Update(Update::Events { id, events, revision }) => {
                if let Some(watching) = watchings.iter_mut().find(|watching| watching.id == Some(id)) {
                    self.check_events(watching, &events, revision.get());
                }
            }
            Sent::Update(Update::Progress { id, revision }) => {
                for watching in watchings.iter_mut() {
                    if watching.id.is_some() && id.is_none_or(|id| watching.id == Some(id)) {
                        self.check_events(watching, &[], revision.get());
                    }
                }
            }
            Sent::Update(Update::Compacted { id, compacted, .. }) => {
                let found = watchings.iter_mut().enumerate().find(|(_, watching)| watching.id == Some(id));
                let Some((at, watching)) = found else { return };
                let known = self.oracle.known().compacted();
                // A watcher that begins at the compacted revision may be told the one behind it.
                let next = watching.next;
                self.world.check(next < compacted.get() && compacted.get() <= known + 1, || {
                    format!("a watcher at {next} is cancelled with {compacted}; compacted is {known}")
                });
                watching.id = None;
                watching.next = compacted.get();
                self.watch_again(at, watching, ask);
            }
        }
    }

    /// Invariants 5 and 6: what a watcher is told through `through` is everything that happened, and nothing else.
    fn check_events(
        &self,
        watching: &mut Watching,
        told: &[(std::sync::Arc<Event>, Option<Bytes>)],
        through: i64,
    ) {
        let Watching { range, filter, previous, next, .. } = watching;
        let mut known = self.oracle.known();
        let newest = known.history.revision();
        known.resolve(through);
        self.world
            .tell(|| format!("client {} is told of {range:?} from {next} through {through}", self.number));
        let admitted = |happened: &&Happened| match happened.after {
            Some(_) => !filter.no_put,
            None => !filter.no_delete,
        };
        let events = known.history.events(range, *next, through);
        let expected: Vec<Happened> = events.into_iter().filter(admitted).cloned().collect();
        drop(known);
        self.world.check(through <= newest, || format!("a stream is at {through}, the store at {newest}"));
        let told: Result<Vec<Happened>, String> =
            told.iter().map(|(event, before)| happened(event, before)).collect();
        let expected: Vec<Happened> = expected
            .into_iter()
            .map(|event| if *previous { event } else { Happened { before: None, ..event } })
            .collect();
        self.world.check(told.as_ref() == Ok(&expected), || {
            format!("a watcher of {range:?} at {next} was told {told:?} through {through}, not {expected:?}")
        });
        *next = (*next).max(through + 1);
    }
}

fn happened(event: &Event, before: &Option<Bytes>) -> Result<Happened, String> {
    let version = KeyValue::decode(&event.key_value)?;
    Ok(Happened {
        key: version.key.clone(),
        revision: event.change.revision.get(),
        after: (!event.is_delete()).then_some(version),
        before: before.as_ref().map(KeyValue::decode).transpose()?,
    })
}

/// The process's end of a stream.
async fn stream(process: Process, mut asked: mpsc::Receiver<Ask>, send: mpsc::Sender<Sent>) {
    let Process { store, hub, history, shutdown, .. } = process;
    let mut session = Session::new(hub, history);
    loop {
        let sent = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            ask = asked.recv() => match ask {
                None => return,
                Some(Ask::Progress) => {
                    session.request_progress();
                    continue;
                }
                Some(Ask::Tick) => {
                    session.tick();
                    continue;
                }
                Some(Ask::Watch(at, request)) => {
                    // As the server does it: "from now on" must not be another process's past.
                    if request.start.is_none() && store.keys.confirm().await.is_err() {
                        return;
                    }
                    match session.watch(request) {
                        Ok(watched) => Sent::Watching(at, watched.id, watched.revision),
                        Err(_) => continue,
                    }
                }
            },
            update = session.next() => match update {
                Ok(update) => Sent::Update(update),
                // The stream ends, and the client resumes on another one.
                Err(_) => return,
            },
        };
        if send.send(sent).await.is_err() {
            return;
        }
    }
}
