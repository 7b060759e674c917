//! Where the project's programs are.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::repository;

/// The program `name`, `psq-server` or `psq-client`, brought up to date with its source once per
/// test process.
///
/// Cargo builds programs for the tests of their own package only: without this, a test would run
/// what an earlier build has left.
///
/// # Panics
/// When it does not build; the compiler's messages are on standard error.
#[expect(clippy::panic, reason = "for tests, which fail by a panic")]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(build) {
        Ok(folder) => folder.join(name),
        Err(error) => panic!("cannot build {name}: {error}"),
    }
}

fn build() -> Result<PathBuf, String> {
    let folder = folder().map_err(|error| error.to_string())?;
    let target = folder.parent().ok_or("no target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "-p", "psq-server", "-p", "psq-client"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(repository());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    match cargo.status() {
        Ok(status) if status.success() => Ok(folder),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(error) => Err(format!("cargo build: {error}")),
    }
}

/// The program `name` as it stands in the folder of the running program.
///
/// # Errors
/// When it was not built.
pub fn beside(name: &str) -> io::Result<PathBuf> {
    let path = folder()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let what = format!("{} is missing: build it first", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

/// The folder that Cargo puts programs of this profile into. Those of tests are one below.
fn folder() -> io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().unwrap_or(Path::new("."));
    Ok(match folder.parent() {
        Some(above) if folder.ends_with("deps") => above.to_owned(),
        _ => folder.to_owned(),
    })
}
