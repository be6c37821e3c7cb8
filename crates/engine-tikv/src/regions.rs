use std::collections::BTreeMap;
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use engine::{Direction, KeySpan};
use parking_lot::Mutex;

use crate::cursor::is_empty;
use crate::limits::{BORDERS_MAX, REGION_TIME_MAX, REGIONS_KEPT_MAX, REGIONS_PER_ASK};
use crate::pd::{Pd, PdError, RegionSpan};

/// Where regions end, as far as it was asked for lately.
///
/// A hint: who reads by a border that has moved reads the same records, with a request more or less.
#[derive(Default)]
pub(crate) struct Regions {
    /// By their start. Never locked over a call to PD.
    known: Mutex<BTreeMap<Bytes, Known>>,
}

#[derive(Clone)]
struct Known {
    end: Option<Bytes>,
    asked_at: Duration,
}

impl Regions {
    /// The part of `span`, at its near end in this direction, that lies in one region. `span` holds a key.
    pub(crate) async fn first_piece(
        &self,
        pd: &Pd,
        clock: &dyn Clock,
        span: &KeySpan,
        direction: Direction,
    ) -> Result<KeySpan, PdError> {
        let region = match self.lookup(clock, span, direction) {
            Some(region) => region,
            None => {
                let asked = match direction {
                    Direction::Forward => pd.region_of(&span.start).await?,
                    Direction::Backward => pd.region_before(span.end.as_deref()).await?,
                };
                self.learn(clock, &asked);
                asked
            }
        };
        let piece = intersection(span, &region);
        // A region that lies elsewhere is PD's mistake; without a border the piece is the span.
        Ok(if is_empty(&piece) { span.clone() } else { piece })
    }

    /// At most `pieces - 1` borders inside `span`, about evenly spread.
    pub(crate) async fn cut(&self, pd: &Pd, span: &KeySpan, pieces: usize) -> Result<Vec<Bytes>, PdError> {
        let mut borders = Vec::new();
        let mut start = span.start.clone();
        while borders.len() < BORDERS_MAX {
            let regions = pd.regions_from(&start, span.end.as_deref()).await?;
            let inside = |border: &Bytes| {
                *border > span.start
                    && span.end.as_ref().is_none_or(|end| border < end)
                    && borders.last().is_none_or(|last| border > last)
            };
            let found: Vec<Bytes> = regions.iter().filter_map(|region| region.end.clone()).collect();
            let Some(last) = found.last().cloned() else { break };
            let fresh: Vec<Bytes> = found.into_iter().filter(inside).collect();
            if fresh.is_empty() {
                break;
            }
            borders.extend(fresh);
            if regions.len() < REGIONS_PER_ASK {
                break;
            }
            start = last;
        }
        Ok(spread(borders, pieces.saturating_sub(1)))
    }

    fn lookup(&self, clock: &dyn Clock, span: &KeySpan, direction: Direction) -> Option<RegionSpan> {
        let known = self.known.lock();
        let (start, region) = match (direction, &span.end) {
            (Direction::Forward, _) => known.range(..=span.start.clone()).next_back()?,
            (Direction::Backward, Some(end)) => known.range(..end.clone()).next_back()?,
            (Direction::Backward, None) => known.iter().next_back()?,
        };
        let reaches = match (direction, &region.end, &span.end) {
            (_, None, _) => true,
            (Direction::Forward, Some(end), _) => *end > span.start,
            (Direction::Backward, Some(end), Some(wanted)) => end >= wanted,
            (Direction::Backward, Some(_), None) => false,
        };
        let fresh = clock.now().saturating_sub(region.asked_at) < REGION_TIME_MAX;
        (reaches && fresh).then(|| RegionSpan { start: start.clone(), end: region.end.clone() })
    }

    fn learn(&self, clock: &dyn Clock, region: &RegionSpan) {
        let mut known = self.known.lock();
        if known.len() >= REGIONS_KEPT_MAX {
            known.clear();
        }
        known.insert(region.start.clone(), Known { end: region.end.clone(), asked_at: clock.now() });
    }
}

fn intersection(span: &KeySpan, region: &RegionSpan) -> KeySpan {
    let end = match (&span.end, &region.end) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    KeySpan { start: span.start.clone().max(region.start.clone()), end }
}

/// `count` of the borders, with about as many left out between any two.
fn spread(borders: Vec<Bytes>, count: usize) -> Vec<Bytes> {
    if borders.len() <= count {
        return borders;
    }
    (1..=count).filter_map(|piece| borders.get(piece * borders.len() / (count + 1)).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::*;

    fn span(start: &'static str, end: Option<&'static str>) -> KeySpan {
        KeySpan { start: start.into(), end: end.map(Bytes::from) }
    }

    fn region(start: &'static str, end: Option<&'static str>) -> RegionSpan {
        RegionSpan { start: start.into(), end: end.map(Bytes::from) }
    }

    #[test]
    fn a_region_is_found_from_either_side_until_it_is_old() {
        let clock = ManualClock::default();
        let regions = Regions::default();
        for known in [region("", Some("f")), region("m", Some("t")), region("t", None)] {
            regions.learn(&clock, &known);
        }
        let forward = |start| regions.lookup(&clock, &span(start, None), Direction::Forward);
        let backward = |end| regions.lookup(&clock, &span("", end), Direction::Backward);
        assert_eq!(forward("a"), Some(region("", Some("f"))));
        assert_eq!(forward("f"), None, "a gap");
        assert_eq!(forward("m"), Some(region("m", Some("t"))));
        assert_eq!(backward(Some("t")), Some(region("m", Some("t"))));
        assert_eq!(backward(Some("m")), None, "a gap");
        assert_eq!(backward(None), Some(region("t", None)));
        clock.advance(REGION_TIME_MAX);
        assert_eq!(forward("a"), None);
    }

    #[test]
    fn a_piece_is_what_the_span_and_the_region_have_in_common() {
        let piece = |s: KeySpan, r: RegionSpan| intersection(&s, &r);
        assert_eq!(piece(span("a", Some("z")), region("", Some("f"))), span("a", Some("f")));
        assert_eq!(piece(span("a", None), region("m", None)), span("m", None));
        assert_eq!(piece(span("a", Some("c")), region("", Some("f"))), span("a", Some("c")));
    }

    #[test]
    fn borders_are_spread_evenly_when_there_are_more_than_wanted() {
        let borders: Vec<Bytes> = (0..10_u8).map(|byte| Bytes::from(vec![byte])).collect();
        let of = |count| spread(borders.clone(), count).iter().map(|key| key[0]).collect::<Vec<_>>();
        assert!(of(0).is_empty());
        assert_eq!(of(1), [5]);
        assert_eq!(of(4), [2, 4, 6, 8]);
        assert_eq!(of(10).len(), 10);
    }
}
