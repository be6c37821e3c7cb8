//! The members of a fleet: who lives, who leads and how it is reached, and how questions to it are shared.
//!
//! [`Members`] is the leader's table. [`Asks`] lets many wait for one answer of the leader. [`Link`] keeps a connection
//! to whoever leads. None of them knows what is said over it.
//!
//! This crate must never depend on the store, on the wire protocol's messages, or on how processes are configured.
//!
//! Invariants: an answer serves only those who asked before the question was sent; of two processes with one name the
//! later one stays; a request that may have reached a peer is never reported as one that has not.

mod asks;
mod link;
mod member;
mod members;

pub use asks::{Asks, NotAsked, asks};
pub use link::{
    Connection, Link, LinkDriver, LinkSettings, Peer, PeerUrl, PeerUrlError, Secure, Stream, Unsent, link,
};
pub use member::{Member, member_id};
pub use members::{Members, Refused};
