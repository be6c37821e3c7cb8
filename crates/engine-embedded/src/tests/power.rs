//! Power loss and kills: acknowledged batches survive, others are there as a whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Random, SeededRandom};
use bytes::Bytes;
use engine::{Batch, Engine};
use futures_lite_poll::poll_once;

use super::{dump, open};
use crate::fs::sim::SimFs;
use crate::{Config, EmbeddedEngine};

/// Polls a future once, so that its work begins without waiting for its end.
mod futures_lite_poll {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A random batch, with a record that counts the batches.
fn batch(random: &dyn Random, number: u64) -> Batch {
    let mut batch = Batch::new();
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..random.next_u64() % 12 {
        keys.insert(format!("key {}", random.next_u64() % 60));
    }
    for key in keys {
        if random.next_u64().is_multiple_of(4) {
            batch.delete(key);
        } else {
            let len = random.next_u64() % if random.next_u64().is_multiple_of(20) { 3000 } else { 200 };
            batch.put(key, vec![number as u8; len as usize]);
        }
    }
    batch.put("counter", number.to_be_bytes().to_vec());
    batch
}

fn apply(model: &mut Model, batch: &Batch) {
    for write in &batch.writes {
        match write {
            engine::Write::Put(key, value) | engine::Write::Insert(key, value) => {
                model.insert(key.to_vec(), value.to_vec());
            }
            engine::Write::Delete(key) => {
                model.remove(key.as_ref());
            }
        }
    }
}

/// One life: some batches are acknowledged, some are under way when the power goes. Returns what the next life
/// finds.
async fn live(fs: &SimFs, random: &dyn Random, history: &mut Vec<Model>, acknowledged: &mut usize) -> SimFs {
    let mut config = super::small();
    config.segment_bytes = 8 << 10;
    config.reserve_bytes = 8 << 10;
    if random.next_u64().is_multiple_of(8) {
        // The power goes again while the directory is being recovered.
        fs.faults(|faults| faults.power = Some(random.next_u64() % 8));
        let engine = EmbeddedEngine::open_on(config.clone(), Arc::new(fs.clone()));
        let next = fs.power_loss(random);
        drop(engine);
        return next;
    }
    let engine = EmbeddedEngine::open_on(config, Arc::new(fs.clone())).unwrap();
    // What was found is one of the states that could be, and from now on the only one.
    let found: Vec<(Vec<u8>, Vec<u8>)> =
        dump(&engine).await.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    let found: Model = found.into_iter().collect();
    let position = history.iter().rposition(|state| *state == found);
    let position = position.expect("what is found is the state after some batch");
    assert!(position >= *acknowledged, "batch {acknowledged} was acknowledged, found is {position}");
    history.truncate(position + 1);
    *acknowledged = position;
    for _ in 0..random.next_u64() % 30 {
        let number = history.len() as u64;
        let batch = batch(random, number);
        let mut next = history.last().unwrap().clone();
        apply(&mut next, &batch);
        history.push(next);
        engine.commit(batch).await.unwrap();
        *acknowledged = history.len() - 1;
        if random.next_u64().is_multiple_of(25) {
            engine.reclaim().await.unwrap();
        }
    }
    let cut_at_operation = random.next_u64().is_multiple_of(2);
    if cut_at_operation {
        fs.faults(|faults| faults.power = Some(random.next_u64() % 40));
    }
    let mut reclaim = engine.reclaim();
    if random.next_u64().is_multiple_of(3) {
        // Segments are being rewritten when the power goes.
        let _ = poll_once(&mut reclaim);
    }
    let mut under_way = Vec::new();
    for _ in 0..random.next_u64() % 5 {
        let batch = batch(random, history.len() as u64);
        let mut next = history.last().unwrap().clone();
        apply(&mut next, &batch);
        history.push(next);
        let mut commit = engine.commit(batch);
        let done = poll_once(&mut commit);
        under_way.push((history.len() - 1, commit, done));
    }
    for _ in 0..random.next_u64() % 2000 {
        std::hint::spin_loop();
    }
    for (position, mut commit, done) in under_way {
        let done = match done {
            Some(done) => Some(done),
            // They end one way or the other when an operation of theirs meets the cut.
            None if cut_at_operation => Some(commit.await),
            None => poll_once(&mut commit),
        };
        if matches!(done, Some(Ok(()))) {
            *acknowledged = (*acknowledged).max(position);
        }
    }
    match random.next_u64() % 4 {
        0 if !cut_at_operation => fs.after_kill(),
        _ => fs.power_loss(random),
    }
}

#[tokio::test]
async fn acknowledged_batches_survive_any_power_loss_and_others_never_appear_in_part() {
    for seed in 0..120 {
        let random = SeededRandom::new(seed);
        let mut fs = SimFs::default();
        let mut history = vec![Model::new()];
        let mut acknowledged = 0;
        for _ in 0..12 {
            fs = live(&fs, &random, &mut history, &mut acknowledged).await;
        }
    }
}

#[tokio::test]
async fn a_torn_tail_at_every_byte_recovers_exactly_the_batches_before() {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    for number in 0..5u8 {
        engine.commit(super::put(&format!("key {number}"), vec![number; 100])).await.unwrap();
    }
    let before = dump(&engine).await;
    let name = "0000000001.seg";
    let start = end_of(&fs.content(name));
    let mut batch = Batch::new();
    batch.delete("key 1");
    batch.put("last", vec![9; 60]);
    engine.commit(batch).await.unwrap();
    let full = fs.after_kill();
    let after = dump(&engine).await;
    let end = end_of(&full.content(name));
    drop(engine);
    assert!(end > start + 100);
    for cut in start..=end {
        for filler in [None, Some(0), Some(0xa7)] {
            let fs = full.after_kill();
            let mut content = full.content(name);
            match filler {
                // The file ends there, is zeros from there on, or is garbage.
                None => content.truncate(cut),
                Some(byte) => content[cut..end + 20].fill(byte),
            }
            fs.set_content(name, content);
            let engine = open(&fs).unwrap();
            assert_eq!(
                dump(&engine).await,
                if cut == end { after.clone() } else { before.clone() },
                "{cut} {filler:?}"
            );
            // It goes on from there.
            engine.commit(super::put("more", Bytes::from_static(b"1"))).await.unwrap();
            engine.close().await;
            let engine = open(&fs).unwrap();
            assert!(dump(&engine).await.contains(&("more".into(), "1".into())));
        }
    }
}

/// Where the written part of a segment ends.
fn end_of(content: &[u8]) -> usize {
    content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn the_settings_are_checked() {
    let mut config = Config::new("data");
    config.segment_bytes = 1;
    let error = EmbeddedEngine::open(config).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the setting segment_bytes of the embedded engine is 1: it must be between 4 KiB and 1 GiB"
    );
}
