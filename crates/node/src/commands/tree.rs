//! All commands as one tree, with the server's flags: what completions, manual pages and the reference page are made of.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};

use super::CommandLine;
use crate::config::{SETTINGS, SWITCH, Setting};

const ABOUT: &str = "A metadata store for Kubernetes that speaks the etcd v3 API";

const SERVE: &str = "\
Runs a server until SIGTERM or Ctrl-C. `orlop` alone does the same.

Each flag is also an environment variable (ORLOP_DATA_DIR for --data-dir) and a key of the file that --config-file names
(data-dir = \"...\"). A flag goes before the variable, the variable before the file, the file before the default.";

/// The end of the help of `orlop` and `orlop serve`.
pub(crate) const SERVE_DETAILS: &str = "\
Example: a server with certificates, and metrics on a port of their own
  orlop serve --data-dir /var/lib/orlop --listen-client-urls https://10.0.0.5:2379 \\
    --cert-file server.crt --key-file server.key --trusted-ca-file clients-ca.crt \\
    --listen-metrics-urls http://10.0.0.5:2381

Exit codes: 0 stopped as asked, 1 failed, 64 the command line or configuration is wrong, 130 or
143 a second Ctrl-C or SIGTERM ended it at once; what was acknowledged is on disk all the same.";

const DETAILS: &str = "\
Example: what a command does
  orlop import --help

Exit codes: those of the command; 64 always is a command line or a configuration that is wrong.";

/// The whole command line.
pub(crate) fn tree() -> Command {
    CommandLine::command()
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .after_long_help(DETAILS)
        .subcommand(serve())
}

/// The flags of a server, which can be given without a command too.
pub(crate) fn flags() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(flag)
}

fn serve() -> Command {
    Command::new("serve")
        .about("Run a server until SIGTERM or Ctrl-C")
        .long_about(SERVE)
        .after_long_help(SERVE_DETAILS)
        .args(flags())
}

fn flag(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value)
        .help(setting.summary)
        .long_help(format!("{}. {} Variable {}.", setting.summary, setting.detail, setting.variable()))
        .action(ArgAction::Append)
        .value_hint(match setting.value {
            "FILE" => ValueHint::FilePath,
            "DIR" => ValueHint::DirPath,
            _ => ValueHint::Other,
        });
    let arg = match setting.default {
        "" => arg,
        default => arg.default_value(default),
    };
    match setting.value {
        SWITCH => arg.num_args(0..=1).value_parser(PossibleValuesParser::new(["true", "false"])),
        _ => arg,
    }
}

#[cfg(test)]
mod tests;
