//! `orlop completions`: what makes a shell complete the command line.

use clap::Args;
use clap_complete::Shell;

use super::tree;

pub(super) const ABOUT: &str = "\
Prints a script that makes a shell complete the commands and flags of orlop.";

pub(super) const DETAILS: &str = "\
Example: for this user's shells
  orlop completions bash > ~/.local/share/bash-completion/completions/orlop
  orlop completions zsh > ~/.zfunc/_orlop        (a directory of fpath)
  orlop completions fish > ~/.config/fish/completions/orlop.fish
  orlop completions powershell >> $PROFILE

Exit codes: 0 it is printed, 1 it could not be, 64 the command line is wrong.";

/// The arguments of `orlop completions`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// The script.
pub(super) fn script(arguments: &CompletionsArguments) -> String {
    // Without a command the flags are those of a server.
    let mut command = tree::tree().args(tree::flags());
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "orlop", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn each_shell_gets_every_command_and_flag() {
        for shell in Shell::value_variants() {
            let script = script(&CompletionsArguments { shell: *shell });
            for word in ["serve", "import", "completions", "data-dir", "from-snapshot", "pd-endpoints"] {
                assert!(script.contains(word), "{shell}: {word} is missing");
            }
        }
    }
}
