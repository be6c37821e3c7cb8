//! Stores that processes wrote are found right, and whatever is damaged in them is told.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

mod common;
mod damage;
mod files;
mod sound;
