//! Runs the program that was built with these tests.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]
#![allow(dead_code, reason = "each test program uses its part of it")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

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
    stderr: BufReader<ChildStderr>,
    /// What was read of its log.
    log: String,
}

impl Program {
    /// Starts the program.
    pub fn start(arguments: &[&str]) -> Program {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Program { child, stdout, stderr, log: String::new() }
    }

    /// Waits for the lines that say that it serves.
    pub fn greeting(&mut self) -> String {
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            assert_ne!(self.stdout.read_line(&mut greeting).unwrap(), 0, "it ended: {}", self.rest_of_log());
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
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it ended: {}", self.log);
            self.log.push_str(&line);
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
        let log = self.rest_of_log();
        (self.child.wait().unwrap().code(), log)
    }

    fn rest_of_log(&mut self) -> String {
        self.stderr.read_to_string(&mut self.log).unwrap();
        self.log.clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
