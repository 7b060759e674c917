//! ICMP, as far as a tunnel takes part in it: errors about packets that it drops, what errors of others
//! quote, and echo (RFC 792, RFC 4443).

mod echo;
mod error;
mod limiter;
mod message;
mod quote;
#[cfg(test)]
mod tests;

pub use echo::{Echo, echo_reply_to, echo_request_v6, parse_echo_reply};
pub use error::{Problem, error};
pub use limiter::ErrorLimiter;
pub use message::{is_error, is_neighbour_discovery};
pub use quote::{Quote, quote};
