//! The protocol of the fleet as a model, and every state that it can reach.
//!
//! The fleet is not built. Its rules (`docs/protocol.md`) are checked before they are: small configurations of the
//! protocol are searched whole, and in every state every promise is looked at ([`Promise`]). A rule counts as
//! understood when a promise breaks without it ([`Rule`]): the search takes it out, and tells the shortest way.
//!
//! There are five models, as one of everything would have too many states:
//!
//! | model | covers | takes as given |
//! |---|---|---|
//! | `core` | slots, takeover, unclear outcomes, revisions, reads, transactions over partitions, trimmed logs | a sound leader |
//! | `system` | partition 0's log, the leader's lease on a clock, ceiling and assignments as slots | commits with a known outcome in the user partition |
//! | `split` | a parent, its two children, the map, a watch that resumes | owners that stay |
//! | `lease` | grant, attach, revoke, the walk, moves and splits meanwhile | fenced logs |
//! | `expiry` | keep-alives and time over a change of the leader | a sound leader's lease |
//!
//! A pause needs no step of its own: nobody ever has to take the next step, so every order of everybody's steps is
//! searched, also those in which somebody sleeps through everything. "Can be answered" is said of every state and means
//! that some way leads on to an answer; that it is taken in time is a matter of fairness, and not said.
//!
//! The search is our own, some 200 lines. `stateright` is the library for this; it finds violations as well. But its
//! properties are "always", "sometimes" and "eventually", and not "from every state a good one can be reached"; each
//! step has to be an action that is enumerated first and applied later, where here one plain function makes the steps,
//! and words only for traces; and it brings a server for its explorer. Here 16 bytes are kept of a state that was dealt
//! with, and where it came from.
//!
//! What no model covers: several writes in one batch, values and what they cost, the records of objects, C* and
//! compaction beyond trimmed logs, merging the streams of a watch, and a client that tries again.

mod checker;
mod clients;
mod configuration;
mod core;
mod expiry;
mod lease;
mod report;
mod rule;
mod script;
mod set;
mod split;
mod system;
mod violation;

pub use configuration::{Configuration, Size, all, named};
pub use report::{Found, Report};
pub use rule::Rule;
pub use violation::{Promise, Violation};
