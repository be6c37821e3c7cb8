use bytes::{BufMut, Bytes, BytesMut};
use engine::{Direction, KeySpan, ReadError, Scan};

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};

/// One look for strange keys takes so many.
const RECORDS_PER_PAGE_MAX: usize = 1024;

impl Checking<'_> {
    /// Looks at keys that begin with the prefix and go on with what is no kind. Where a printable character follows it is
    /// another store's, whose prefix begins with this one.
    pub(crate) async fn unknown(&mut self) -> Result<(), ReadError> {
        let prefix = Bytes::copy_from_slice(self.space.prefix().as_bytes());
        let with = |byte: u8| {
            let mut key = BytesMut::from(prefix.as_ref());
            key.put_u8(byte);
            key.freeze()
        };
        let kinds = self.space.all_records();
        let spans = [
            KeySpan { start: prefix.clone(), end: Some(kinds.start) },
            KeySpan { start: kinds.end, end: Some(with(0x20)) },
            KeySpan { start: with(0x7f), end: end_of(&prefix) },
        ];
        for span in spans {
            let mut rest = Some(span);
            while let Some(span) = rest {
                let scan = Scan {
                    span,
                    direction: Direction::Forward,
                    records_max: RECORDS_PER_PAGE_MAX,
                    bytes_max: usize::MAX,
                    values: false,
                };
                let page = self.snapshot.scan(&scan).await?;
                self.observer.read(Phase::Unknown, page.records.len() as u64, 0);
                for (key, _) in &page.records {
                    let text = "there is a record of a kind that no version writes";
                    self.found(Finding::new(Problem::Unknown, text).record(key));
                }
                rest = page.next;
            }
        }
        Ok(())
    }
}

/// The first key behind all that begin with a prefix of printable characters.
fn end_of(prefix: &Bytes) -> Option<Bytes> {
    let (last, before) = prefix.split_last()?;
    let mut end = BytesMut::from(before);
    end.put_u8(last + 1);
    Some(end.freeze())
}
