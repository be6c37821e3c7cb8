//! Lists of all pods of a large cluster.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    RangeRequest, RangeResponse, RangeStreamResponse, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::Mutex;

use super::Stage;
use super::objects::{fill, updating};
use crate::connection::{Error, Link, Stream};
use crate::drive::{Driven, Pace, Turn, drive};
use crate::requests::{OTHERS, PODS, watch};

pub(super) const ROWS: [&str; 7] = [
    "list/alone",
    "stream/alone",
    "count/16c",
    "probe/16c",
    "update-2000/alone",
    "list/updates",
    "stream/updates",
];

/// Objects of a page, as kube-apiserver asks for them.
const PAGE_OBJECTS: i64 = 500;
/// Clients that count or probe.
const CALLERS: usize = 16;
/// Updates a second while lists are taken, and the clients and objects for them.
const UPDATES_PER_SEC: f64 = 2000.0;
const UPDATE_CLIENTS: usize = 50;
const UPDATED_OBJECTS: u64 = 5000;

pub(super) async fn play(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    if !stage.running.system.is_store() {
        return Ok(());
    }
    let pods = stage.scale.pods;
    fill(stage, PODS, pods, value_bytes).await?;
    let others = fill(stage, OTHERS, UPDATED_OBJECTS, 512).await?;
    let phase = stage.scale.phase;
    let link = stage.link.clone();
    for (row, streamed) in [("list/alone", false), ("stream/alone", true)] {
        if stage.wants(row) {
            stage.measure(row, listing(&link, phase, streamed, pods)).await?;
        }
    }
    if stage.wants("count/16c") {
        stage.measure("count/16c", counting(&link, phase, pods)).await?;
    }
    if stage.wants("probe/16c") {
        stage.measure("probe/16c", probing(&link, phase)).await?;
    }
    // The updates have connections of their own, as another client would.
    let pace = Pace { clients: UPDATE_CLIENTS, time: phase, rate: Some(UPDATES_PER_SEC) };
    let row = "update-2000/alone";
    if stage.wants(row) {
        stage.measure(row, updating(stage, &others, pace)).await?;
    }
    for (row, streamed) in [("list/updates", false), ("stream/updates", true)] {
        if !stage.wants(row) {
            continue;
        }
        let updates = updating(stage, &others, pace);
        let lists = listing(&link, phase, streamed, pods);
        let updated = std::cell::Cell::new((0.0, 0));
        let both = async {
            let (lists, updates) = tokio::try_join!(lists, updates)?;
            let rate = updates.ops as f64 / updates.elapsed.as_secs_f64();
            updated.set((rate, updates.latency_us.value_at_quantile(0.99)));
            Ok(lists)
        };
        stage.measure(row, both).await?;
        let (rate, p99_us) = updated.get();
        stage.extra(row, "updates/s", rate);
        stage.extra(row, "their p99 ms", p99_us as f64 / 1000.0);
    }
    Ok(())
}

/// One client that lists all pods again and again. Operations are objects, a latency is that of a whole list.
pub(super) fn listing(
    link: &Rc<Link>,
    time: Duration,
    streamed: bool,
    pods: u64,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let link = link.clone();
    async move {
        let operation = move |turn: Turn| async move {
            let found = if streamed { stream(&turn.link).await? } else { pages(&turn.link).await? };
            match found == pods {
                true => Ok(Some(found)),
                false => Err(format!("a list has {found} objects of {pods}").into()),
            }
        };
        drive(&link, Pace::full(1, time), operation).await
    }
}

/// Page by page, all at the revision of the first.
async fn pages(link: &Link) -> Result<u64, Error> {
    let (mut key, range_end) = PODS.bounds();
    let (mut revision, mut found) = (0, 0);
    loop {
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit: PAGE_OBJECTS,
            revision,
            ..RangeRequest::default()
        };
        let page: RangeResponse = link.connection(0)?.call(&link.range, &request).await?;
        found += page.kvs.len() as u64;
        match page.kvs.last() {
            Some(last) if page.more => {
                revision =
                    if revision == 0 { page.header.map_or(0, |header| header.revision) } else { revision };
                key = after(&last.key);
            }
            _ => return Ok(found),
        }
    }
}

/// The key that follows.
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// As one stream.
async fn stream(link: &Link) -> Result<u64, Error> {
    let (key, range_end) = PODS.bounds();
    let request = RangeRequest { key, range_end, ..RangeRequest::default() };
    let mut stream = link.connection(0)?.begin(&link.range_stream, Some(&request)).await?;
    let mut found = 0;
    while let Some(piece) = stream.next::<RangeStreamResponse>().await? {
        found += piece.range_response.map_or(0, |response| response.kvs.len() as u64);
    }
    Ok(found)
}

fn counting(
    link: &Rc<Link>,
    time: Duration,
    pods: u64,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let link = link.clone();
    async move {
        let operation = move |turn: Turn| async move {
            let (key, range_end) = PODS.bounds();
            let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
            let answer: RangeResponse =
                turn.link.connection(turn.client)?.call(&turn.link.range, &request).await?;
            match u64::try_from(answer.count)? == pods {
                true => Ok(Some(1)),
                false => Err(format!("{} pods were counted of {pods}", answer.count).into()),
            }
        };
        drive(&link, Pace::full(CALLERS, time), operation).await
    }
}

/// What every consistent list from kube-apiserver's cache costs the store: a read that tells the newest revision, then
/// a request to the watch for its progress.
fn probing(link: &Rc<Link>, time: Duration) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let link = link.clone();
    async move {
        let mut streams = Vec::new();
        for client in 0..CALLERS {
            streams.push(Mutex::new(opened(&link, client).await?));
        }
        let streams = Rc::new(streams);
        let operation = move |turn: Turn| {
            let streams = streams.clone();
            async move {
                let request = RangeRequest { limit: 1, ..crate::requests::get("/registry/absent".into()) };
                let answer: RangeResponse =
                    turn.link.connection(turn.client)?.call(&turn.link.range, &request).await?;
                let revision = answer.header.map_or(0, |header| header.revision);
                let mut stream = streams.get(turn.client).ok_or("no stream")?.lock().await;
                progressed(&mut stream, revision).await?;
                Ok(Some(1))
            }
        };
        drive(&link, Pace::full(CALLERS, time), operation).await
    }
}

/// A watch of all pods that has begun.
async fn opened(link: &Link, client: usize) -> Result<Stream, Error> {
    let mut stream = link.connection(client)?.begin::<WatchRequest>(&link.watch, None).await?;
    stream.send(&watch(PODS, 0))?;
    stream.next::<WatchResponse>().await?;
    Ok(stream)
}

/// Waits until the watch has come so far.
async fn progressed(stream: &mut Stream, revision: i64) -> Result<(), Error> {
    let ask = WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
    stream.send(&ask)?;
    while let Some(response) = stream.next::<WatchResponse>().await? {
        if response.header.is_some_and(|header| header.revision >= revision) {
            return Ok(());
        }
    }
    Err("a watch ended".into())
}
