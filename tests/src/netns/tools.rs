//! Running `ip` and `nft`.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Runs `program` with `input` on its standard input, and returns what it has printed.
///
/// # Errors
/// When it is not there, or fails; with what it has printed on standard error.
pub(super) fn run(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: &str,
) -> io::Result<String> {
    let failure = |what: &str| io::Error::other(format!("{program}: {what}"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failure(&format!("{error}; \"make test\" installs what is missing")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read all says why below.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failure(&format!("{} in:\n{input}", said.trim())));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
