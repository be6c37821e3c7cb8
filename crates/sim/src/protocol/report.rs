//! What a search tells.

use std::fmt;

use super::violation::Violation;

/// What a search found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// Whether every reachable state was seen.
    pub is_complete: bool,
    /// Whether it was also checked that from every state all clients can still be answered.
    pub is_answerability_checked: bool,
    /// The first violation, with the shortest way to it.
    pub found: Option<Found>,
}

/// A violation, and who did what until it happened.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which promise was broken.
    pub violation: Violation,
    /// One line for each step.
    pub trace: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9} states, depth {:>2}: ", self.states, self.depth)?;
        match (&self.found, self.is_complete, self.is_answerability_checked) {
            (Some(found), _, _) => write!(f, "{}", found.violation.promise.words()),
            (None, true, true) => write!(f, "all states, no violation, clients can be answered from each"),
            (None, true, false) => write!(f, "all states, no violation"),
            (None, false, _) => write!(f, "no violation so far, not all states"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.trace.iter().enumerate() {
            writeln!(f, "{:>4}. {step}", index + 1)?;
        }
        write!(f, "   => {}", self.violation)
    }
}
