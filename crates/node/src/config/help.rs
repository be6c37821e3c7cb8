use super::setting::{Family, Setting};
use super::settings::SETTINGS;

/// What the server calls itself, and the API that it serves.
pub(crate) fn version() -> String {
    format!("orlop {} (etcd API 3.7)\n", env!("CARGO_PKG_VERSION"))
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "\
Orlop: a metadata store for Kubernetes that speaks the etcd v3 API.

Usage:
  orlop [serve] [flags]   run a server until SIGTERM or Ctrl-C
  orlop backup [flags]    write the state of a running store into a file (orlop backup --help)
  orlop check [flags]     check every record of a store (orlop check --help)
  orlop decode [FILE]     show which Kubernetes object a value holds (orlop decode --help)
  orlop dump [flags]      print the records of a store as they are (orlop dump --help)
  orlop import [flags]    make a data directory of a snapshot (orlop import --help)
  orlop log [flags]       print the revision log of a data directory (orlop log --help)
  orlop restore FILE      make a new store of a backup (orlop restore --help)
  orlop --help            show this
  orlop --version         show the version

Without flags it listens on http://127.0.0.1:2379 and keeps its data in ./orlop-data.
",
    );
    for (family, title) in [(Family::Etcd, "Flags as etcd has them"), (Family::Own, "Flags of Orlop")] {
        text.push_str(&format!("\n{title}:\n"));
        for setting in SETTINGS.iter().filter(|setting| setting.family == family) {
            text.push_str(&entry(setting));
        }
    }
    text.push_str(
        "
Each flag is also an environment variable (ORLOP_DATA_DIR for --data-dir) and a key of the
file (data-dir = \"...\"). A flag goes before the variable, the variable before the file.

Exit codes: 0 stopped as asked, 1 failed, 64 the command line or configuration is wrong.
",
    );
    text
}

fn entry(setting: &Setting) -> String {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    format!("  {} {}\n      {}{default}\n", setting.flag(), setting.value, setting.summary)
}
