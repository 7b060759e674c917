//! What the tests of the whole share: the project's programs as real processes, configurations for
//! them, and a target.
//!
//! Beside them stand the programs `demo`, `bench`, `conformance` and `hostile`, one for each target of
//! the `Makefile` that has the same name.

mod figure;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod kit;
pub mod netns;
mod process;
mod programs;
mod server;
mod target;

use std::path::Path;
use std::time::Duration;

pub use figure::{Figure, Figures, Length};
pub use process::Process;
pub use programs::{beside, program};
pub use server::{Server, example_config};
pub use target::EchoTarget;

/// How long anything may take that happens at once on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The root of the repository.
pub fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}
