use std::time::Duration;

/// The units of Go's durations, in nanoseconds. A unit that begins another one comes behind it.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Digits behind the point that can matter: a nanosecond of an hour has thirteen.
const FRACTION_DIGITS_MAX: usize = 13;

/// A duration as Go writes it, and etcd's flags with it: `10m`, `1s500ms`, `1.5h`.
pub(crate) fn parse(value: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 10m, 5s or 1m30s".to_owned();
    let mut rest = value.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, behind) = part(rest).ok_or_else(wrong)?;
        nanos = nanos.checked_add(part).ok_or_else(wrong)?;
        rest = behind;
    }
    // As in Go, a duration has 63 bits of nanoseconds: some 292 years.
    let nanos = i64::try_from(nanos).map_err(|_| wrong())?;
    Ok(Duration::from_nanos(nanos.unsigned_abs()))
}

/// A duration of at least `least`.
pub(crate) fn at_least(value: &str, least: Duration) -> Result<Duration, String> {
    let duration = parse(value)?;
    if duration < least { Err(format!("expected at least {least:?}")) } else { Ok(duration) }
}

/// The nanoseconds of the number and unit that `text` begins with, and what is behind them.
fn part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit, nanos) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
    let nanos = u128::from(*nanos);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let sum = whole.checked_mul(nanos)?.checked_add(fraction * nanos / scale)?;
    Some((sum, rest.strip_prefix(unit)?))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("10m", Some(600_000_000_000)),
            ("1s500ms", Some(1_500_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("7us", Some(7_000)),
            ("7µs", Some(7_000)),
            ("1h1m1s1ms1us1ns", Some(3_661_001_001_001)),
            ("0.00000000000000000001h", Some(0)),
            ("9223372036854775807ns", Some(9_223_372_036_854_775_807)),
            ("9223372036854775808ns", None),
            ("99999999999999999999999999999999999999999h", None),
            ("", None),
            ("10", None),
            ("m", None),
            (".s", None),
            ("-5s", None),
            ("5 s", None),
            ("5x", None),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text).ok(), nanos.map(Duration::from_nanos), "{text:?}");
        }
    }
}
