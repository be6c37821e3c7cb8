//! Runs the program that was built with these tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test whose equipment breaks has failed"
)]
#![allow(clippy::disallowed_methods, reason = "a thread of the test reads what the program logs")]
#![allow(dead_code, reason = "each test program uses its part of it")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

/// The program to its end, with these variables in an otherwise empty environment.
pub fn output(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// What a program wrote.
pub fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// A program that runs; it ends with the test.
pub struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: Log,
}

/// What a program has logged. It is read all the time: a program that nobody listens to stands still at some point.
struct Log {
    lines: mpsc::Receiver<String>,
    /// What was taken from the lines.
    taken: String,
}

impl Log {
    fn of(stderr: ChildStderr) -> Log {
        let (sender, lines) = mpsc::channel();
        // Ends with the program.
        std::thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
        Log { lines, taken: String::new() }
    }

    /// The next line; none when the program has ended.
    fn next(&mut self) -> Option<String> {
        let line = self.lines.recv().ok()?;
        self.taken.push_str(&line);
        Some(line)
    }

    /// Everything until the program ends.
    fn rest(&mut self) -> String {
        while self.next().is_some() {}
        self.taken.clone()
    }
}

impl Program {
    /// Starts the program.
    pub fn start(arguments: &[&str]) -> Program {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let log = Log::of(child.stderr.take().unwrap());
        Program { child, stdout, log }
    }

    /// Waits for the lines that say that it serves.
    pub fn greeting(&mut self) -> String {
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            assert_ne!(self.stdout.read_line(&mut greeting).unwrap(), 0, "it ended: {}", self.log.rest());
        }
        greeting
    }

    /// Waits until it serves: where.
    pub fn address(&mut self) -> String {
        let greeting = self.greeting();
        let url = greeting.lines().find_map(|line| line.trim().strip_prefix("on    http://"));
        url.unwrap().to_owned()
    }

    /// Waits for a line of the log that holds `part`.
    pub fn log_line(&mut self, part: &str) -> String {
        loop {
            let line = self.log.next().unwrap_or_else(|| panic!("it ended: {}", self.log.taken));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// All that it still writes to standard output.
    pub fn stdout(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Waits until it has ended: its code and its log.
    pub fn end(mut self) -> (Option<i32>, String) {
        self.wait()
    }

    /// As [`Program::end`], for one that is kept.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let log = self.log.rest();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.rest();
            let of_its_own = log.lines().filter(|line| !line.contains("tikv_client"));
            println!("log of process {}:", self.child.id());
            of_its_own.for_each(|line| println!("    {line}"));
        }
    }
}
