//! `psq-client`: opens UDP and IP tunnels through a server, or downloads files from it, over HTTP/3.
//!
//! ```text
//! arguments (+ file) → settings → session: connect → forward | download | tunnel → exit code
//!                                              ▲ lost  │
//!                                              └───────┘
//! ```

mod arguments;
mod backoff;
mod credentials;
mod destination;
mod download;
mod exit;
mod fields;
mod forward;
mod pin;
mod secret;
mod session;
mod settings;
mod signals;
mod suspension;
mod tunnel;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use pasque::log::{OneLine, panics_to_log};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Options};
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// What is logged by default: what goes wrong, and what becomes of the connection.
const DEFAULT_FILTER: &str = "warn,psq_client=info";

fn main() -> ExitCode {
    run().unwrap_or_else(|failure| failure.report()).into()
}

fn run() -> Result<Exit, Failure> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(text) if text.use_stderr() => return Err(Failure::from(text)),
        // Help and version come this way too.
        Err(text) => {
            let _ = text.print();
            return Ok(Exit::Done);
        }
    };
    start_logging()?;
    let file = arguments.config.as_deref().map(Options::load).transpose()?;
    arguments.options.refuse_secrets()?;
    let options = arguments.options.or(file.unwrap_or_default());
    credentials::leave_environment(&options)?;
    let settings = Settings::new(options, arguments.command)?;

    // The engine has a thread of its own; this one only waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("runtime", &error))?;
    let result = runtime.block_on(session::run(&settings));
    // Lets downloads that end early put away what they have, but waits for no pipe.
    runtime.shutdown_timeout(session::CLOSE_TIME);
    result
}

/// Starts the log on standard error; what a user must know is said without it.
fn start_logging() -> Result<(), Failure> {
    panics_to_log();
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) => EnvFilter::try_new(directives),
        Err(_) => EnvFilter::try_new(DEFAULT_FILTER),
    };
    let filter = filter.map_err(|error| Failure::usage(format!("RUST_LOG: {error}")))?;
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(move || OneLine::new(colours))
        .try_init()
        .map_err(|error| Failure::usage(format!("cannot start logging: {error}")))
}
