//! The HTTP/3 engine of Pasque: connections, streams and datagrams on quiche and tokio.
//!
//! A [`Server`] serves a configuration; [`connect`] makes a client's connection. Everything else is
//! inside: a worker is a thread with one socket, a connection is state in its worker's slab, and
//! one turn of the worker's loop reads all there is, lets every flow have its share, and sends once.
//!
//! This is the only crate that names quiche.

mod alarm;
mod cid;
mod client;
mod client_certificate;
mod connection;
mod diagnostics;
mod ledger;
mod listener;
mod mailbox;
mod memory;
mod monitor;
mod output;
mod reload;
mod routes;
mod server;
mod server_task;
mod settings;
mod socket;
mod steering;
#[cfg(any(test, feature = "testing"))]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a testing kit fails tests"
)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod worker;

pub use client::{ClientConfig, connect};
pub use ledger::CountingAllocator;
pub use reload::{Reloaded, Reloader};
pub use server::{Server, StartError, check, make_identity};
pub use tls::{ClientKeyPair, TlsError, Trust};
