//! Downloads: several files over one connection, each whole or not there.
//!
//! ```text
//! response → plan: is it what was asked for? → body → Writer: a thread that hashes and writes
//!                                                        ↓
//!                                            .NAME.psq-part, then renamed to NAME
//! ```

mod partial;
mod plan;
mod progress;
mod remote;
mod transfer;
mod writer;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::HeaderMap;
use pasque::Connection;

pub(crate) use self::remote::RemoteFile;

use self::progress::Progress;
use crate::exit::{Exit, Failure};

/// Files that are under way at the same time. More would only share the same path.
const AT_ONCE: usize = 8;

/// One file to fetch.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) file: RemoteFile,
    pub(crate) place: Place,
}

/// Where a file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To a file of this name.
    File(PathBuf),
    /// To standard output, as it comes.
    StandardOutput,
}

/// Where files come from.
pub(crate) struct Source<'a> {
    pub(crate) connection: &'a Connection,
    /// The `:authority` of requests.
    pub(crate) authority: String,
    /// Fields that the user adds.
    pub(crate) headers: HeaderMap,
    /// How long the server may say nothing.
    pub(crate) timeout: Duration,
}

/// Fetches everything. What goes wrong with one file does not stop the others; the first failure
/// decides about the result.
pub(crate) async fn run(source: &Source<'_>, downloads: &[Download]) -> Exit {
    let progress = Progress::new();
    let progress = &progress;
    let fetch = |download| transfer::fetch(source, download, progress);
    let mut results = stream::iter(downloads).map(fetch).buffer_unordered(AT_ONCE);
    let mut exit = Exit::Done;
    while let Some(result) = results.next().await {
        let result = progress.suspend(|| match result {
            Ok(report) => report
                .print()
                .map_err(|error| Failure::local("standard output", &error).report()),
            Err(failure) => Err(failure.report()),
        });
        if let (Exit::Done, Err(failed)) = (exit, result) {
            exit = failed;
        }
    }
    exit
}

/// What became of one file.
#[derive(Debug)]
pub(crate) struct Report {
    place: Place,
    len: u64,
    digest: [u8; 32],
    time: Duration,
}

impl Report {
    /// Prints name, length, digest and time, on standard output if that is free.
    fn print(&self) -> io::Result<()> {
        let digest: String = self
            .digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let line = |name: &dyn std::fmt::Display| {
            let seconds = self.time.as_secs_f64();
            format!(
                "{name}  {} bytes  sha256 {digest}  {seconds:.3} s\n",
                self.len
            )
        };
        match &self.place {
            Place::File(path) => io::stdout().write_all(line(&path.display()).as_bytes()),
            Place::StandardOutput => io::stderr().write_all(line(&"-").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
