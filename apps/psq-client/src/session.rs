//! The life of a client: one connection, and another whenever it is lost.
//!
//! ```text
//! interface ─ connect ─ forwards ─► work ──► exit code
//!                          ▲          │ lost
//!                          └─ connect ◄ wait
//! ```
//!
//! What was made on this machine stays: local ports are open, and the interface keeps its addresses and
//! routes, so that nothing takes another way while there is no tunnel.

use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use pasque::{Connection, Credentials};
use pasque_h3::{ClientConfig, Trust};
use pasque_ip::client::IpTunnel;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::backoff::{Backoff, STEADY};
use crate::download::{self, Source};
use crate::exit::{Exit, Failure};
use crate::forward::Forwards;
use crate::settings::{Settings, Task};
use crate::signals::Signals;
use crate::{suspension, tunnel};

/// How long the end of the connection may take: it is one packet to the server.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Does what `settings` say, until it is done or a signal ends it.
///
/// # Errors
/// Why it is of no use to go on.
pub(crate) async fn run(settings: &Settings) -> Result<Exit, Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::local("signals", &error))?;
    let mut session = Session {
        settings,
        interface: None,
        connection: None,
        shown: None,
        has_been_up: false,
    };
    let result = tokio::select! {
        result = session.live() => result,
        () = signals.next() => interrupted(&settings.task),
    };
    session.close().await;
    result
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

/// What there is now.
struct Session<'a> {
    settings: &'a Settings,
    interface: Option<IpTunnel>,
    connection: Option<Connection>,
    /// What the server of this connection was shown.
    shown: Option<Credentials>,
    /// Everything that was asked for was there once. What fails before that is a mistake.
    has_been_up: bool,
}

impl Session<'_> {
    async fn live(&mut self) -> Result<Exit, Failure> {
        let settings = self.settings;
        // What this machine does not let us do is found out before the server hears of us.
        if let Some(spec) = &settings.tunnel {
            self.interface = Some(tunnel::prepare(spec).await?);
        }
        if matches!(settings.trust, Trust::AcceptAny) {
            let destination = &settings.destination;
            warn!("--ignore-cert: this may be any server that says it is {destination}");
        }
        let mut connection = self.connect(&[]).await?;
        let mut forwards = match &settings.task {
            Task::Forward { template, forwards } => {
                let headers = &settings.headers;
                Some(Forwards::bind(&connection, template, headers, forwards)?)
            }
            Task::Download(_) | Task::Nothing => None,
        };
        self.has_been_up = self.interface.is_none();
        let mut backoff = Backoff::default();
        loop {
            let begin = Instant::now();
            let failure = match self.work(&connection, forwards.as_mut()).await {
                Ok(exit) => return Ok(exit),
                Err(failure) => failure,
            };
            if !self.goes_on_after(&failure) {
                return Err(failure);
            }
            warn!("{}; reconnecting", failure.cause());
            if begin.elapsed() >= STEADY {
                backoff.reset();
            }
            end(&connection).await;
            connection = self.reconnect(&connection, &mut backoff).await;
            info!("connected to {} again", settings.destination);
            if let Some(forwards) = &mut forwards {
                forwards.reconnect(&connection);
            }
        }
    }

    /// Whether another connection may do better than the one that has ended with `failure`.
    fn goes_on_after(&self, failure: &Failure) -> bool {
        if !self.settings.reconnects || !self.has_been_up {
            return false;
        }
        match failure.exit {
            // Others may be in the file by now.
            Exit::Denied => {
                matches!(self.settings.credentials.read(), Ok(fresh) if fresh != self.shown)
            }
            _ => failure.may_pass(),
        }
    }

    /// Does everything at the same time. What ends first ends the others.
    async fn work(
        &mut self,
        connection: &Connection,
        forwards: Option<&mut Forwards>,
    ) -> Result<Exit, Failure> {
        let settings = self.settings;
        let tunnel = async {
            match (&mut self.interface, &settings.tunnel) {
                (Some(interface), Some(spec)) => {
                    let up = &mut self.has_been_up;
                    tunnel::run(interface, connection, spec, &settings.headers, up).await
                }
                _ => pending().await,
            }
        };
        let task = async {
            match (&settings.task, forwards) {
                (Task::Download(downloads), _) => {
                    let source = Source {
                        connection,
                        authority: settings.destination.authority(),
                        headers: settings.headers.clone(),
                        timeout: settings.timeout,
                    };
                    Ok(download::run(&source, downloads).await)
                }
                (_, Some(forwards)) => Err(forwards.run().await),
                (_, None) => pending().await,
            }
        };
        let suspension = async {
            match settings.reconnects {
                true => suspension::ended().await,
                false => pending().await,
            }
        };
        tokio::select! {
            result = task => result,
            result = tunnel => result,
            slept = suspension => {
                let text = format!("everything here stood still for {} s", slept.as_secs());
                Err(Failure::new(Exit::Lost, text))
            }
        }
    }

    /// Tries until there is a connection again. What keeps it from being there is told when it changes.
    async fn reconnect(&mut self, former: &Connection, backoff: &mut Backoff) -> Connection {
        let addresses = former.server_addresses();
        let mut told = String::new();
        loop {
            let wait = backoff.next(rand::random());
            tokio::select! {
                () = sleep(wait) => {}
                _ = suspension::ended() => {}
            }
            let text = match self.try_again(&addresses).await {
                Ok(connection) => return connection,
                Err(failure) => failure.cause().to_string(),
            };
            if text != told {
                warn!("{text}; trying again");
                told = text;
            }
        }
    }

    async fn try_again(&mut self, addresses: &[IpAddr]) -> Result<Connection, Failure> {
        if let Some(interface) = &mut self.interface {
            tunnel::renew_way_to_server(interface).await?;
        }
        self.connect(addresses).await
    }

    /// Connects with the credentials of now, to one of `addresses` before the name is looked up.
    async fn connect(&mut self, addresses: &[IpAddr]) -> Result<Connection, Failure> {
        let settings = self.settings;
        let destination = &settings.destination;
        let credentials = settings.credentials.read()?;
        let mut config = ClientConfig::default();
        config.trust = settings.trust.clone();
        config.credentials.clone_from(&credentials);
        config.certificate.clone_from(&settings.key_pair);
        config.congestion_control = settings.congestion_control;
        config.known_addresses = addresses.to_vec();
        config.connect_timeout = settings.timeout;
        config.response_timeout = settings.timeout;
        let connected = pasque_h3::connect(&destination.host, destination.port, &config).await;
        let connection = connected.map_err(|error| {
            let failure = Failure::from_client(&destination.to_string(), &error);
            match failure.exit {
                // The name was not found, or no socket could be had: no connection either way.
                Exit::Failed => failure
                    .with_exit(Exit::NoConnection)
                    .with_advice("check the name and this machine's network"),
                _ => failure,
            }
        })?;
        self.shown = credentials;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    async fn close(self) {
        if let Some(interface) = self.interface {
            tunnel::close(interface).await;
        }
        if let Some(connection) = self.connection {
            end(&connection).await;
        }
    }
}

/// Ends a connection. A server that is gone does not hear it.
async fn end(connection: &Connection) {
    connection.close();
    let _ = timeout(CLOSE_TIME, connection.closed()).await;
}
