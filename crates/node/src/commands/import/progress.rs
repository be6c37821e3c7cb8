use std::io::{IsTerminal, Write};

/// A terminal hears of every so many records.
const RECORDS_PER_LINE: u64 = 10_000;

/// Tells on standard error how far a command is: each phase, and on a terminal how many records of it are done.
#[derive(Default)]
pub(super) struct Progress {
    phase: &'static str,
    done: u64,
    total: Option<u64>,
    is_open: bool,
}

impl Progress {
    pub(super) fn phase(&mut self, phase: &'static str) {
        self.end();
        (self.phase, self.done, self.total) = (phase, 0, None);
        say(&format!("orlop: {phase}\n"));
    }

    /// How many records the phase has.
    pub(super) fn expect(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// One more record is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if !self.done.is_multiple_of(RECORDS_PER_LINE) || !std::io::stderr().is_terminal() {
            return;
        }
        let of_total = self.total.map_or_else(String::new, |total| format!(" of {total}"));
        say(&format!("\rorlop: {}: {}{of_total}", self.phase, self.done));
        self.is_open = true;
    }

    /// Ends the line that is being written over.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            say("\n");
        }
    }
}

fn say(text: &str) {
    // With standard error closed there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
