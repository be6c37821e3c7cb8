use crate::load::{self, Error, Outcome, Plan};
use crate::process::{self, Cost};

/// What one run showed.
pub struct Report {
    plan: Plan,
    outcome: Outcome,
    server: Option<(Cost, Cost)>,
    own: (Cost, Cost),
}

/// Runs the load and takes the costs before and after.
pub async fn measure(plan: Plan, pid: Option<u32>) -> Result<Report, Error> {
    let of_server = || pid.map(process::cost).transpose();
    let own_pid = std::process::id();
    let (server, own) = (of_server()?, process::cost(own_pid)?);
    let outcome = load::run(&plan).await?;
    let server = server.zip(of_server()?);
    Ok(Report { plan, outcome, server, own: (own, process::cost(own_pid)?) })
}

/// Prints the report, one fact a line.
#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
pub fn print(report: &Report) {
    let Report { plan, outcome, server, own } = report;
    let requests = outcome.latency_us.len();
    let per_request = |cost: &(Cost, Cost)| (cost.1.cpu - cost.0.cpu).as_secs_f64() * 1e6 / requests as f64;
    println!("load            {:?}, {} clients, {} B values", plan.load, plan.clients, plan.value_bytes);
    println!("requests        {requests}");
    println!("throughput      {:.0} /s", requests as f64 / outcome.elapsed.as_secs_f64());
    for quantile in [0.5, 0.99, 0.999] {
        let millis = outcome.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        println!("{:<15} {millis:.2} ms", format!("p{}", quantile * 100.0));
    }
    if let Some(server) = server {
        let written = (server.1.written_bytes - server.0.written_bytes) as f64 / requests as f64;
        println!("server CPU      {:.1} us/request", per_request(server));
        println!("server RSS      {:.0} MiB", server.1.rss_bytes as f64 / f64::from(1 << 20));
        println!("server writes   {written:.0} B/request");
    }
    println!("generator CPU   {:.1} us/request", per_request(own));
}

/// Says why there is no report.
#[expect(clippy::print_stderr, reason = "a program's errors go there")]
pub fn print_error(error: &dyn std::error::Error) {
    eprintln!("orlop-bench: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
}
