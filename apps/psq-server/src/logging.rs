//! The log: lines on standard error.

use std::env;
use std::io::{self, IsTerminal};

use pasque::log::{OneLine, panics_to_log};
use tracing_subscriber::EnvFilter;

/// What is logged when `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info";

/// Starts logging, as `RUST_LOG` says, panics included.
///
/// # Errors
/// What is wrong with `RUST_LOG`. The value is not repeated: it may be long.
pub(crate) fn start() -> Result<(), String> {
    panics_to_log();
    let filter = match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) => EnvFilter::try_new(directives),
        Err(env::VarError::NotPresent) => EnvFilter::try_new(DEFAULT_FILTER),
        Err(env::VarError::NotUnicode(_)) => return Err("RUST_LOG is not valid UTF-8".into()),
    };
    let filter = filter.map_err(|error| format!("RUST_LOG: {error}"))?;
    // https://no-color.org: any value but the empty one.
    let colour_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = io::stderr().is_terminal() && !colour_refused;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(move || OneLine::new(colours))
        .try_init()
        .map_err(|error| format!("cannot start logging: {error}"))
}
