use std::collections::HashMap;
use std::sync::Arc;

use model::{KeyRange, RangeEnd};
use toml::{Table, Value};

use super::access::Access;

/// The entry of everybody who has none of their own.
const EVERYBODY: &str = "*";

/// What clients may do.
#[derive(Debug, Default)]
pub(super) struct Rules(HashMap<String, Arc<Rights>>);

/// What one client may do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(super) read: Keys,
    pub(super) write: Keys,
    /// Compaction, maintenance and every lease.
    pub(super) admin: bool,
}

/// Keys by their prefixes: as ranges that do not touch, in their order. One without an end is the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Rules {
    /// Reads a file; an error says where it is wrong.
    pub(super) fn parse(text: &str) -> Result<Rules, String> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", 1 + before.matches('\n').count(), error.message())
        })?;
        let rights = table.into_iter().map(|(name, value)| match value {
            Value::Table(entry) => Ok((name.clone(), Arc::new(rights(&name, entry)?))),
            _ => Err(format!("{name}: expected a table, [\"a client's name\"]")),
        });
        Ok(Rules(rights.collect::<Result<_, String>>()?))
    }

    /// What a client may do: as its own entry says, or that of everybody.
    pub(super) fn of(&self, name: Option<&str>) -> Access {
        let own = name.filter(|name| *name != EVERYBODY).and_then(|name| self.0.get(name));
        match own.or_else(|| self.0.get(EVERYBODY)) {
            Some(rights) => Access::Rights(rights.clone()),
            None => Access::Nothing,
        }
    }
}

fn rights(name: &str, entry: Table) -> Result<Rights, String> {
    let mut rights = Rights::default();
    for (key, value) in entry {
        match (key.as_str(), value) {
            ("read", value) => rights.read = keys(name, "read", &value)?,
            ("write", value) => rights.write = keys(name, "write", &value)?,
            ("admin", Value::Boolean(admin)) => rights.admin = admin,
            ("admin", _) => return Err(format!("{name}: admin: expected true or false")),
            (other, _) => return Err(format!("{name}: {other}: expected read, write or admin")),
        }
    }
    Ok(rights)
}

fn keys(name: &str, what: &str, value: &Value) -> Result<Keys, String> {
    let prefixes: Option<Vec<&str>> =
        value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    match prefixes {
        Some(prefixes) => Ok(Keys::of(&prefixes)),
        None => Err(format!("{name}: {what}: expected a list of prefixes, such as [\"/registry/\"]")),
    }
}

impl Keys {
    fn of(prefixes: &[&str]) -> Keys {
        let mut prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
        prefixes.sort_unstable();
        let mut ranges: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for prefix in prefixes {
            let end = end_of(prefix);
            match ranges.last_mut() {
                // Sorted, so that it begins within the last, or right behind it, or further on.
                Some((_, last)) if last.as_deref().is_none_or(|last| prefix <= last) => {
                    if last.is_some() && (end.is_none() || end > *last) {
                        *last = end;
                    }
                }
                _ => ranges.push((prefix.to_vec(), end)),
            }
        }
        Keys(ranges)
    }

    /// Whether all keys that can be in `range` are among these. A range that can hold none counts as its first key.
    pub(super) fn hold(&self, range: &KeyRange) -> bool {
        let start = range.start().as_ref();
        let behind = self.0.partition_point(|(from, _)| from.as_slice() <= start);
        let Some((_, until)) = behind.checked_sub(1).and_then(|place| self.0.get(place)) else {
            return false;
        };
        let Some(until) = until else { return true };
        start < until.as_slice()
            && match range.end() {
                RangeEnd::Single => true,
                RangeEnd::Before(end) => end.as_ref() <= until.as_slice(),
                RangeEnd::Unbounded => false,
            }
    }

    /// Whether there are none.
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first key behind all with a prefix; none when there is no end.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(key: &str, end: &str) -> KeyRange {
        KeyRange::from_wire(key.to_owned(), end.to_owned()).unwrap()
    }

    #[test]
    fn a_range_is_held_when_all_of_it_is() {
        let keys = Keys::of(&["/registry/", "a", "b", "ab", "\u{10ffff}"]);
        for (key, end, held) in [
            ("/registry/", "", true),
            ("/registry/x", "", true),
            ("/registry", "", false),
            ("/registry/", "/registry0", true),
            ("/registry/", "/registry1", false),
            ("/registr", "/registry0", false),
            ("/registry/", "\0", false),
            ("a", "c", true),
            ("a", "c\0", false),
            ("abc", "", true),
            ("c", "a", false),
            ("b", "a", true),
        ] {
            assert_eq!(keys.hold(&range(key, end)), held, "{key:?} to {end:?}");
        }
        assert!(Keys::of(&[""]).hold(&KeyRange::all()) && Keys::of(&["", "a"]).hold(&KeyRange::all()));
        assert!(Keys::of(&["a", ""]).hold(&range("b", "\0")));
        assert!(!Keys::of(&[]).hold(&range("a", "")));
    }

    proptest! {
        #[test]
        fn keys_are_held_as_their_prefixes_say(
            prefixes in prop::collection::vec("[ab]{0,3}", 0..4),
            start in "[abc]{1,4}",
            end in "[abc]{1,4}",
            probe in "[abc]{1,5}",
        ) {
            let of: Vec<_> = prefixes.iter().map(String::as_str).collect();
            let keys = Keys::of(&of);
            prop_assert_eq!(keys.hold(&range(&probe, "")), of.iter().any(|prefix| probe.starts_with(prefix)));
            let whole = range(&start, &end);
            if keys.hold(&whole) && whole.contains(probe.as_bytes()) {
                prop_assert!(keys.hold(&range(&probe, "")), "{} is in a range that is held", probe);
            }
        }
    }

    #[test]
    fn the_own_entry_counts_before_that_of_everybody() {
        let rules = Rules::parse("[one]\nread = ['a']\n['*']\nwrite = ['b']\nadmin = true").unwrap();
        let Access::Rights(one) = rules.of(Some("one")) else { panic!() };
        let Access::Rights(other) = rules.of(Some("two")) else { panic!() };
        let Access::Rights(nameless) = rules.of(None) else { panic!() };
        assert!(one.read.hold(&range("a", "")) && one.write.are_none() && !one.admin);
        assert!(other.write.hold(&range("b", "")) && other.read.are_none() && other.admin);
        assert_eq!(other, nameless);
        assert!(matches!(Rules::parse("[one]").unwrap().of(Some("two")), Access::Nothing));
        // Nobody can be everybody by a certificate with that name.
        assert!(matches!(Rules::parse("[one]").unwrap().of(Some("*")), Access::Nothing));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("one = 1", "one: expected a table"),
            ("[one]\nread = 'a'", "one: read: expected a list of prefixes"),
            ("[one]\nwrite = [1]", "one: write: expected a list of prefixes"),
            ("[one]\nadmin = 1", "one: admin: expected true or false"),
            ("[one]\nreads = []", "one: reads: expected read, write or admin"),
            ("[one]\n\nread = [", "line 3: "),
        ] {
            let complaint = Rules::parse(text).unwrap_err();
            assert!(complaint.starts_with(expected), "{text:?}: {complaint}");
        }
    }
}
