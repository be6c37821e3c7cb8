use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base::{Clock, SystemClock};
use rustix::process::{Pid, Signal, kill_process};

use crate::connection::Error;

/// How long a process may take to end after it was asked to; then it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_POLL: Duration = Duration::from_millis(5);
/// How much of its log an error shows.
const LOG_LINES_MAX: usize = 20;

/// A process that is killed when this is dropped.
pub(super) struct Child {
    process: std::process::Child,
    program: PathBuf,
    out: PathBuf,
    log: PathBuf,
}

impl Child {
    /// Starts it with its output in files of `dir`, under `name`.
    pub(super) fn start(program: &Path, args: &[String], dir: &Path, name: &str) -> Result<Child, Error> {
        let (out, log) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.log")));
        let process = Command::new(program)
            .args(args)
            // Kept open for as long as this lives: what is tied to it ends with it.
            .stdin(Stdio::piped())
            .stdout(File::create(&out)?)
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
        Ok(Child { process, program: program.to_path_buf(), out, log })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has printed.
    pub(super) fn output(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// An error with the end of its log, if it has ended.
    pub(super) fn lives(&mut self) -> Result<(), Error> {
        let Some(status) = self.process.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LOG_LINES_MAX)..).unwrap_or_default().join("\n");
        Err(format!("{} ended with {status}:\n{last}", self.program.display()).into())
    }

    /// Ends it: with SIGKILL, or with SIGTERM and, when that takes too long, SIGKILL. Returns when it has ended.
    pub(super) async fn stop(&mut self, kill: bool) -> Result<(), Error> {
        let deadline = SystemClock.now() + STOP_TIME_MAX;
        if !kill && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
            while SystemClock.now() < deadline {
                if self.process.try_wait()?.is_some() {
                    return Ok(());
                }
                SystemClock.sleep_until(SystemClock.now() + STOP_POLL).await;
            }
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
