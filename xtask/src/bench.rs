//! Builds what is measured and what measures, and starts it.

use crate::context::{Context, run};
use crate::steps;

/// Measures with these arguments; they come behind the paths, so that they win.
pub(crate) fn command(context: &Context, args: &[String]) -> Result<(), String> {
    let build = ["build", "--release", "--package", "orlop", "--package", "orlop-bench", "--locked"];
    run(&mut context.cargo(&build))?;
    let wants_nothing_else = args.iter().any(|arg| arg == "--list" || arg == "--help" || arg == "-h");
    if !wants_nothing_else {
        steps::reference(context)?;
        steps::build_tikv_server(context)?;
        run(context.go("tests/kine", &["build", "-o"]).arg(context.tool("kine")).arg("./cmd/kine"))?;
    }
    let mut bench = std::process::Command::new(context.target.join("release").join("orlop-bench"));
    bench.current_dir(&context.root).arg("run");
    bench.arg("--orlop").arg(context.orlop()).arg("--dir").arg(context.target.join("bench"));
    for (flag, name) in [("--etcd", "etcd"), ("--kine", "kine"), ("--tikv-server", steps::TIKV_SERVER)] {
        bench.arg(flag).arg(context.tool(name));
    }
    run(bench.args(args))
}
