//! `psq-client`: opens UDP and IP tunnels through a server, or downloads files from it, over HTTP/3.
//!
//! ```text
//! arguments (+ file) → settings → connect → forward | download → close → exit code
//!                          └──── interface ────── tunnel ──────────┘
//! ```

mod arguments;
mod destination;
mod download;
mod exit;
mod fields;
mod forward;
mod pin;
mod settings;
mod signals;
mod tunnel;

use std::future::pending;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use pasque::Connection;
use pasque_h3::{ClientConfig, Trust};
use pasque_ip::client::IpTunnel;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Options};
use crate::download::Source;
use crate::exit::{Exit, Failure};
use crate::settings::{Settings, Task};
use crate::signals::Signals;

/// How long the end of the connection may take: it is one packet to the server.
const CLOSE_TIME: Duration = Duration::from_secs(1);

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
    let options = arguments.options.or(file.unwrap_or_default());
    let settings = Settings::new(options, arguments.command)?;

    // The engine has a thread of its own; this one only waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("runtime", &error))?;
    let result = runtime.block_on(session(settings));
    // Lets downloads that end early put away what they have, but waits for no pipe.
    runtime.shutdown_timeout(CLOSE_TIME);
    result
}

/// The life of the connection.
async fn session(settings: Settings) -> Result<Exit, Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::local("signals", &error))?;
    // What this machine does not let us do is found out before the server hears of us.
    let mut interface = match &settings.tunnel {
        Some(spec) => Some(tunnel::prepare(spec).await?),
        None => None,
    };
    let connection = tokio::select! {
        result = connect(&settings) => result?,
        () = signals.next() => return interrupted(&settings.task),
    };
    let result = tokio::select! {
        result = work(&connection, &settings, interface.as_mut()) => result,
        () = signals.next() => interrupted(&settings.task),
    };
    if let Some(interface) = interface {
        tunnel::close(interface).await;
    }
    connection.close();
    // A server that is gone does not hear it.
    let _ = timeout(CLOSE_TIME, connection.closed()).await;
    result
}

async fn connect(settings: &Settings) -> Result<Connection, Failure> {
    let destination = &settings.destination;
    if matches!(settings.trust, Trust::AcceptAny) {
        tracing::warn!("--ignore-cert: this may be any server that says it is {destination}");
    }
    let mut config = ClientConfig::default();
    config.trust = settings.trust.clone();
    config.connect_timeout = settings.timeout;
    config.response_timeout = settings.timeout;
    let connection = pasque_h3::connect(&destination.host, destination.port, &config).await;
    connection.map_err(|error| {
        let failure = Failure::from_client(&destination.to_string(), &error);
        match failure.exit {
            // The name was not found, or no socket could be had: no connection either way.
            Exit::Failed => failure
                .with_exit(Exit::NoConnection)
                .with_advice("check the name and this machine's network"),
            _ => failure,
        }
    })
}

/// Does everything at the same time. What ends first ends the others.
async fn work(
    connection: &Connection,
    settings: &Settings,
    interface: Option<&mut IpTunnel>,
) -> Result<Exit, Failure> {
    let tunnel = async {
        match (interface, &settings.tunnel) {
            (Some(interface), Some(spec)) => {
                tunnel::run(interface, connection, spec, &settings.headers).await
            }
            _ => pending().await,
        }
    };
    tokio::select! {
        result = task(connection, settings) => result,
        result = tunnel => result,
    }
}

async fn task(connection: &Connection, settings: &Settings) -> Result<Exit, Failure> {
    match &settings.task {
        Task::Forward { template, forwards } => {
            forward::run(connection, template, &settings.headers, forwards).await
        }
        Task::Download(downloads) => {
            let source = Source {
                connection,
                authority: settings.destination.authority(),
                headers: settings.headers.clone(),
                timeout: settings.timeout,
            };
            Ok(download::run(&source, downloads).await)
        }
        Task::Nothing => pending().await,
    }
}

/// Tunnels run until somebody ends them. A file that is not there yet is another matter.
fn interrupted(task: &Task) -> Result<Exit, Failure> {
    match task {
        Task::Forward { .. } | Task::Nothing => Ok(Exit::Done),
        Task::Download(_) => Err(Failure::new(
            Exit::Incomplete,
            "interrupted; run the same command again to go on where it ended",
        )),
    }
}

/// Starts the log on standard error; what a user must know is said without it.
fn start_logging() -> Result<(), Failure> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) => EnvFilter::try_new(directives),
        Err(_) => EnvFilter::try_new("warn"),
    };
    let filter = filter.map_err(|error| Failure::usage(format!("RUST_LOG: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init()
        .map_err(|error| Failure::usage(format!("cannot start logging: {error}")))
}
