use clap::Command;

use super::tree;

/// The text of `docs/commands.md`.
pub fn commands_page() -> String {
    let mut page = String::from(
        "\
# Commands

<!-- Written by `cargo test -p node --test reference_page` from crates/node/src/commands: change that. -->

What `--help` says of each. `orlop completions` makes a shell complete them, `orlop man` writes them as manual pages.
The flags of a server are in [configuration](configuration.md).
",
    );
    let mut tree = tree::tree();
    tree.build();
    for command in tree.get_subcommands() {
        page.push_str(&section(command));
    }
    page
}

fn section(command: &Command) -> String {
    let mut command = command.clone();
    let is_serve = command.get_name() == "serve";
    if is_serve {
        // They have a page of their own.
        command = command.mut_args(|arg| arg.hide(true)).override_usage("orlop [serve] [flags]");
    }
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    format!("\n## orlop {}\n\n```text\n{}\n```\n", command.get_name(), help.join("\n").trim_end())
}
