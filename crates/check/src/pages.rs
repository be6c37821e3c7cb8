//! Reading on where something is damaged.

use std::collections::VecDeque;

use bytes::Bytes;
use engine::{Direction, KeySpan, ReadError, Scan};
use layout::Span;

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};

/// One page has at most so many records.
const RECORDS_PER_PAGE_MAX: usize = 1024;
/// And no further one when they have so many bytes: values of 1.5 MiB are usual at most.
const BYTES_PER_PAGE: usize = 4 << 20;

/// The records of a span in their order, page by page.
pub(crate) struct Pages {
    rest: Option<KeySpan>,
    ready: VecDeque<(Bytes, Option<Bytes>)>,
    phase: Phase,
}

impl Pages {
    pub(crate) fn of(span: Span, phase: Phase) -> Pages {
        Pages {
            rest: Some(KeySpan { start: span.start, end: Some(span.end) }),
            ready: VecDeque::new(),
            phase,
        }
    }

    /// The next record; no value where the engine cannot read it, which was told.
    pub(crate) async fn next(
        &mut self,
        checking: &mut Checking<'_>,
    ) -> Result<Option<(Bytes, Option<Bytes>)>, ReadError> {
        while self.ready.is_empty() {
            let Some(span) = self.rest.take() else { return Ok(None) };
            self.fill(span, checking).await?;
        }
        Ok(self.ready.pop_front())
    }

    async fn fill(&mut self, span: KeySpan, checking: &mut Checking<'_>) -> Result<(), ReadError> {
        let mut scan = Scan {
            span,
            direction: Direction::Forward,
            records_max: RECORDS_PER_PAGE_MAX,
            bytes_max: BYTES_PER_PAGE,
            values: true,
        };
        let page = match checking.snapshot.scan(&scan).await {
            // One record that cannot be read hides all others of its page: they are read one by one.
            Err(ReadError::Corrupt(_)) => {
                scan.values = false;
                let page = checking.snapshot.scan(&scan).await?;
                for (key, _) in page.records {
                    let value = checking.get(&key, self.phase).await?;
                    self.ready.push_back((key, value));
                }
                self.rest = page.next;
                return Ok(());
            }
            page => page?,
        };
        let bytes = page.records.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        checking.observer.read(self.phase, page.records.len() as u64, bytes);
        self.ready = page.records.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.rest = page.next;
        Ok(())
    }
}

impl Checking<'_> {
    /// A record that a scan has named; none where it cannot be read, which is told the first time.
    async fn get(&mut self, key: &Bytes, phase: Phase) -> Result<Option<Bytes>, ReadError> {
        let (problem, text) = match self.snapshot.get(key).await {
            Ok(Some(value)) => return Ok(Some(value)),
            Ok(None) => (Problem::Missing, "the engine lists a record that it does not have".to_owned()),
            Err(ReadError::Corrupt(text)) => (Problem::Damaged, text),
            Err(error) => return Err(error),
        };
        if phase != Phase::Locating {
            self.found(Finding::new(problem, text).record(key));
        }
        Ok(None)
    }
}
