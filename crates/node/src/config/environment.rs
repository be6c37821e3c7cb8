//! The environment: `ORLOP_DATA_DIR` for `--data-dir`, and so on.

use std::ffi::OsString;

use super::problem::Problems;
use super::setting::{Setting, VARIABLE_PREFIX};
use super::settings::SETTINGS;

/// The settings that variables hold. One that is empty counts as not set, as with etcd.
pub(crate) fn parse(
    variables: Vec<(OsString, OsString)>,
    problems: &mut Problems,
) -> Vec<(&'static Setting, String)> {
    let mut settings = Vec::new();
    // The order of an environment means nothing: messages come in that of names.
    let mut ours: Vec<_> = variables.into_iter().filter_map(ours).collect();
    ours.sort();
    for (name, value) in ours {
        let known = SETTINGS.iter().find(|setting| setting.variable() == name);
        match (known, value.into_string()) {
            (None, _) if is_service_link(&name) => {}
            (None, _) => problems.unknown_variable(&name),
            (Some(_), Err(other)) => {
                problems.add(format_args!("{name}: {}: expected UTF-8", other.to_string_lossy()));
            }
            (Some(_), Ok(value)) if value.is_empty() => {}
            (Some(setting), Ok(value)) => settings.push((setting, value)),
        }
    }
    settings
}

fn ours((name, value): (OsString, OsString)) -> Option<(String, OsString)> {
    let name = name.into_string().ok()?;
    name.starts_with(VARIABLE_PREFIX).then_some((name, value))
}

/// Whether Kubernetes set a variable: a container is given the addresses of the services around it, and one of them
/// may well be called `orlop`: `ORLOP_SERVICE_HOST`, `ORLOP_PORT`, `ORLOP_PORT_2379_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let has_port = |(_, behind): (&str, &str)| behind.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(has_port)
}
