use super::*;

/// Every command of the tree, below what is called so.
fn each(command: &Command, path: &str, check: &mut impl FnMut(&Command, &str)) {
    check(command, path);
    for below in command.get_subcommands() {
        each(below, &format!("{path} {}", below.get_name()), check);
    }
}

#[test]
fn every_command_says_what_it_does_how_and_how_it_ends() {
    let mut names = Vec::new();
    each(&tree(), "orlop", &mut |command, path| {
        names.push(path.to_owned());
        assert!(
            command.get_about().is_some_and(|about| !about.to_string().is_empty()),
            "{path}: what it does"
        );
        let details = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(details.contains("Example"), "{path}: an example in --help");
        assert!(details.contains(&format!("  {path}")), "{path}: an example that calls it");
        let codes = details.split_once("Exit codes:").map(|(_, codes)| codes).unwrap_or_default();
        assert!(codes.contains("64"), "{path}: exit codes in --help");
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
        }
    });
    for name in ["orlop", "orlop serve", "orlop import", "orlop log", "orlop completions", "orlop man"] {
        assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
    }
}

#[test]
fn a_command_that_prints_results_has_a_form_for_machines() {
    // What these print is a file for another program already.
    let without = ["orlop", "orlop serve", "orlop completions", "orlop man"];
    each(&tree(), "orlop", &mut |command, path| {
        let output = command.get_arguments().find(|arg| arg.get_short() == Some('o'));
        let json = output.is_some_and(|output| {
            output.get_possible_values().iter().any(|value| value.get_name() == "json")
        });
        assert!(json || without.contains(&path), "{path} has no -o json");
    });
}

#[test]
fn the_tree_is_one_that_clap_would_parse() {
    tree().debug_assert();
}

#[test]
fn every_setting_is_a_flag_of_serve() {
    let tree = tree();
    let serve = tree.find_subcommand("serve").unwrap();
    for setting in SETTINGS {
        let flag = serve.get_arguments().find(|arg| arg.get_long() == Some(setting.name)).unwrap();
        let defaults: Vec<_> = flag.get_default_values().iter().collect();
        assert_eq!(defaults.is_empty(), setting.default.is_empty(), "{}", setting.name);
    }
}
