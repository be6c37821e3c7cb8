use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, Record, batch, equal, read};
use crate::seed::SeededNumbers;
use crate::{Batch, CommitError, Direction, Engine, KeySpan, Scan, Snapshot, Write};

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const STEPS: usize = 600;
/// Few, so that operations meet each other's keys.
const KEYS: usize = 48;
/// Snapshots held at a time.
const SNAPSHOTS_MAX: usize = 5;

type Model = BTreeMap<Bytes, Bytes>;

pub(super) async fn random_operations_agree_with_a_model(factory: &dyn Factory) -> Result<(), Detail> {
    for seed in SEEDS {
        random_operations(factory, seed, STEPS).await.map_err(Detail)?;
    }
    Ok(())
}

/// Runs `steps` operations chosen by `seed` on an engine and on an ordered map, and says where they differ,
/// if they do. For longer runs and other seeds than the check of the same name has.
pub async fn random_operations(factory: &dyn Factory, seed: u64, steps: usize) -> Result<(), String> {
    let name = format!("random {seed}");
    let mut run = Run {
        engine: factory.open(&name).await,
        numbers: SeededNumbers::new(seed),
        model: Model::new(),
        snapshots: Vec::new(),
    };
    for step in 0..steps {
        let failed = |Detail(text): Detail| format!("seed {seed}, step {step}: {text}");
        if factory.is_durable() && run.numbers.chance(10) {
            run = run.reopened(factory, &name).await;
        }
        run.step().await.map_err(failed)?;
    }
    Ok(())
}

struct Run {
    engine: Arc<dyn Engine>,
    numbers: SeededNumbers,
    model: Model,
    snapshots: Vec<(Box<dyn Snapshot>, Model)>,
}

impl Run {
    async fn reopened(self, factory: &dyn Factory, name: &str) -> Run {
        let Run { engine, mut numbers, model, snapshots } = self;
        drop(snapshots);
        if numbers.chance(500) {
            engine.close().await;
        }
        factory.stop(engine).await;
        Run { engine: factory.open(name).await, numbers, model, snapshots: Vec::new() }
    }

    async fn step(&mut self) -> Result<(), Detail> {
        match self.numbers.below(10) {
            0..=4 => self.commit().await,
            5 => {
                if self.snapshots.len() == SNAPSHOTS_MAX {
                    self.snapshots.swap_remove(self.numbers.below(SNAPSHOTS_MAX));
                }
                self.snapshots.push((self.engine.snapshot().await?, self.model.clone()));
                Ok(())
            }
            6 if self.numbers.chance(200) => Ok(self.engine.reclaim().await?),
            6 | 7 => self.get().await,
            _ => self.scan().await,
        }
    }

    async fn commit(&mut self) -> Result<(), Detail> {
        let batch = self.batch();
        let conflict = batch.writes.iter().any(|write| match write {
            Write::Insert(key, _) => self.model.contains_key(key),
            Write::Put(..) | Write::Delete(_) => false,
        });
        let answer = self.engine.commit(batch.clone()).await;
        match answer {
            Err(CommitError::Conflict { key }) if conflict => {
                let named = self.model.contains_key(&key)
                    && batch.writes.iter().any(|write| matches!(write, Write::Insert(k, _) if *k == key));
                return equal(
                    "whether the key named by the conflict is one of the taken ones",
                    &named,
                    &true,
                );
            }
            answer => equal(&format!("the answer to {batch:?}"), &answer.is_ok(), &!conflict)?,
        }
        for write in batch.writes {
            match write {
                Write::Put(key, value) | Write::Insert(key, value) => {
                    self.model.insert(key, value);
                }
                Write::Delete(key) => {
                    self.model.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn batch(&mut self) -> Batch {
        let mut keys: Vec<Bytes> = (0..1 + self.numbers.below(8)).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        batch(|batch| {
            for key in keys {
                match self.numbers.below(20) {
                    0..=10 => batch.put(key, self.value()),
                    11..=12 => batch.insert(key, self.value()),
                    _ => batch.delete(key),
                }
            }
        })
    }

    /// Keys that are prefixes and neighbours of each other.
    fn key(&mut self) -> Bytes {
        let number = self.numbers.below(KEYS);
        let byte = [0x00, b'a', b'b', 0xff][number % 4];
        Bytes::from(vec![byte; 1 + number / 4])
    }

    fn value(&mut self) -> Bytes {
        let length = self.numbers.below(300);
        Bytes::from(vec![self.numbers.below(256) as u8; length])
    }

    /// The present, or one of the snapshots.
    async fn view(&mut self) -> Result<(Box<dyn Snapshot>, Model, Option<usize>), Detail> {
        let choice = self.numbers.below(self.snapshots.len() + 1);
        if choice < self.snapshots.len() {
            let (snapshot, model) = self.snapshots.remove(choice);
            return Ok((snapshot, model, Some(choice)));
        }
        Ok((self.engine.snapshot().await?, self.model.clone(), None))
    }

    async fn get(&mut self) -> Result<(), Detail> {
        let keys: Vec<Bytes> = (0..self.numbers.below(6)).map(|_| self.key()).collect();
        let (snapshot, model, held) = self.view().await?;
        let want: Vec<Option<Bytes>> = keys.iter().map(|key| model.get(key).cloned()).collect();
        equal(&format!("get_many of {keys:?}"), &snapshot.get_many(&keys).await?, &want)?;
        if let Some(key) = keys.first() {
            equal(&format!("get of {key:?}"), &snapshot.get(key).await?.as_ref(), &model.get(key))?;
        }
        self.give_back(snapshot, model, held);
        Ok(())
    }

    async fn scan(&mut self) -> Result<(), Detail> {
        let scan = self.any_scan();
        let (snapshot, model, held) = self.view().await?;
        let what = format!("{scan:?}");
        let want = expected(&model, &scan);
        equal(&what, &read(&*snapshot, scan).await?, &want)?;
        self.give_back(snapshot, model, held);
        Ok(())
    }

    fn give_back(&mut self, snapshot: Box<dyn Snapshot>, model: Model, held: Option<usize>) {
        if held.is_some() {
            self.snapshots.push((snapshot, model));
        }
    }

    fn any_scan(&mut self) -> Scan {
        let start = if self.numbers.chance(300) { Bytes::new() } else { self.key() };
        let end = if self.numbers.chance(300) { None } else { Some(self.key()) };
        let backward = self.numbers.chance(500);
        Scan {
            span: KeySpan { start, end },
            direction: if backward { Direction::Backward } else { Direction::Forward },
            records_max: 1 + self.numbers.below(20),
            bytes_max: self.numbers.below(3_000),
            values: self.numbers.chance(700),
        }
    }
}

fn expected(model: &Model, scan: &Scan) -> Vec<Record> {
    let KeySpan { start, end } = &scan.span;
    let end = match end {
        Some(end) => Bound::Excluded(end.max(start)),
        None => Bound::Unbounded,
    };
    let value = |value: &Bytes| if scan.values { value.clone() } else { Bytes::new() };
    let records = model.range::<Bytes, _>((Bound::Included(start), end)).map(|(k, v)| (k.clone(), value(v)));
    match scan.direction {
        Direction::Forward => records.collect(),
        Direction::Backward => records.rev().collect(),
    }
}
