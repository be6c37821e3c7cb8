use std::fmt::Write as _;

use super::{Measurement, Results};

/// The tables of a run, one for each row, with the median of the rounds and, of throughput and CPU time, the least and
/// the most. Markdown, so that it can be pasted.
pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    for row in results.rows() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n### {row}\n\n{HEAD}");
        for system in results.systems() {
            if results.rounds(row, system).next().is_some() {
                text.push_str(&line(results, row, system));
            }
        }
        for missing in results.missing.iter().filter(|missing| missing.row == row) {
            let _ = writeln!(text, "\n{}: {}", missing.system, missing.reason);
        }
    }
    let rows = results.rows();
    for missing in results.missing.iter().filter(|missing| !rows.contains(&missing.row.as_str())) {
        let _ = writeln!(text, "\n{}, {}: {}", missing.row, missing.system, missing.reason);
    }
    let (before, after) = results.load_average;
    let _ = writeln!(
        text,
        "\n{} processors, load average {before} before and {after} after; {}.\n\
         CPU: µs per operation, of the server and of the load generator.",
        results.processors, results.scale
    );
    text
}

const HEAD: &str = "\
| system | operations/s | p50 ms | p99 ms | p99.9 ms | server CPU | generator CPU | RSS MiB | peak + MiB | written B | more |
|---|---|---|---|---|---|---|---|---|---|---|
";

fn line(results: &Results, row: &str, system: &str) -> String {
    let median = |number: &dyn Fn(&Measurement) -> Option<f64>| {
        results.spread(row, system, number).map(|spread| spread.median)
    };
    let millis = |number: &dyn Fn(&Measurement) -> u64| {
        median(&|measured| Some(number(measured) as f64 / 1000.0)).map_or_else(dash, |ms| format!("{ms:.2}"))
    };
    let whole = |number: Option<f64>| number.map_or_else(dash, |number| format!("{number:.0}"));
    let with_spread = |number: &dyn Fn(&Measurement) -> Option<f64>, digits: usize| {
        results.spread(row, system, number).map_or_else(dash, |spread| {
            format!("{:.digits$} ({:.digits$}–{:.digits$})", spread.median, spread.min, spread.max)
        })
    };
    let store = with_spread(&|measured| measured.store_cpu_us, 1);
    let server = with_spread(&|measured| measured.server_cpu_us, 1);
    let server = if store == dash() { server } else { format!("{server} + store {store}") };
    format!(
        "| {system} | {} | {} | {} | {} | {server} | {} | {} | {} | {} | {} |\n",
        with_spread(&|measured| Some(measured.throughput()), 0),
        millis(&|measured| measured.p50_us),
        millis(&|measured| measured.p99_us),
        millis(&|measured| measured.p999_us),
        with_spread(&|measured| Some(measured.generator_cpu_us), 1),
        whole(median(&|measured| measured.rss_mib)),
        whole(median(&|measured| measured.rss_extra_mib)),
        whole(median(&|measured| measured.written_bytes)),
        more(results, row, system),
    )
}

/// What only this row has.
fn more(results: &Results, row: &str, system: &str) -> String {
    let names =
        results.rounds(row, system).next().map(|first| first.extra.keys().cloned().collect::<Vec<_>>());
    let numbers = names.unwrap_or_default().into_iter().filter_map(|name| {
        let spread = results.spread(row, system, |measured| measured.extra.get(&name).copied())?;
        Some(format!("{name} {:.1}", spread.median))
    });
    numbers.collect::<Vec<_>>().join(", ")
}

fn dash() -> String {
    "–".into()
}

#[cfg(test)]
mod tests {
    use super::super::Missing;
    use super::super::tests::results;
    use super::*;

    #[test]
    fn a_row_shows_medians_and_their_spread_and_what_is_missing() {
        let mut results = results(&[("orlop", &[(10, 1.0), (30, 3.0), (20, 2.0)]), ("etcd", &[(5, 9.0)])]);
        results.measurements[0].extra.insert("objects/s".into(), 7.0);
        let missing = Missing { row: "list/paged".into(), system: "kine".into(), reason: "no time".into() };
        results.missing.push(missing);
        let text = table(&results);
        assert!(text.contains("| orlop | 20 (10–30) | 0.00 | 0.00 | 0.00 | 2.0 (1.0–3.0) |"), "{text}");
        assert!(text.contains("| objects/s 7.0 |"), "{text}");
        assert!(text.contains("| etcd | 5 (5–5) |"), "{text}");
        assert!(text.contains("list/paged, kine: no time"), "{text}");
    }
}
