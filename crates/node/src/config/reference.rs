use super::setting::{Family, Setting};
use super::settings::SETTINGS;

/// The text of `docs/configuration.md`.
pub fn reference_page() -> String {
    let mut page = String::from(
        "\
# Configuration

<!-- Written by `cargo test -p node --test reference_page` from crates/node/src/config/settings.rs: change that. -->

`orlop`, or `orlop serve`, runs a server. Everything below can be given in three ways:

| way | for `data-dir` |
|---|---|
| flag | `--data-dir /var/lib/orlop` or `--data-dir=/var/lib/orlop` |
| environment variable | `ORLOP_DATA_DIR=/var/lib/orlop` |
| TOML file named by `--config-file` | `data-dir = \"/var/lib/orlop\"` |

A flag goes before the variable, the variable before the file, the file before the default. A flag that is there
twice counts as it is there last. A variable that is empty counts as not set. Lists are separated by commas; in the
file they can also be a list: `listen-client-urls = [\"http://127.0.0.1:2379\", \"http://10.0.0.1:2379\"]`.

Nothing is ignored: an unknown flag, key or `ORLOP_` variable is an error, and so is a value that cannot be used.
All errors are written to standard error at once, each on a line, and the process ends with code 64. Only the
variables that Kubernetes sets in containers for a service called `orlop` (`ORLOP_SERVICE_HOST`, `ORLOP_PORT` and the
like) are passed over.
",
    );
    for (family, title) in [(Family::Etcd, "As etcd has them"), (Family::Own, "Orlop's own")] {
        page.push_str(&format!("\n## {title}\n"));
        for setting in SETTINGS.iter().filter(|setting| setting.family == family) {
            page.push_str(&entry(setting));
        }
    }
    page.push_str(EXIT_CODES);
    page
}

fn entry(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "none".to_owned(),
        default => format!("`{default}`"),
    };
    format!(
        "\n### `{} {}`\n\n{}.\n\n{}\n\nVariable `{}` · default {default}\n",
        setting.flag(),
        setting.value,
        setting.summary,
        setting.detail,
        setting.variable(),
    )
}

const EXIT_CODES: &str = "
## Exit codes

| code | meaning |
|---|---|
| 0 | it was asked to stop (SIGTERM, SIGINT) and did |
| 1 | it could not start, or had to stop; the last line on standard error says why |
| 64 | the command line or the configuration is wrong |
| 130, 143 | a second SIGINT or SIGTERM ended it at once; what was acknowledged is on disk all the same |
";
