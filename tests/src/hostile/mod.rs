//! The hostile suite: clients that mean harm or are broken, and a host that runs short. None of them
//! ends more than its own connection, and others are served meanwhile.
//!
//! A scenario is a function of a [`Length`] that returns [`Figures`]. [`ROWS`](table::ROWS) names all
//! of them; `make hostile` runs each at full length, and `tests/tests/hostile` at reduced length.
//!
//! # Panics
//! A scenario panics when something does not go as its attack needs it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a scenario fails by a panic, as a test does"
)]

mod bystander;
mod floods;
mod garbage;
mod handshakes;
mod hoarders;
mod leaks;
mod log;
mod logins;
mod names;
pub mod peer;
mod shortage;
mod silent;
mod spoofed;
mod stop;
mod streams;
pub mod table;
mod victim;

pub use self::victim::Victim;

use std::net::{IpAddr, Ipv4Addr};

use crate::{Figures, Length};

/// Where attackers sit: another address than the good client's.
pub const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
