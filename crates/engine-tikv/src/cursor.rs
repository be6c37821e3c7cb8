//! Where a scan is, and what it has gathered: the part of scanning that needs no cluster.

use bytes::{BufMut, Bytes, BytesMut};
use engine::{Direction, KeySpan, Scan, ScanPage};

/// A page that is being filled.
pub(crate) struct Cursor {
    direction: Direction,
    records_max: usize,
    bytes_max: usize,
    records: Vec<(Bytes, Bytes)>,
    bytes: usize,
    /// What is left to read; `None` when it is all read.
    rest: Option<KeySpan>,
    full: bool,
}

impl Cursor {
    pub(crate) fn new(scan: &Scan) -> Cursor {
        let mut cursor = Cursor {
            direction: scan.direction,
            records_max: scan.records_max.max(1),
            bytes_max: scan.bytes_max,
            records: Vec::new(),
            bytes: 0,
            rest: None,
            full: false,
        };
        cursor.leave(scan.span.clone());
        cursor
    }

    /// What to read next; `None` when the page is full or the scan complete.
    pub(crate) fn wanted(&self) -> Option<&KeySpan> {
        if self.full { None } else { self.rest.as_ref() }
    }

    /// The order of the scan.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// How many records the page has room for.
    pub(crate) fn room(&self) -> usize {
        self.records_max - self.records.len()
    }

    /// Takes what was found at the near end of the rest, which was read up to and with `piece`. `complete` says that
    /// there is nothing else in `piece`. Returns whether the scan stands behind `piece`, so that what lies behind it can
    /// be taken too.
    pub(crate) fn take(&mut self, piece: &KeySpan, found: Vec<(Bytes, Bytes)>, complete: bool) -> bool {
        let last = found.last().map(|(key, _)| key.clone());
        for (key, value) in found {
            self.bytes += key.len() + value.len();
            self.records.push((key.clone(), value));
            if self.records.len() >= self.records_max || self.bytes >= self.bytes_max {
                self.full = true;
                self.leave_behind(&key);
                return false;
            }
        }
        match last {
            _ if complete => self.leave_after(piece),
            Some(last) => self.leave_behind(&last),
            None => {}
        }
        complete
    }

    pub(crate) fn finish(self) -> ScanPage {
        ScanPage { records: self.records, next: self.rest }
    }

    /// The rest lies behind the record at `key`.
    fn leave_behind(&mut self, key: &Bytes) {
        let Some(rest) = self.rest.take() else { return };
        match self.direction {
            Direction::Forward => self.leave(KeySpan { start: successor(key), end: rest.end }),
            Direction::Backward => self.leave(KeySpan { start: rest.start, end: Some(key.clone()) }),
        }
    }

    /// The rest lies behind all of `piece`.
    fn leave_after(&mut self, piece: &KeySpan) {
        let Some(rest) = self.rest.take() else { return };
        match (self.direction, &piece.end) {
            (Direction::Forward, Some(end)) => self.leave(KeySpan { start: end.clone(), end: rest.end }),
            (Direction::Forward, None) => {}
            (Direction::Backward, _) => {
                self.leave(KeySpan { start: rest.start, end: Some(piece.start.clone()) });
            }
        }
    }

    fn leave(&mut self, rest: KeySpan) {
        self.rest = (!is_empty(&rest)).then_some(rest);
    }
}

/// Whether no key can be in the span.
pub(crate) fn is_empty(span: &KeySpan) -> bool {
    span.end.as_ref().is_some_and(|end| *end <= span.start)
}

/// The first key behind `key`.
pub(crate) fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &'static str, end: &'static str) -> KeySpan {
        KeySpan { start: start.into(), end: (!end.is_empty()).then(|| end.into()) }
    }

    fn cursor(direction: Direction, records_max: usize, bytes_max: usize) -> Cursor {
        Cursor::new(&Scan { span: span("a", "z"), direction, records_max, bytes_max, values: true })
    }

    fn found(keys: &str) -> Vec<(Bytes, Bytes)> {
        keys.split_whitespace().map(|key| (Bytes::from(key.to_owned()), Bytes::from_static(b"vv"))).collect()
    }

    #[test]
    fn a_scan_goes_on_where_the_piece_ends_and_is_complete_at_its_own_end() {
        let mut forward = cursor(Direction::Forward, 9, 999);
        assert!(forward.take(&span("a", "m"), found("b c"), true));
        assert_eq!(forward.wanted(), Some(&span("m", "z")));
        assert!(forward.take(&span("m", "z"), found(""), true));
        assert_eq!(forward.wanted(), None);
        let page = forward.finish();
        assert_eq!((page.records, page.next), (found("b c"), None));

        let mut backward = cursor(Direction::Backward, 9, 999);
        assert!(backward.take(&span("m", "z"), found("x"), true));
        assert_eq!(backward.wanted(), Some(&span("a", "m")));
        assert!(backward.take(&span("a", "m"), found("c b"), true));
        let page = backward.finish();
        assert_eq!((page.records, page.next), (found("x c b"), None));
    }

    #[test]
    fn in_a_piece_that_is_not_read_to_its_end_a_scan_goes_on_behind_the_last_record() {
        let mut forward = cursor(Direction::Forward, 9, 999);
        assert!(!forward.take(&span("a", "m"), found("b c"), false));
        assert_eq!(forward.wanted(), Some(&span("c\0", "z")));
        let mut backward = cursor(Direction::Backward, 9, 999);
        assert!(!backward.take(&span("m", "z"), found("x w"), false));
        assert_eq!(backward.wanted(), Some(&span("a", "w")));
    }

    #[test]
    fn a_page_stops_at_its_records_and_at_its_bytes_and_holds_one_record_at_least() {
        for (records_max, bytes_max, want) in [(2, 999, "b c"), (9, 6, "b c"), (9, 5, "b c"), (9, 0, "b")] {
            let mut cursor = cursor(Direction::Forward, records_max, bytes_max);
            assert!(!cursor.take(&span("a", "m"), found("b c d"), true));
            assert_eq!(cursor.wanted(), None, "{records_max} {bytes_max}");
            let page = cursor.finish();
            assert_eq!(page.records, found(want), "{records_max} {bytes_max}");
            assert!(page.next.is_some());
        }
    }

    #[test]
    fn nothing_is_read_of_an_empty_span() {
        for (start, end) in [("b", "b"), ("c", "b")] {
            let scan = Scan {
                span: span(start, end),
                direction: Direction::Forward,
                records_max: 1,
                bytes_max: 1,
                values: true,
            };
            assert_eq!(Cursor::new(&scan).wanted(), None);
        }
    }
}
