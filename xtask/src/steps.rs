//! The steps of `cargo xtask test`, in their order: what is quick and fails often comes first.

use std::path::{Path, PathBuf};

use crate::context::{Context, output, run};
use crate::{deny, fuzz, tidy, tools};

/// One step: a name for `--only`, what it does, and the doing.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Context) -> Result<(), String>,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A suite of Go tests hangs when it takes longer than this; each of them takes a few minutes.
const GO_TEST_TIMEOUT: &str = "-timeout=40m";

/// The features with the tests that need a TiKV cluster, which only the step tikv has.
const CLUSTER_TESTS: &str = "engine-tikv/cluster-tests,orlop/cluster-tests";

/// All steps, in the order in which they run.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "tools", about: "the tools needed beyond Rust are there", run: tools::run },
    Step { name: "fmt", about: "rustfmt would change nothing", run: fmt },
    Step { name: "tidy", about: "the rules of the house hold", run: tidy::run },
    Step { name: "clippy", about: "clippy has nothing to say about any target", run: clippy },
    Step { name: "unit", about: "unit, property and contract tests of every crate", run: unit },
    Step { name: "doc", about: "the documentation builds, no link in it is broken", run: doc },
    Step { name: "fuzz", about: "nothing is found in what parses bytes, in a minute", run: fuzz::step },
    Step { name: "deny", about: "licences and sources of what is built in", run: deny::step },
    Step { name: "build", about: "build the release binary that the suites run against", run: build },
    Step { name: "sim", about: "fresh seeds of the simulation", run: sim },
    Step {
        name: "protocol",
        about: "the model of the fleet's protocol, and what each rule is for",
        run: protocol,
    },
    Step { name: "planted", about: "build a binary with bugs that can be switched on", run: planted },
    Step { name: "golint", about: "gofmt and go vet have nothing to say about the suites", run: golint },
    Step { name: "reference", about: "build the real etcd, etcdctl and etcdutl", run: reference },
    Step {
        name: "tikv-server",
        about: "build and test the TiKV server that tests run against",
        run: tikv_server,
    },
    Step { name: "proto", about: "our protocol descriptors are etcd's", run: proto },
    Step { name: "etcd", about: "etcd's contract, etcdctl, what others got wrong", run: etcd },
    Step { name: "deploy", about: "the chart, its manifests and the unit fit the program", run: deploy },
    Step {
        name: "observability",
        about: "dashboard and alerts ask for what servers print",
        run: observability,
    },
    Step { name: "robustness", about: "etcd's robustness validators, while faults strike", run: robustness },
    Step { name: "power", about: "power cuts under the running binary", run: power },
    Step { name: "tikv", about: "the engine on TiKV, and the program on it, against that server", run: tikv },
    Step { name: "storage", about: "Kubernetes' own tests of its storage", run: storage },
    Step { name: "kube", about: "a real Kubernetes control plane", run: kube },
];

/// Finds a step by its name.
pub(crate) fn parse(name: &str) -> Result<&'static Step, String> {
    STEPS.iter().find(|step| step.name == name).ok_or_else(|| {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        format!("there is no such step; the steps are {}", names.join(", "))
    })
}

fn fmt(context: &Context) -> Result<(), String> {
    run(&mut context.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(context: &Context) -> Result<(), String> {
    // With the tests that the step tikv runs.
    let targets = ["clippy", "--workspace", "--all-targets", "--features", CLUSTER_TESTS, "--locked"];
    run(context.cargo(&targets).args(["--", "-D", "warnings"]))
}

fn unit(context: &Context) -> Result<(), String> {
    run(&mut context.cargo(&["test", "--workspace", "--locked"]))
}

fn doc(context: &Context) -> Result<(), String> {
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
    run(context.cargo(&args).env("RUSTDOCFLAGS", "-D warnings"))
}

fn build(context: &Context) -> Result<(), String> {
    run(&mut context.cargo(&["build", "--release", "--package", "orlop", "--locked"]))
}

/// How many fresh seeds a run of the checks plays.
const SIM_SEEDS: &str = "4000";
/// Before how many steps of one more seed the process is killed, once each.
const SIM_KILLS: &str = "1500";

/// How many seeds may pass until a planted bug is found: the rarest takes some hundreds.
const SIM_FIND_SEEDS: &str = "20000";

fn sim(context: &Context) -> Result<(), String> {
    play(context, ["--seeds", SIM_SEEDS].map(String::from).as_slice())?;
    play(context, ["--kill-at-each", SIM_KILLS].map(String::from).as_slice())?;
    play(context, ["--find-planted", "--seeds", SIM_FIND_SEEDS].map(String::from).as_slice())
}

/// Runs the simulation with these arguments.
pub(crate) fn play(context: &Context, args: &[String]) -> Result<(), String> {
    run_of_sim(context, "orlop-sim", args)
}

fn protocol(context: &Context) -> Result<(), String> {
    check_protocol(context, &[])
}

/// Searches the model of the protocol with these arguments.
pub(crate) fn check_protocol(context: &Context, args: &[String]) -> Result<(), String> {
    run_of_sim(context, "orlop-protocol", args)
}

fn run_of_sim(context: &Context, program: &str, args: &[String]) -> Result<(), String> {
    let cargo = ["run", "--quiet", "--release", "--locked", "--package", "sim", "--bin", program, "--"];
    run(context.cargo(&cargo).args(args))
}

/// In the same target directory, as most of what it needs is there; so the release binary has to be put back.
fn planted(context: &Context) -> Result<(), String> {
    let args = ["build", "--release", "--package", "orlop", "--features", "planted", "--locked"];
    run(&mut context.cargo(&args))?;
    let planted = context.planted();
    let copy = || {
        planted.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        // Not over a binary that may be running.
        let new = planted.with_extension("new");
        std::fs::copy(context.orlop(), &new)?;
        std::fs::rename(&new, &planted)
    };
    let copied = copy().map_err(|error| format!("copying to {}: {error}", planted.display()));
    build(context)?;
    copied
}

fn golint(context: &Context) -> Result<(), String> {
    let gofmt = Path::new(output(&mut context.go(".", &["env", "GOROOT"]))?.trim()).join("bin").join("gofmt");
    for module in context.go_modules()? {
        let unformatted =
            output(std::process::Command::new(&gofmt).arg("-l").arg(context.root.join(&module)))?;
        if !unformatted.is_empty() {
            return Err(format!("gofmt would change these files, run `gofmt -w {module}`:\n{unformatted}"));
        }
        run(&mut context.go(&module, &["vet", "./..."]))?;
    }
    Ok(())
}

/// Builds the real etcd and etcdctl.
pub(crate) fn reference(context: &Context) -> Result<(), String> {
    for name in ["etcd", "etcdctl"] {
        let package = format!("./cmd/{name}");
        run(context.go("tests/etcd", &["build", "-o"]).arg(context.tool(name)).arg(package))?;
    }
    // Its main package is a public one.
    let etcdutl = "go.etcd.io/etcd/etcdutl/v3";
    run(context.go("tests/etcd", &["build", "-o"]).arg(context.tool("etcdutl")).arg(etcdutl))
}

/// The program that `tests/tikv` makes.
pub(crate) const TIKV_SERVER: &str = "tikv-server";

/// The program that takes the place of one server with several.
const FLEET: &str = "fleet";

/// Builds the TiKV server for tests, without testing it.
pub(crate) fn build_tikv_server(context: &Context) -> Result<(), String> {
    run(context.go("tests/tikv", &["build", "-o"]).arg(context.tool(TIKV_SERVER)).arg("./cmd/tikv-server"))
}

fn tikv_server(context: &Context) -> Result<(), String> {
    build_tikv_server(context)?;
    run(context.go("tests/tikv", &["build", "-o"]).arg(context.tool(FLEET)).arg("./cmd/fleet"))?;
    suite(context, "tests/tikv", &[])
}

/// The TiKV server, if it is built.
fn tikv_program(context: &Context) -> Result<PathBuf, String> {
    let server = context.tool(TIKV_SERVER);
    match server.is_file() {
        true => Ok(server),
        false => Err(format!("{} does not exist: run the step tikv-server first", server.display())),
    }
}

/// The tests that need a cluster: one that they start, or the real one that `ORLOP_TEST_PD` names.
fn tikv(context: &Context) -> Result<(), String> {
    let server = tikv_program(context)?;
    let args =
        ["test", "--package", "engine-tikv", "--package", "orlop", "--features", CLUSTER_TESTS, "--locked"];
    run(context.cargo(&args).env("ORLOP_TIKV_SERVER", &server))
}

fn proto(context: &Context) -> Result<(), String> {
    let descriptors = context.target.join("descriptors.bin");
    let args = ["run", "--quiet", "--locked", "--package", "proto", "--example", "descriptors", "--"];
    run(context.cargo(&args).arg(&descriptors))?;
    suite(context, "tests/proto", &[("ORLOP_DESCRIPTORS", descriptors)])
}

fn etcd(context: &Context) -> Result<(), String> {
    let binaries = binaries(context)?;
    suite(context, "tests/harness", &binaries)?;
    suite(context, "tests/etcd", &binaries)
}

/// The program alone is needed.
fn deploy(context: &Context) -> Result<(), String> {
    let orlop = context.orlop();
    if !orlop.is_file() {
        return Err(format!("{} does not exist: run the step build first", orlop.display()));
    }
    suite(context, "tests/deploy", &[("ORLOP_BIN", orlop)])
}

fn observability(context: &Context) -> Result<(), String> {
    suite(context, "tests/observability", &binaries(context)?)
}

fn power(context: &Context) -> Result<(), String> {
    suite(context, "tests/power", &planted_too(context)?)
}

fn robustness(context: &Context) -> Result<(), String> {
    let mut environment = planted_too(context)?;
    environment.push(("ORLOP_TARGET_DIR", context.target.clone()));
    suite(context, "tests/robustness", &environment)
}

/// The programs, and the one with bugs that can be switched on.
fn planted_too(context: &Context) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let planted = context.planted();
    if !planted.is_file() {
        return Err(format!("{} does not exist: run the step planted first", planted.display()));
    }
    let mut programs = binaries(context)?;
    programs.push(("ORLOP_PLANTED_BIN", planted));
    Ok(programs)
}

fn kube(context: &Context) -> Result<(), String> {
    let mut environment = binaries(context)?;
    environment.push(("ORLOP_TARGET_DIR", context.target.clone()));
    environment.push(("ORLOP_TIKV_SERVER", tikv_program(context)?));
    suite(context, "tests/kube", &environment)
}

fn storage(context: &Context) -> Result<(), String> {
    let mut environment = binaries(context)?;
    environment.push(("ORLOP_TARGET_DIR", context.target.clone()));
    suite(context, "tests/apiserver", &environment)
}

/// The programs that the suites start, under the names by which they look for them.
fn binaries(context: &Context) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let binaries = vec![
        ("ORLOP_BIN", context.orlop()),
        ("ETCD_BIN", context.tool("etcd")),
        ("ETCDCTL_BIN", context.tool("etcdctl")),
        ("ORLOP_FLEET_BIN", context.tool(FLEET)),
        ("ETCDUTL_BIN", context.tool("etcdutl")),
    ];
    if let Some((_, path)) = binaries.iter().find(|(_, path)| !path.is_file()) {
        let first = "run the steps build, reference and tikv-server first";
        return Err(format!("{} does not exist: {first}", path.display()));
    }
    Ok(binaries)
}

/// Runs all tests of a Go module, always anew: what they test is not in Go's cache.
fn suite(context: &Context, module: &str, environment: &[(&str, PathBuf)]) -> Result<(), String> {
    if !context.root.join(module).join("go.mod").is_file() {
        return Err(format!("there is no Go module at {module}"));
    }
    // One package at a time: each of them keeps the machine busy with stores of its own.
    let mut command = context.go(module, &["test", "-count=1", "-p=1", GO_TEST_TIMEOUT, "./..."]);
    for (name, path) in environment {
        command.env(name, path);
    }
    run(&mut command)
}
