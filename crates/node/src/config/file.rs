//! A configuration file: TOML, its keys the names of the flags.

use std::path::Path;

use toml::{Table, Value};

use super::problem::Problems;
use super::setting::Setting;
use super::settings::{CONFIG_FILE, find};
use super::source::Source;

/// The settings that a file holds.
pub(crate) fn parse(
    path: &Path,
    source: &dyn Source,
    problems: &mut Problems,
) -> Vec<(&'static Setting, String)> {
    let file = path.display().to_string();
    let table = match source.read_file(path) {
        Ok(text) => match text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                let line = error
                    .span()
                    .map_or(1, |span| 1 + text.bytes().take(span.start).filter(is_newline).count());
                problems.add(format_args!("{file}: line {line}: {}", error.message()));
                return Vec::new();
            }
        },
        Err(error) => {
            problems.add(format_args!("{file}: the configuration file cannot be read: {error}"));
            return Vec::new();
        }
    };
    let mut settings = Vec::new();
    for (key, value) in &table {
        match (find(key), text_of(value)) {
            (None, _) => problems.unknown_key(&file, key),
            (Some(setting), _) if setting.name == CONFIG_FILE => {
                problems.add(format_args!("{file}: {key}: a file cannot name another file"));
            }
            (Some(_), None) => {
                problems.add(format_args!(
                    "{file}: {key}: expected a text, a number, true or false, or a list of texts"
                ));
            }
            (Some(setting), Some(value)) => settings.push((setting, value)),
        }
    }
    settings
}

fn is_newline(byte: &u8) -> bool {
    *byte == b'\n'
}

/// A value as the flag would have it.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(is_on) => Some(is_on.to_string()),
        Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}
