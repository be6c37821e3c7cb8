/// OpenMetrics text in the older format of Prometheus, which is what who does not ask for the newer one expects:
/// there a counter's description has the same name as the counter, and nothing marks the end.
pub(crate) fn classic(text: &str) -> String {
    let counters: Vec<&str> = text.lines().filter_map(counter_name).collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some(("HELP" | "TYPE", rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let kind = &line[..7];
                let suffix = if counters.contains(&name) { "_total" } else { "" };
                // What the newer format calls unknown the older one calls untyped.
                let rest = if rest == "unknown" { "untyped" } else { rest };
                classic.push_str(&format!("{kind}{name}{suffix} {rest}\n"));
            }
            _ if line == "# EOF" || line.starts_with("# UNIT ") => {}
            _ => {
                classic.push_str(line);
                classic.push('\n');
            }
        }
    }
    classic
}

fn counter_name(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.strip_suffix(" counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_under_its_full_name() {
        let newer = "# HELP puts Puts.\n# TYPE puts counter\nputs_total 3\n\
            # HELP keys_total Keys.\n# TYPE keys_total gauge\nkeys_total 2\n# EOF\n";
        let older = "# HELP puts_total Puts.\n# TYPE puts_total counter\nputs_total 3\n\
            # HELP keys_total Keys.\n# TYPE keys_total gauge\nkeys_total 2\n";
        assert_eq!(classic(newer), older);
    }
}
