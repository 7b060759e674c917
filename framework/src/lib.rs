//! Endpoints over HTTP/3: the framework that a Pasque plugin sees.
//!
//! An [`Endpoint`] is a function from [`Request`] to [`Response`]. A tunnel is a kind of response
//! body: the endpoint returns a [`Flow`], which moves into the worker that owns the connection and
//! sees datagrams in batches.
//!
//! ```text
//!    one worker = one thread = one loop; a connection is state in its slab; this is one turn:
//!             ┌─────────────────────────────────────────────────────────────────────────┐
//! UDP batch → │ QUIC receive → datagrams grouped by flow → Flow::on_datagrams (inline)  │ → target
//! UDP batch ← │ QUIC send (GSO) ← prefix in headroom ← Flow::poll_outbound (inline)     │ ← target
//!             └─────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! This crate holds no QUIC and no TLS, so a plugin and its tests build in seconds; the engine is
//! the crate `pasque-h3`. Start with [`prelude`] and the Echo endpoint of the README.

pub mod auth;
mod bulkhead;
mod client_network;
pub mod codel;
pub mod config;
pub mod connection;
mod credentials;
pub mod diagnosis;
mod endpoint;
mod error;
mod file_use;
mod flow;
pub mod health;
mod ledger;
pub mod log;
mod packet;
pub mod policy;
mod pool;
pub mod proxy_status;
mod request;
#[cfg(feature = "resolver")]
pub mod resolve;
mod response;
mod router;
mod site;
pub mod structured;
pub mod template;
#[cfg(any(test, feature = "testing"))]
#[allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a testing kit fails tests"
)]
pub mod testing;
pub mod tunnel;
pub mod wire;

pub use client_network::client_network;
pub use connection::Connection;
pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{
    Capability, DuplicateTag, Endpoint, EndpointType, StartContext, endpoint_types,
};
pub use error::{Error, Result, StreamError};
pub use file_use::FileUse;
pub use flow::{Admit, Flow, FlowCx, Outbox};
pub use packet::{BATCH_LEN, Batch, HEADROOM, Packet};
pub use request::Request;
pub use response::{Body, BodyStream, Response};
pub use router::{Access, Changes, Mount, Router, RouterError};
pub use site::{FormerEndpoint, Retired, Site};
pub use tunnel::Tunnel;
pub use wire::capsule::Capsule;

/// Guides.
pub mod docs {
    #[doc = include_str!("docs/data_path.md")]
    pub mod data_path {}
    #[doc = include_str!("docs/writing_an_endpoint.md")]
    pub mod writing_an_endpoint {}
}

/// Everything that an endpoint's source needs, and nothing else.
pub mod prelude {
    pub use async_trait::async_trait;
    pub use serde::Deserialize;
    pub use typetag;

    pub use crate::{
        Admit, Batch, Body, Capsule, Endpoint, Error, Flow, FlowCx, Packet, Request, Response,
        Result, StartContext, Tunnel,
    };
}

/// What the macros of this crate expand to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::endpoint::probe;
}
