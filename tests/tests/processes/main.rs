//! `psq-server` and `psq-client` as their users have them: processes that are started, stopped,
//! killed and short of something.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod auth;
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod credentials;
mod downloads;
mod forwards;
mod impaired;
mod limits;
mod notify;
mod reconnect;
mod relay;
mod reload;
mod start;
mod stop;
mod tunnels;
