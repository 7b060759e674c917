//! The program `psq-server`, for use in a server with endpoints of your own.
//!
//! The whole of such a server, beside its `Cargo.toml`:
//!
//! ```no_run
//! use pasque_files as _; // and every other crate that calls pasque::register!
//!
//! #[global_allocator]
//! static ALLOCATOR: psq_server::CountingAllocator = psq_server::CountingAllocator;
//!
//! fn main() -> std::process::ExitCode {
//!     psq_server::main()
//! }
//! ```

mod arguments;
mod control;
mod credentials;
mod logging;
mod notify;
mod privileges;
mod sandbox;
mod serve;
mod signals;

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use pasque::config::{ConfigError, ServerConfig, describe_types};
pub use pasque_h3::CountingAllocator;
use pasque_h3::StartError;

use crate::arguments::{Arguments, Command};

/// Does what the command line says. What goes wrong is one line on standard error and an exit code,
/// which `psq-server --help` lists.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Help and version come this way too: clap knows which stream and code each has.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let result = match arguments.command {
        None => serve::serve(arguments.serve),
        Some(Command::Check { config }) => check(&config),
        Some(Command::Doctor { config }) => doctor(&config),
        Some(Command::Reload { config }) => reload(&config),
        Some(Command::Endpoints) => list(),
        Some(Command::Token(arguments)) => credentials::token(arguments),
        Some(Command::HashPassword(arguments)) => credentials::hash(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, message) = match failure {
                Failure::Runtime(message) => (1, message),
                Failure::Configuration(message) => (2, message),
            };
            let _ = writeln!(io::stderr(), "psq-server: {message}");
            ExitCode::from(code)
        }
    }
}

/// Why the program ends before it was asked to.
#[derive(Debug)]
enum Failure {
    /// The operating system, the network or an endpoint failed.
    Runtime(String),
    /// What was asked for cannot be served.
    Configuration(String),
}

impl Failure {
    fn runtime(cause: impl fmt::Display) -> Self {
        Self::Runtime(cause.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(cause: ConfigError) -> Self {
        Self::Configuration(cause.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(cause: StartError) -> Self {
        match cause {
            StartError::Config(_) | StartError::Tls(_) | StartError::Endpoint(_) => {
                Self::Configuration(cause.to_string())
            }
            _ => Self::Runtime(cause.to_string()),
        }
    }
}

/// Has the server that serves this configuration read it again.
fn reload(path: &Path) -> Result<(), Failure> {
    // What is wrong in the file is the same here as there.
    let config = ServerConfig::load(path)?;
    let Some(socket) = config.control else {
        return Err(Failure::Configuration(format!(
            "{}: no way to reach the server: give it a \"control\" socket, or send it SIGHUP",
            path.display()
        )));
    };
    let unheard = |error| Failure::Runtime(format!("no answer at {}: {error}", socket.display()));
    match control::order_reload(&socket).map_err(unheard)? {
        Ok(done) => print(&format!("{done}\n")),
        Err(refused) => Err(Failure::Configuration(format!(
            "not reloaded, nothing has changed: {refused}"
        ))),
    }
}

/// Everything that [`Server::bind`](pasque_h3::Server::bind) would find, without a socket or a file being made.
fn check(path: &Path) -> Result<(), Failure> {
    let config = ServerConfig::load(path)?;
    config.check_files()?;
    let warnings = config.check_relay(&[config.listen_address()])?;
    pasque_h3::check(&config)?;
    let endpoints = config.into_router()?.mounts().len();
    for warning in warnings {
        let _ = writeln!(io::stderr(), "psq-server: warning: {warning}");
    }
    print(&format!("{}: ok, {endpoints} endpoints\n", path.display()))
}

/// Looks at the host and changes nothing. What is missing makes the exit code 1.
fn doctor(path: &Path) -> Result<(), Failure> {
    let config = ServerConfig::load(path)?;
    let cx = config.start_context(vec![config.listen_address()]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?;
    let mut text = String::new();
    let mut missing = 0;
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let findings = runtime.block_on(endpoint.endpoint.diagnose(&cx));
        if findings.is_empty() {
            continue;
        }
        let _ = writeln!(text, "endpoints[{index}], {}:", endpoint.kind.tag);
        for finding in findings {
            missing += usize::from(finding.is_missing());
            let _ = writeln!(text, "{finding}");
        }
    }
    if text.is_empty() {
        text.push_str("nothing here needs anything special of the host\n");
    }
    print(&text)?;
    match missing {
        0 => Ok(()),
        1 => Err(Failure::Runtime("1 thing is missing".into())),
        _ => Err(Failure::Runtime(format!("{missing} things are missing"))),
    }
}

fn list() -> Result<(), Failure> {
    print(&describe_types().map_err(|error| Failure::Configuration(error.to_string()))?)
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader, for example `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Failure::runtime),
    }
}
