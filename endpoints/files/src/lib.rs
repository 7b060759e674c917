//! `Files`: the files beneath one folder, over HTTP/3 (RFC 9110).
//!
//! A request passes these modules, in this order:
//!
//! ```text
//! path of the request ──▶ resolve   segments, decoded once, none of which can climb
//!                     ──▶ search    the file, or the index of the folder
//!                     ──▶ root      opened beneath the root by the kernel; regular files only
//!                     ──▶ answer    status, fields and which bytes, with the help of
//!                                   representation, conditional and range
//!                     ──▶ body      64 KiB at a time, each read when the client takes it
//! ```
//!
//! Not done: listings of folders, content codings, and methods
//! that write.

mod answer;
mod body;
mod conditional;
mod disk;
mod endpoint;
mod range;
mod representation;
mod resolve;
mod root;
mod search;
#[cfg(test)]
mod tests;

pub use endpoint::Files;
