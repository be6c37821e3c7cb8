//! Measures an engine on this machine: batches of user writes, the memory and disk they take, and how long the
//! directory takes to open again. `--keys N` user keys (default 100,000), `--batch N` writes per batch (128),
//! `--rounds N` writes of every key (1; 0 only opens), `--dir DIR` (default: a temporary directory, removed at the end).
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints what it measured")]

use std::time::Duration;

use base::{Clock, SystemClock};
use engine::{Batch, Direction, Engine, KeySpan, Scan};
use engine_embedded::{Config, EmbeddedEngine};

struct Options {
    keys: u64,
    batch: u64,
    rounds: u64,
    dir: Option<String>,
}

fn options() -> Options {
    let mut options = Options { keys: 100_000, batch: 128, rounds: 1, dir: None };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_default();
        match name.as_str() {
            "--keys" => options.keys = value.parse().unwrap(),
            "--batch" => options.batch = value.parse().unwrap(),
            "--rounds" => options.rounds = value.parse().unwrap(),
            "--dir" => options.dir = Some(value),
            other => println!("unknown option {other}"),
        }
    }
    options
}

/// A user key of 75 bytes; neighbours in time are far apart in the order of the keys.
fn user_key(number: u64) -> String {
    let name = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("/registry/pods/namespace-{:03}/deployment-{:016x}-{:019}", number % 300, name, number)
}

fn object_key(number: u64, revision: u64) -> Vec<u8> {
    [b"o", user_key(number).as_bytes(), &revision.to_be_bytes()].concat()
}

fn log_key(slot: u64) -> Vec<u8> {
    [b"l0000", slot.to_be_bytes().as_slice()].concat()
}

/// Resident memory and the CPU time used so far.
fn process() -> (u64, Duration) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 =
        stat.split_whitespace().skip(13).take(2).filter_map(|tick| tick.parse::<u64>().ok()).sum();
    let rss = rss.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    (rss / 1024, Duration::from_millis(ticks * 10))
}

async fn write(engine: &EmbeddedEngine, options: &Options, round: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut number = 0;
    while number < options.keys {
        let mut batch = Batch::new();
        for _ in 0..options.batch.min(options.keys - number) {
            let slot = round * options.keys + number;
            batch.insert(log_key(slot), vec![7; 120]);
            batch.put([b"i", user_key(number).as_bytes()].concat(), vec![1; 30]);
            batch.put(object_key(number, slot), vec![number as u8; 600]);
            if round > 0 {
                let old = slot - options.keys;
                batch.delete(object_key(number, old));
                batch.delete(log_key(old));
            }
            number += 1;
        }
        let begun = SystemClock.now();
        engine.commit(batch).await.unwrap();
        times.push(SystemClock.now() - begun);
    }
    times
}

async fn scan(engine: &EmbeddedEngine, prefix: u8) -> (usize, Duration) {
    let begun = SystemClock.now();
    let snapshot = engine.snapshot().await.unwrap();
    let mut span = Some(KeySpan { start: vec![prefix].into(), end: Some(vec![prefix + 1].into()) });
    let mut count = 0;
    while let Some(rest) = span {
        let scan = Scan {
            span: rest,
            direction: Direction::Forward,
            records_max: 1000,
            bytes_max: 4 << 20,
            values: true,
        };
        let page = snapshot.scan(&scan).await.unwrap();
        count += page.records.len();
        span = page.next;
    }
    (count, SystemClock.now() - begun)
}

#[tokio::main]
async fn main() {
    let options = options();
    let own = options.dir.is_none();
    let dir = options.dir.clone().map_or_else(
        || std::env::temp_dir().join(format!("orlop-load-{}", std::process::id())),
        std::path::PathBuf::from,
    );
    let begun = SystemClock.now();
    let engine = EmbeddedEngine::open(Config::new(&dir)).unwrap();
    println!(
        "first open took {:?} ({:?} CPU); RSS {} MiB, {:?}",
        SystemClock.now() - begun,
        process().1,
        process().0,
        engine.usage()
    );
    for round in 0..options.rounds {
        let (begun, cpu) = (SystemClock.now(), process().1);
        let mut times = write(&engine, &options, round).await;
        let took = SystemClock.now() - begun;
        times.sort();
        let at = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)];
        println!(
            "round {round}: {:.0} user writes/s, {:.1} µs CPU each; batch p50 {:?} p99 {:?} max {:?}",
            options.keys as f64 / took.as_secs_f64(),
            (process().1 - cpu).as_secs_f64() * 1e6 / options.keys as f64,
            at(500),
            at(990),
            at(1000),
        );
        println!(
            "  RSS {} MiB, index {} MiB, {:?}",
            process().0,
            engine.index_memory() >> 20,
            engine.usage()
        );
    }
    println!("{:?}", engine.stats());
    for prefix in [b'i', b'o'] {
        let (count, took) = scan(&engine, prefix).await;
        println!(
            "scan of {count} records '{}': {:.2} µs each",
            prefix as char,
            took.as_secs_f64() * 1e6 / count as f64
        );
    }
    let begun = SystemClock.now();
    engine.reclaim().await.unwrap();
    println!("reclaim took {:?}: {:?}", SystemClock.now() - begun, engine.usage());
    let begun = SystemClock.now();
    engine.close().await;
    drop(engine);
    println!("close took {:?}", SystemClock.now() - begun);
    let begun = SystemClock.now();
    let engine = EmbeddedEngine::open(Config::new(&dir)).unwrap();
    println!(
        "open took {:?}; RSS {} MiB, index {} MiB, {:?}",
        SystemClock.now() - begun,
        process().0,
        engine.index_memory() >> 20,
        engine.usage()
    );
    engine.close().await;
    if own {
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
