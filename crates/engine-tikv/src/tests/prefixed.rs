use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Batch, CommitError, Engine, KeySpan, ReadError, Scan, ScanPage, Snapshot, Usage, Write};

use crate::TikvEngine;

/// A batch is offered so often to a cluster in trouble. Each offer takes up to its whole time-out.
const OFFERS_MAX: usize = 6;

/// The part of a cluster's keys that begins with a prefix, as an engine of its own: what the conformance suite calls a
/// store.
pub(super) struct Prefixed {
    engine: TikvEngine,
    prefix: Bytes,
    /// Each batch without an insert gets one, beside the store's keys.
    marks_batches: bool,
}

struct PrefixedSnapshot {
    snapshot: Box<dyn Snapshot>,
    prefix: Bytes,
}

impl Prefixed {
    pub(super) fn new(engine: TikvEngine, prefix: Bytes) -> Prefixed {
        Prefixed { engine, prefix, marks_batches: false }
    }

    /// The same for a cluster in trouble: without an insert nobody can tell what became of a batch whose answer was
    /// lost, and the suite wants to know it of each. A batch of the store's log always has one.
    pub(super) fn marking(self) -> Prefixed {
        Prefixed { marks_batches: true, ..self }
    }

    /// A key that was never used before, behind those of the store.
    fn mark(&self) -> Bytes {
        let name = format!("~{:032x}", base::Random::next_u128(&base::SystemRandom));
        Bytes::from([&self.prefix[..self.prefix.len() - 1], name.as_bytes()].concat())
    }
}

fn under(prefix: &Bytes, key: &[u8]) -> Bytes {
    Bytes::from([prefix, key].concat())
}

fn span_under(prefix: &Bytes, span: &KeySpan) -> KeySpan {
    let end = match &span.end {
        Some(end) => under(prefix, end),
        // Prefixes end with a slash, and behind it comes this.
        None => Bytes::from([&prefix[..prefix.len() - 1], b"0"].concat()),
    };
    KeySpan { start: under(prefix, &span.start), end: Some(end) }
}

fn without(prefix: &Bytes, key: &Bytes) -> Bytes {
    assert!(key.starts_with(prefix), "{key:?} is not of this store");
    key.slice(prefix.len()..)
}

#[async_trait]
impl Engine for Prefixed {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        let snapshot = self.engine.snapshot().await?;
        Ok(Box::new(PrefixedSnapshot { snapshot, prefix: self.prefix.clone() }))
    }

    async fn commit(&self, mut batch: Batch) -> Result<(), CommitError> {
        for write in &mut batch.writes {
            match write {
                Write::Put(key, _) | Write::Insert(key, _) | Write::Delete(key) => {
                    *key = under(&self.prefix, key);
                }
            }
        }
        let inserts = batch.writes.iter().any(|write| matches!(write, Write::Insert(..)));
        if self.marks_batches && !inserts && !batch.writes.is_empty() {
            batch.insert(self.mark(), Bytes::new());
        }
        let mut offers = if self.marks_batches { OFFERS_MAX } else { 1 };
        loop {
            offers -= 1;
            return match self.engine.commit(batch.clone()).await {
                // How long trouble takes depends on the machine: what was certainly not taken is offered again, as the
                // owner of a log does.
                Err(CommitError::Unavailable(_)) if offers > 0 => continue,
                Err(CommitError::Conflict { key }) => {
                    Err(CommitError::Conflict { key: without(&self.prefix, &key) })
                }
                done => done,
            };
        }
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        let points = self.engine.split_points(span_under(&self.prefix, &range), pieces).await?;
        Ok(points.iter().map(|point| without(&self.prefix, point)).collect())
    }

    async fn time(&self) -> Result<Duration, ReadError> {
        self.engine.time().await
    }

    async fn settle(&self, spans: &[KeySpan]) -> Result<(), ReadError> {
        let spans: Vec<KeySpan> = spans.iter().map(|span| span_under(&self.prefix, span)).collect();
        self.engine.settle(&spans).await
    }

    fn usage(&self) -> Usage {
        self.engine.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.engine.reclaim().await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

#[async_trait]
impl Snapshot for PrefixedSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.snapshot.get(&under(&self.prefix, key)).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let keys: Vec<Bytes> = keys.iter().map(|key| under(&self.prefix, key)).collect();
        self.snapshot.get_many(&keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        let inner = Scan { span: span_under(&self.prefix, &scan.span), ..scan.clone() };
        // Keys count with the prefix here and without it outside: so that pages end where the caller expects it, this
        // asks for records that are as much longer.
        let prefix_bytes = scan.records_max.saturating_mul(self.prefix.len());
        let inner = Scan { bytes_max: scan.bytes_max.saturating_add(prefix_bytes), ..inner };
        let page = self.snapshot.scan(&inner).await?;
        Ok(self.cut(scan, &inner, page))
    }
}

impl PrefixedSnapshot {
    /// The front of the page that keeps to the limits of `scan`.
    fn cut(&self, scan: &Scan, inner: &Scan, page: ScanPage) -> ScanPage {
        let mut cursor = crate::cursor::Cursor::new(scan);
        let found: Vec<(Bytes, Bytes)> =
            page.records.into_iter().map(|(key, value)| (without(&self.prefix, &key), value)).collect();
        let count = found.len();
        cursor.take(&scan.span, found, page.next.is_none());
        let cut = cursor.finish();
        if cut.records.len() < count || page.next.is_none() {
            return cut;
        }
        let next = page.next.map(|next| KeySpan {
            start: without(&self.prefix, &next.start),
            end: if next.end == inner.span.end {
                scan.span.end.clone()
            } else {
                next.end.map(|end| without(&self.prefix, &end))
            },
        });
        ScanPage { records: cut.records, next }
    }
}
