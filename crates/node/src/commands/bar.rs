//! How far a command is, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A line that is written over on standard error while a command works; nothing where that is no terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar over so many bytes, or one without an end where nobody knows how many there are.
    pub(super) fn over(bytes: Option<u64>) -> Bar {
        // The patterns are right, so the default is never used.
        let style = |pattern: &str| {
            ProgressStyle::with_template(pattern).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        Bar(match bytes {
            Some(bytes) => ProgressBar::new(bytes).with_style(style(
                "orlop: {msg} [{bar:30}] {percent:>3}% {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            )),
            None => ProgressBar::no_length()
                .with_style(style("orlop: {msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}")),
        })
    }

    /// A bar over so many keys.
    pub(super) fn of_keys(keys: u64) -> Bar {
        let pattern = "orlop: {msg} [{bar:30}] {percent:>3}% {pos} of {len} keys, {per_sec}, {eta} left";
        let style = ProgressStyle::with_template(pattern).unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar(ProgressBar::new(keys).with_style(style))
    }

    /// Says what is being done.
    pub(super) fn phase(&self, phase: &'static str) {
        if self.0.message() != phase {
            self.0.set_message(phase);
        }
    }

    /// So many more are done.
    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Does something that writes to the terminal as well.
    pub(super) fn aside<T>(&self, action: impl FnOnce() -> T) -> T {
        self.0.suspend(action)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
