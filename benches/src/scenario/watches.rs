//! Watches: how fast a write reaches all watchers, and how fast history is read again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;

use proto::etcdserverpb::{WatchRequest, WatchResponse};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Stage;
use super::objects::{Objects, fill, updating};
use crate::connection::{Error, Link, Stream};
use crate::drive::{Driven, Pace, Turn, drive};
use crate::requests::{OTHERS, PODS, watch};

/// Clients that write what is watched.
const WRITERS: usize = 8;
/// The most streams that watchers are spread over; each has an equal part of them.
const STREAMS_MAX: usize = 100;
/// Updates that are there before a watch begins in the past, at the least; it also takes as long as a phase.
const PAST_OBJECTS: u64 = 5000;

/// What the watchers have received, by revision.
struct Delivered {
    watchers: usize,
    counts: RefCell<HashMap<i64, usize>>,
    waiting: RefCell<HashMap<i64, oneshot::Sender<()>>>,
}

impl Delivered {
    fn one(&self, revision: i64) {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(revision).or_default();
        *count += 1;
        if *count == self.watchers
            && let Some(waiting) = self.waiting.borrow_mut().remove(&revision)
        {
            counts.remove(&revision);
            // Nobody waits when the run has ended.
            let _ = waiting.send(());
        }
    }

    /// Waits until every watcher has it.
    async fn all_have(&self, revision: i64) -> Result<(), Error> {
        if self.counts.borrow().get(&revision) == Some(&self.watchers) {
            self.counts.borrow_mut().remove(&revision);
            return Ok(());
        }
        let (done, delivered) = oneshot::channel();
        self.waiting.borrow_mut().insert(revision, done);
        Ok(delivered.await?)
    }
}

/// 1 to 1,000 watchers of a prefix. An operation is an event that one watcher received; a latency is from a write to
/// its last watcher.
pub(super) async fn fan_out(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    if !stage.running.system.is_store() {
        return Ok(());
    }
    for watchers in [1, 10, 100, 1000] {
        let row = format!("watch/{watchers}");
        if !stage.wants(&row) {
            continue;
        }
        let delivered =
            Rc::new(Delivered { watchers, counts: RefCell::default(), waiting: RefCell::default() });
        let idle_bytes = stage.running.cost()?.map(|cost| cost.rss_bytes);
        let mut readers = JoinSet::new();
        let streams = watchers.min(STREAMS_MAX);
        for number in 0..streams {
            let stream = opened(&stage.link, number, watchers / streams).await?;
            let delivered = delivered.clone();
            readers.spawn_local(async move { read(stream, &delivered).await });
        }
        let watched_bytes = stage.running.cost()?.map(|cost| cost.rss_bytes);
        let objects = Objects::none(PODS, value_bytes);
        let written = writing(stage, &objects, delivered);
        let driven = async {
            tokio::select! {
                driven = written => driven,
                Some(ended) = readers.join_next() => Err(ended?.err().unwrap_or_else(|| "a watch ended".into())),
            }
        };
        stage.measure(&row, driven).await?;
        // Of few watchers the memory is that of their connections.
        if watchers >= 1000
            && let (Some(idle), Some(watched)) = (idle_bytes, watched_bytes)
        {
            let each = watched.saturating_sub(idle) as f64 / watchers as f64;
            stage.extra(&row, "RSS KiB/watcher", each / 1024.0);
        }
        // The keys of the next row are others: these are gone.
        readers.shutdown().await;
        stage.link = Rc::new(Link::open(&stage.running.endpoints, stage.link.connections.len()).await?);
        let gone = Pace::full(WRITERS, stage.scale.scenario_time_max);
        super::objects::deleting(stage, &objects, gone).await?;
    }
    Ok(())
}

/// Clients that create objects, and wait for each until all watchers have it.
fn writing(
    stage: &Stage<'_>,
    objects: &Rc<Objects>,
    delivered: Rc<Delivered>,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let (link, objects) = (stage.link.clone(), objects.clone());
    let pace = Pace::full(WRITERS, stage.scale.phase);
    async move {
        let operation = move |turn: Turn| {
            let (objects, delivered) = (objects.clone(), delivered.clone());
            async move {
                let (_, revision) = objects.create(&turn, 0).await?;
                delivered.all_have(revision).await?;
                Ok(Some(delivered.watchers as u64))
            }
        };
        drive(&link, pace, operation).await
    }
}

/// A stream with so many watchers of all pods, which have begun.
async fn opened(link: &Link, number: usize, watchers: usize) -> Result<Stream, Error> {
    let mut stream = link.connection(number)?.begin::<WatchRequest>(&link.watch, None).await?;
    for _ in 0..watchers {
        stream.send(&watch(PODS, 0))?;
    }
    let mut begun = 0;
    while begun < watchers {
        let response: WatchResponse = stream.next().await?.ok_or("a watch ended before it began")?;
        begun += usize::from(response.created);
    }
    Ok(stream)
}

async fn read(mut stream: Stream, delivered: &Delivered) -> Result<(), Error> {
    while let Some(response) = stream.next::<WatchResponse>().await? {
        if response.canceled {
            return Err(format!("a watch was cancelled: {}", response.cancel_reason).into());
        }
        for event in response.events {
            delivered.one(event.kv.map_or(0, |kv| kv.mod_revision));
        }
    }
    Ok(())
}

/// One client that watches from an old revision to the newest, again and again. An operation is an event, a latency is
/// that of a whole watch.
pub(super) async fn from_the_past(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let row = "watch-start/1c";
    if !stage.running.system.is_store() || !stage.wants(row) {
        return Ok(());
    }
    let objects = fill(stage, OTHERS, PAST_OBJECTS, value_bytes).await?;
    let from = objects.newest() + 1;
    updating(stage, &objects, Pace::full(100, stage.scale.phase)).await?;
    let newest = objects.newest();
    let link = stage.link.clone();
    let operation = move |turn: Turn| async move {
        let link = &turn.link;
        let mut stream = link.connection(0)?.begin::<WatchRequest>(&link.watch, None).await?;
        stream.send(&watch(OTHERS, from))?;
        let (mut events, mut last) = (0, 0);
        while last < newest {
            let response: WatchResponse = stream.next().await?.ok_or("a watch ended")?;
            if response.canceled {
                return Err(format!("a watch was cancelled: {}", response.cancel_reason).into());
            }
            events += response.events.len() as u64;
            last =
                response.events.last().and_then(|event| event.kv.as_ref()).map_or(last, |kv| kv.mod_revision);
        }
        Ok(Some(events))
    };
    let pace = Pace::full(1, stage.scale.phase);
    stage.measure(row, async move { drive(&link, pace, operation).await }).await?;
    Ok(())
}
