use std::fmt::Write as _;

use super::{Measurement, Results, Spread};

/// How a run compares with an earlier one: the ratio of the medians, and a mark where no round of one is among those
/// of the other, which is what the spread of the rounds does not explain.
pub(crate) fn compare(earlier: &Results, now: &Results) -> String {
    let mut text = String::new();
    if earlier.scale != now.scale {
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "NOT COMPARABLE: the scale was {:?}, now it is {:?}", earlier.scale, now.scale);
    }
    text.push_str("| row | system | throughput, now / earlier | server CPU | p99 |\n|---|---|---|---|---|\n");
    for row in now.rows() {
        for system in now.systems() {
            let ratio = |number: fn(&Measurement) -> Option<f64>, more_is_better: bool| {
                let spreads = (earlier.spread(row, system, number), now.spread(row, system, number));
                if let (Some(earlier), Some(now)) = spreads {
                    told(&earlier, &now, more_is_better)
                } else {
                    "–".into()
                }
            };
            if earlier.rounds(row, system).next().is_none() || now.rounds(row, system).next().is_none() {
                continue;
            }
            let throughput = ratio(|measured| Some(measured.throughput()), true);
            let cpu = ratio(|measured| measured.server_cpu_us, false);
            let p99 = ratio(|measured| Some(measured.p99_us as f64), false);
            let _ = writeln!(text, "| {row} | {system} | {throughput} | {cpu} | {p99} |");
        }
    }
    text
}

fn told(earlier: &Spread, now: &Spread, more_is_better: bool) -> String {
    if earlier.median == 0.0 {
        return "–".into();
    }
    let ratio = now.median / earlier.median;
    let mark = match now.is_apart_from(earlier) {
        false => "",
        true if (ratio > 1.0) == more_is_better => " better",
        true => " WORSE",
    };
    format!("{ratio:.2}{mark}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::results;
    use super::*;

    #[test]
    fn what_lies_outside_the_spread_is_marked() {
        let earlier = results(&[("orlop", &[(100, 10.0), (120, 11.0)]), ("etcd", &[(50, 20.0), (60, 30.0)])]);
        let now = results(&[("orlop", &[(200, 12.0), (210, 13.0)]), ("etcd", &[(55, 25.0), (56, 25.0)])]);
        let text = compare(&earlier, &now);
        assert!(text.contains("| create/512b-300c | orlop | 2.00 better | 1.20 WORSE | – |"), "{text}");
        assert!(text.contains("| create/512b-300c | etcd | 1.10 | 1.25 | – |"), "{text}");
        assert!(!text.contains("NOT COMPARABLE"));
    }

    #[test]
    fn another_scale_is_said_to_be_another() {
        let mut earlier = results(&[]);
        earlier.scale = "other".into();
        assert!(compare(&earlier, &results(&[])).starts_with("NOT COMPARABLE"));
    }
}
