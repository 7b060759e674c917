//! [`Reloader`]: another configuration for a running server.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pasque::Changes;
use pasque::config::{Limits, Retry, ServerConfig};
use quiche::h3;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use crate::client_certificate::ClientCertificates;
use crate::connection::Shared;
use crate::listener::Places;
use crate::mailbox::{Mailbox, Message};
use crate::server::{StartError, load_identity, quic_error};
use crate::settings::Settings;

/// How long a reload waits for a worker that is in the middle of a turn. One that takes longer follows
/// later; nothing is undone.
const TURN_TIME: Duration = Duration::from_secs(5);

/// Gives a running [`Server`](crate::Server) another configuration. Clones are of the same server.
#[derive(Clone, Debug)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    workers: Arc<[Arc<Mailbox>]>,
    places: Arc<Places>,
    local: SocketAddr,
    fixed: Fixed,
    limits: Mutex<Limits>,
    /// One reload at a time.
    turn: tokio::sync::Mutex<()>,
}

/// What only a restart changes.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// The key `listen`; `None` where the command line says it.
    pub(crate) listen: Option<Option<SocketAddr>>,
    pub(crate) threads: Option<NonZeroUsize>,
}

impl Fixed {
    /// The keys of `config` that are others.
    fn differences(&self, config: &ServerConfig) -> Vec<&'static str> {
        let listen = self.listen.is_some_and(|listen| listen != config.listen);
        let threads = self.threads != config.threads;
        [(listen, "listen"), (threads, "threads")]
            .into_iter()
            .filter_map(|(differs, key)| differs.then_some(key))
            .collect()
    }
}

/// What a reload has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reloaded {
    /// What became of the endpoints.
    pub changes: Changes,
    /// Keys with another value, which take effect with a restart.
    pub needs_restart: Vec<&'static str>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reloaded; {}", self.changes)?;
        if !self.needs_restart.is_empty() {
            let keys = self.needs_restart.join(" and ");
            write!(f, "; needs a restart to take effect: {keys}")?;
        }
        Ok(())
    }
}

/// What a worker is told by a reload. The sender is dropped once that has taken effect.
pub(crate) struct Reconfiguration {
    pub(crate) quic: quiche::Config,
    pub(crate) h3: h3::Config,
    pub(crate) limits: Limits,
    pub(crate) retry: Retry,
    pub(crate) _pending: mpsc::Sender<Infallible>,
}

impl Reloader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workers: Arc<[Arc<Mailbox>]>,
        places: Arc<Places>,
        local: SocketAddr,
        fixed: Fixed,
        limits: Limits,
    ) -> Self {
        Self(Arc::new(Inner {
            shared,
            workers,
            places,
            local,
            fixed,
            limits: Mutex::new(limits),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Serves `config` from here on. What is wrong is found before anything changes. New connections
    /// and requests then meet the new configuration; running tunnels go on as long as it still admits
    /// them. Endpoints start on the runtime that this is called on, and stop on that of
    /// [`Server::run`](crate::Server::run).
    ///
    /// # Errors
    /// What [`Server::bind`](crate::Server::bind) would say; nothing has changed then.
    pub async fn reload(&self, config: ServerConfig) -> Result<Reloaded, StartError> {
        let inner = &*self.0;
        let _turn = inner.turn.lock().await;
        for warning in config.check_relay(&[inner.local])? {
            warn!("{warning}");
        }
        let settings = Settings {
            limits: config.limits.clone(),
            congestion_control: config.congestion_control,
        };
        let identity = load_identity(&config)?;
        let clients = ClientCertificates::of(config.auth.as_ref());
        let mut transports = Vec::with_capacity(inner.workers.len());
        for _ in &*inner.workers {
            let tls = identity.context(&clients)?;
            let quic = settings.server(tls).map_err(quic_error)?;
            let h3 = settings.h3(true);
            let h3 = h3.map_err(|error| StartError::Quic(error.to_string()))?;
            transports.push((quic, h3));
        }
        let needs_restart = inner.fixed.differences(&config);
        let retry = config.retry;
        let cx = config.start_context(vec![inner.local]);
        let mut router = config.into_router()?;
        // The last step that can fail: what it starts need not be stopped again.
        let site = &inner.shared.site;
        let started = router.start_after(&site.router(), &cx).await;
        let changes = started.map_err(StartError::Endpoint)?;

        site.replace(router);
        inner.places.set_limits(&settings.limits);
        *inner.limits.lock().unwrap_or_else(PoisonError::into_inner) = settings.limits.clone();
        let (pending, mut applied) = mpsc::channel(1);
        for (worker, (quic, h3)) in inner.workers.iter().zip(transports) {
            worker.push(Message::Reconfigure(Box::new(Reconfiguration {
                quic,
                h3,
                limits: settings.limits.clone(),
                retry,
                _pending: pending.clone(),
            })));
        }
        drop(pending);
        // Whoever is told that it is done finds the new certificate with its next connection.
        if timeout(TURN_TIME, applied.recv()).await.is_err() {
            warn!("a worker is busy: the reload takes effect there later");
        }
        Ok(Reloaded {
            changes,
            needs_restart,
        })
    }

    /// The limits that hold now.
    pub(crate) fn limits(&self) -> Limits {
        let limits = self.0.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.clone()
    }
}
