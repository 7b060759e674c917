//! Clients that mean harm, or that are broken: none of them ends more than its own connection, and
//! others are served meanwhile.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod handshakes;
mod malformed;
mod suite;

use pasque_tests::hostile::Victim;
use tokio::sync::RwLock;

/// Held for writing by tests that measure, for reading by the others.
static QUIET: RwLock<()> = RwLock::const_new(());
