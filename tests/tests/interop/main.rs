//! Clients that others wrote, against `psq-server`: libcurl, Chromium and aioquic.
//!
//! `tests/tools.sh --python --browser` installs them. Where one is missing the test fails: a test
//! that is skipped shows nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod connect_udp;
mod libcurl;

use std::ffi::OsString;

use pasque_tests::{Process, repository};

/// Runs `tests/python/SCRIPT` to its end, which must be a good one.
async fn python(script: &str, arguments: impl IntoIterator<Item = OsString>) {
    let interpreter = repository().join("target/python/bin/python");
    assert!(interpreter.exists(), "run tests/tools.sh --python");
    let script = repository().join("tests/python").join(script);
    // -B: nothing is left beside the script.
    let arguments = ["-B".into(), script.into()].into_iter().chain(arguments);
    let mut process = Process::start(&interpreter, arguments).unwrap();
    let status = process.exit().await.unwrap();
    assert!(status.success(), "{status}\n{}", process.output());
}
