//! A run: every chosen scenario, round by round, one system after the other, each on an empty store.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::connection::Error;
use crate::cost;
use crate::result::{Results, compare, plot, table};
use crate::scenario::{self, Rows, Scale, Scenario, Stage};
use crate::system::{DEFAULT, Programs, System};

/// What to measure, and how.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measure only these rows: whole names, or their first parts (create, or create/512b-300c)
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    load: Vec<String>,
    /// Print the rows there are, and end
    #[arg(long)]
    list: bool,
    /// A few minutes: short phases, small stores, and without --load only a choice of rows
    #[arg(long)]
    quick: bool,
    /// Systems, of floor, floor-one-thread, orlop, etcd, kine, tikv-1 (and tikv-2, ...: so many front ends)
    #[arg(long = "system", value_delimiter = ',', value_name = "NAME", value_parser = System::parse)]
    systems: Vec<System>,
    /// One more system, which runs already, as NAME=http://HOST:PORT or NAME=http://HOST:PORT,PID (its process, for
    /// CPU time and memory). What it has under /benchreg/ is deleted before each scenario
    #[arg(long = "peer", value_name = "NAME=URL", value_parser = System::parse_peer)]
    peers: Vec<System>,
    /// Rounds of each row [default: 3, with --quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a phase [default: 8, with --quick 2]
    #[arg(long)]
    seconds: Option<f64>,
    /// Connections, each shared by an equal part of the clients
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Also the size of five million keys (of rows that begin with size-)
    #[arg(long)]
    five_million: bool,
    /// Where results and the stores' data go: a directory on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = "target/bench", overrides_with = "dir")]
    dir: PathBuf,
    /// Compare with the result of an earlier run
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    programs: Programs,
}

/// Runs it all, and leaves `result.json`, `result.md` and `result.svg` in the directory.
pub(crate) fn run(options: Options) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::select! {
            done = measure(options) => done,
            // The servers are killed as their handles are dropped.
            signal = tokio::signal::ctrl_c() => {
                signal?;
                Err("interrupted".into())
            }
        }
    })
}

async fn measure(options: Options) -> Result<(), Error> {
    let scale = scale(&options);
    let scenarios = scenario::all(&scale);
    if options.list {
        say(&scenario::listed(&scenarios));
        return Ok(());
    }
    // Before hours are spent.
    let earlier = options.against.as_deref().map(Results::read).transpose()?;
    let rows = Rows::new(&options.load, options.quick);
    rows.must_exist(&scenarios)?;
    std::fs::create_dir_all(&options.dir)?;
    let (load, processors) = cost::machine();
    let mut results = Results::new(scale.to_string(), load, processors);
    let chosen = scenarios.iter().filter(|scenario| scenario.rows.iter().any(|row| rows.want(row)));
    for scenario in chosen {
        for round in 0..scale.rounds {
            for system in systems(&options, round) {
                one(&options, &scale, &rows, scenario, &system, round, &mut results).await?;
            }
        }
        // What is there is kept, whatever becomes of the rest.
        results.load_average.1 = cost::machine().0;
        results.write(&options.dir.join("result.json"))?;
    }
    let text = table(&results);
    std::fs::write(options.dir.join("result.md"), &text)?;
    plot(&results, &options.dir.join("result.svg"))?;
    say(&text);
    if let Some(earlier) = earlier {
        say(&compare(&earlier, &results));
    }
    say(&format!("in {}: result.json, result.md, result.svg", options.dir.display()));
    Ok(())
}

/// The systems of a round, each round beginning with another, so that none is always behind the same.
fn systems(options: &Options, round: usize) -> Vec<System> {
    let mut systems = options.systems.clone();
    if systems.is_empty() && options.peers.is_empty() {
        systems = DEFAULT.iter().filter_map(|name| System::parse(name).ok()).collect();
    }
    systems.extend(options.peers.iter().cloned());
    let by = round % systems.len().max(1);
    systems.rotate_left(by);
    systems
}

/// One scenario on one system. What fails is noted, and the run goes on.
async fn one(
    options: &Options,
    scale: &Scale,
    rows: &Rows,
    scenario: &Scenario,
    system: &System,
    round: usize,
    results: &mut Results,
) -> Result<(), Error> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let name = system.name();
    progress(&format!("{} on {name}, round {}", scenario.name, round + 1));
    let running = system.start(&options.programs, dir.path(), scenario.value_bytes).await?;
    let mut stage = Stage::new(running, options.connections, scale, rows, round).await?;
    let done = tokio::time::timeout(scale.scenario_time_max, scenario.run(&mut stage)).await;
    let failed = match done {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("not done in {} s", scale.scenario_time_max.as_secs())),
    };
    let (found, missing) = stage.end(scenario, failed);
    results.measurements.extend(found);
    for one in missing {
        progress(&format!("  {}: {}", one.row, one.reason));
        if !results.missing.iter().any(|known| known.row == one.row && known.system == one.system) {
            results.missing.push(one);
        }
    }
    Ok(())
}

fn scale(options: &Options) -> Scale {
    let mut scale = if options.quick { Scale::quick() } else { Scale::full() };
    if let Some(rounds) = options.rounds {
        scale.rounds = rounds.max(1);
    }
    if let Some(seconds) = options.seconds {
        scale.phase = Duration::from_secs_f64(seconds.clamp(0.05, 3600.0));
    }
    if options.five_million {
        scale.sizes.push(5_000_000);
    }
    scale
}

#[expect(clippy::print_stdout, reason = "the result is what this program is for")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "how far it has come is for people, not part of the result")]
fn progress(text: &str) {
    eprintln!("{text}");
}
