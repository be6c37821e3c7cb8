use std::future::Future;
use std::rc::Rc;

use proto::etcdserverpb::DeleteRangeResponse;

use super::{Rows, Scale, Scenario};
use crate::connection::{CallError, Error, Link};
use crate::cost::{self, Cost};
use crate::drive::Driven;
use crate::requests::delete_all;
use crate::result::{Measurement, Missing};
use crate::system::{Running, System};

const MIB: f64 = (1 << 20) as f64;

/// A system that runs, a round that is played on it, and what was measured so far.
pub(crate) struct Stage<'s> {
    pub(crate) running: Running,
    pub(crate) link: Rc<Link>,
    pub(crate) scale: &'s Scale,
    connections: usize,
    rows: &'s Rows,
    round: usize,
    found: Vec<Measurement>,
    missing: Vec<Missing>,
}

impl<'s> Stage<'s> {
    pub(crate) async fn new(
        running: Running,
        connections: usize,
        scale: &'s Scale,
        rows: &'s Rows,
        round: usize,
    ) -> Result<Stage<'s>, Error> {
        let link = Rc::new(Link::open(&running.endpoints, connections).await?);
        if let System::Peer { name, .. } = &running.system {
            let (connection, request) = (link.connection(0)?, delete_all());
            let emptied = connection.call::<_, DeleteRangeResponse>(&link.delete_range, &request).await;
            emptied.map_err(|error| format!("{name} cannot be emptied of earlier loads: {error}"))?;
        }
        Ok(Stage { running, link, scale, connections, rows, round, found: Vec::new(), missing: Vec::new() })
    }

    /// Whether anybody wants this row.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.rows.want(row)
    }

    /// Does the work and takes the costs before and after. Returns what was driven, or nothing where the system does
    /// not have such a call or does not come to its end. A row that nobody wants is worked for what it leaves, and not kept.
    pub(crate) async fn measure(
        &mut self,
        row: &str,
        work: impl Future<Output = Result<Driven, Error>>,
    ) -> Result<Option<Driven>, Error> {
        cost::forget_peak(&self.running.pids());
        let own_pid = std::process::id();
        let (server, store, own) = (self.running.cost()?, self.running.store_cost()?, cost::of(own_pid)?);
        let limit = self.scale.row_time_max.max(self.scale.phase * 2);
        let driven = match tokio::time::timeout(limit, work).await {
            Ok(Ok(driven)) => driven,
            Err(_) => {
                self.note(row, &format!("not done in {} s", limit.as_secs()));
                return Ok(None);
            }
            Ok(Err(error)) if error.downcast_ref().is_some_and(CallError::is_unimplemented) => {
                self.note(row, "it does not have this call");
                return Ok(None);
            }
            Ok(Err(error)) => return Err(error),
        };
        let (server_now, store_now, own_now) =
            (self.running.cost()?, self.running.store_cost()?, cost::of(own_pid)?);
        if self.wants(row) {
            let per_op = |from: &Cost, to: &Cost| {
                to.cpu.saturating_sub(from.cpu).as_secs_f64() * 1e6 / driven.ops.max(1) as f64
            };
            let servers = server.zip(server_now);
            let us = |quantile| driven.latency_us.value_at_quantile(quantile);
            self.found.push(Measurement {
                row: row.to_owned(),
                system: self.running.system.name(),
                round: self.round,
                ops: driven.ops,
                seconds: driven.elapsed.as_secs_f64(),
                p50_us: us(0.5),
                p99_us: us(0.99),
                p999_us: us(0.999),
                server_cpu_us: servers.map(|(from, to)| per_op(&from, &to)),
                store_cpu_us: store.zip(store_now).map(|(from, to)| per_op(&from, &to)),
                generator_cpu_us: per_op(&own, &own_now),
                rss_mib: server_now.map(|cost| cost.rss_bytes as f64 / MIB),
                rss_extra_mib: servers
                    .map(|(from, to)| to.rss_peak_bytes.saturating_sub(from.rss_bytes) as f64 / MIB),
                written_bytes: servers.map(|(from, to)| {
                    to.written_bytes.saturating_sub(from.written_bytes) as f64 / driven.ops.max(1) as f64
                }),
                ..Measurement::default()
            });
        }
        Ok(Some(driven))
    }

    /// Adds a number to the row that was measured last, if it is this one.
    pub(crate) fn extra(&mut self, row: &str, name: &str, number: f64) {
        if let Some(last) = self.found.last_mut()
            && last.row == row
        {
            last.extra.insert(name.to_owned(), number);
        }
    }

    /// Notes why a row is not there.
    pub(crate) fn note(&mut self, row: &str, reason: &str) {
        if self.wants(row) {
            let system = self.running.system.name();
            self.missing.push(Missing { row: row.to_owned(), system, reason: reason.to_owned() });
        }
    }

    /// Starts the system again on what it has stored, and connects anew. Returns the time to its first answer, in
    /// seconds.
    pub(crate) async fn restart(&mut self, kill: bool) -> Result<std::time::Duration, Error> {
        let took = self.running.restart(kill).await?;
        self.link = Rc::new(Link::open(&self.running.endpoints, self.connections).await?);
        Ok(took)
    }

    /// What was measured, and what was not, with the reason that ended the scenario for the rows after it.
    pub(crate) fn end(
        mut self,
        scenario: &Scenario,
        failed: Option<String>,
    ) -> (Vec<Measurement>, Vec<Missing>) {
        if let Some(reason) = failed {
            let is_known = |row: &String| {
                self.found.iter().any(|found| found.row == *row)
                    || self.missing.iter().any(|missing| missing.row == *row)
            };
            let rows: Vec<String> = scenario.rows.iter().filter(|row| !is_known(row)).cloned().collect();
            for row in rows {
                self.note(&row, &reason);
            }
        }
        (self.found, self.missing)
    }
}
