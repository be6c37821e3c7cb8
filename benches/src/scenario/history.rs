//! What a store does beside its clients' work: it lets keys expire, and it compacts history. Both should not be felt.

use std::rc::Rc;
use std::time::Duration;

use base::{Clock, SystemClock};
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, LeaseGrantRequest, LeaseGrantResponse, RangeRequest, RangeResponse,
};

use super::Stage;
use super::objects::{MANY, Objects, fill, updating};
use crate::connection::{Error, Link};
use crate::drive::{Driven, Pace, Turn, drive};
use crate::requests::{EVENTS, Kind, OTHERS};

/// The load beside which it happens: steady, so that the seconds can be compared.
const UPDATES_PER_SEC: f64 = 1000.0;
const UPDATE_CLIENTS: usize = 50;
const UPDATED_OBJECTS: u64 = 5000;
/// Keys of one lease, as kube-apiserver bounds them.
const LEASE_KEYS: u64 = 1000;
/// How long an expiry is waited for, in times of the time to it.
const EXPIRY_WAITS: u32 = 3;

/// Updates while many keys expire at once.
pub(super) async fn expiry(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let row = "expiry/updates";
    if !stage.running.system.is_store() || !stage.wants(row) {
        return Ok(());
    }
    let others = fill(stage, OTHERS, UPDATED_OBJECTS, value_bytes).await?;
    let granted = SystemClock.now();
    let after = stage.scale.expiry_after;
    leased(stage, value_bytes).await?;
    let quiet = after.saturating_sub(SystemClock.now() - granted);
    if quiet < Duration::from_secs(2) {
        stage.note(row, "it is too slow to write the keys before they expire");
        return Ok(());
    }
    // Half of the time again behind the expiry.
    let pace = Pace { clients: UPDATE_CLIENTS, time: quiet + after / 2, rate: Some(UPDATES_PER_SEC) };
    let driven = stage.measure(row, updating(stage, &others, pace)).await?;
    let due = usize::try_from(quiet.as_secs())?;
    if let Some(driven) = driven {
        worst(stage, row, &driven, due);
    }
    let deadline = granted + after * EXPIRY_WAITS;
    while count(&stage.link, EVENTS).await? > 0 && SystemClock.now() < deadline {
        SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(200)).await;
    }
    let left = count(&stage.link, EVENTS).await?;
    stage.extra(row, "keys left", left as f64);
    Ok(())
}

/// Writes keys with leases, many of them to a lease.
async fn leased(stage: &Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let count = stage.scale.expiring;
    let ttl = i64::try_from(stage.scale.expiry_after.as_secs())?;
    let mut leases = Vec::new();
    for _ in 0..count.div_ceil(LEASE_KEYS) {
        let request = LeaseGrantRequest { ttl, id: 0 };
        let connection = stage.link.connection(0)?;
        let granted: LeaseGrantResponse = connection.call(&stage.link.lease_grant, &request).await?;
        leases.push(granted.id);
    }
    let (leases, events) = (Rc::new(leases), Objects::none(EVENTS, value_bytes));
    let operation = move |turn: Turn| {
        let (leases, events) = (leases.clone(), events.clone());
        async move {
            let lease = usize::try_from(turn.number / LEASE_KEYS)?;
            let Some(&lease) = leases.get(lease) else { return Ok(None) };
            events.create(&turn, lease).await?;
            Ok(Some(1))
        }
    };
    drive(&stage.link, Pace::full(MANY, stage.scale.scenario_time_max), operation).await?;
    Ok(())
}

async fn count(link: &Link, kind: Kind) -> Result<i64, Error> {
    let (key, range_end) = kind.bounds();
    let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    let answer: RangeResponse = link.connection(0)?.call(&link.range, &request).await?;
    Ok(answer.count)
}

/// Updates while history is compacted, to what was the newest revision the time before.
pub(super) async fn compaction(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let row = "compaction/updates";
    if !stage.running.system.is_store() || !stage.wants(row) {
        return Ok(());
    }
    let objects = fill(stage, OTHERS, UPDATED_OBJECTS, value_bytes).await?;
    let every = stage.scale.compact_every;
    let quiet = every * 2;
    let pace = Pace { clients: UPDATE_CLIENTS, time: every * 5, rate: Some(UPDATES_PER_SEC) };
    let (updates, link, began) = (updating(stage, &objects, pace), stage.link.clone(), SystemClock.now());
    let compactions = async {
        let mut target = objects.newest();
        for due in [quiet, every * 3, every * 4] {
            SystemClock.sleep_until(began + due).await;
            let request = CompactionRequest { revision: target, physical: false };
            let _: CompactionResponse = link.connection(0)?.call(&link.compact, &request).await?;
            target = objects.newest();
        }
        Ok::<_, Error>(())
    };
    let driven = async { tokio::try_join!(updates, compactions).map(|(driven, ())| driven) };
    if let Some(driven) = stage.measure(row, driven).await? {
        worst(stage, row, &driven, usize::try_from(quiet.as_secs())?);
    }
    if let Some(bytes) = stage.running.disk_bytes() {
        stage.extra(row, "disk MiB", bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// The worst second before and after something began.
fn worst(stage: &mut Stage<'_>, row: &str, driven: &Driven, begun: usize) {
    let millis = |from, until| driven.worst_second_us(from, until) as f64 / 1000.0;
    // The first second has connections and caches that are new.
    let (quiet, busy) = (millis(1, begun), millis(begun, usize::MAX));
    stage.extra(row, "worst p99.9 ms, quiet", quiet);
    stage.extra(row, "worst p99.9 ms, then", busy);
}
