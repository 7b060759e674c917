//! [`Server`]: a configuration, bound to its address and serving.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use pasque::config::{ConfigError, ServerConfig};
use pasque::health::Health;
use pasque::{Error, Retired, Site, StartContext};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use thiserror::Error as ThisError;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::coop::unconstrained;
use tracing::{debug, info, warn};

use crate::client_certificate::{ClientCertificates, Verifier};
use crate::connection::Shared;
use crate::diagnostics;
use crate::listener::{Listener, Places};
use crate::mailbox::{Mailbox, Message};
use crate::memory;
use crate::monitor::Monitor;
use crate::reload::{Fixed, Reloader};
use crate::settings::Settings;
use crate::socket::Socket;
use crate::socket::udp::Udp;
use crate::steering;
use crate::tls::{Identity, TlsError, hex, make_self_signed};
use crate::token::TokenKey;
use crate::worker::{Parts, Worker};

/// Workers at most: one byte of a connection ID names them.
const MAX_WORKERS: usize = 256;

/// Threads on which what belongs to one worker may block: reads of files, interfaces that come and go, a look
/// at a password. What clients ask for decides how many there are, so their stacks are not to count.
const BLOCKING_THREADS: usize = 32;

/// The stack of each, in bytes. Buffers are elsewhere.
const BLOCKING_STACK: usize = 512 << 10;

/// Why a server does not start. Displays as one line that says what to do.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum StartError {
    /// Something in the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate or the key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken, not ours, or needs privileges.
    #[error("cannot listen on UDP {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// An endpoint.
    #[error("{0}")]
    Endpoint(Error),
    /// The QUIC library refused its settings.
    #[error("QUIC settings refused: {0}")]
    Quic(String),
    /// The operating system gave no thread or no runtime.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

/// A server that is bound and whose endpoints are started.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    retired: Retired,
    settings: Settings,
    identity: Identity,
    clients: ClientCertificates,
    sockets: Vec<UdpSocket>,
    is_steered: bool,
    pub(crate) mailboxes: Arc<[Arc<Mailbox>]>,
    local: SocketAddr,
    places: Arc<Places>,
    retry: pasque::config::Retry,
    health: Arc<Health>,
    reloader: Reloader,
}

/// Checks the certificate and the key without any side effect.
///
/// # Errors
/// What [`Server::bind`] would say about them.
pub fn check(config: &ServerConfig) -> Result<(), StartError> {
    if config.self_signed && !config.cert_file.exists() && !config.key_file.exists() {
        return Ok(());
    }
    let identity = Identity::load(&config.cert_file, &config.key_file)?;
    identity.context(&ClientCertificates::of(config.auth.as_ref()))?;
    Ok(())
}

impl Server {
    /// Binds `address`, or else the configuration's, and starts the endpoints. Makes a certificate
    /// when `self_signed` asks for it and there is none.
    ///
    /// # Errors
    /// A [`StartError`]; nothing is left running.
    pub async fn bind(
        config: ServerConfig,
        address: Option<SocketAddr>,
    ) -> Result<Self, StartError> {
        let fixed = Fixed {
            listen: address.is_none().then_some(config.listen),
            threads: config.threads,
        };
        let address = address.unwrap_or_else(|| config.listen_address());
        for warning in config.check_relay(&[address])? {
            warn!("{warning}");
        }
        let identity = load_identity(&config)?;
        let settings = Settings {
            limits: config.limits.clone(),
            congestion_control: config.congestion_control,
        };
        // Settings that QUIC refuses are found before anything is started.
        let clients = ClientCertificates::of(config.auth.as_ref());
        let tls = identity.context(&clients)?;
        settings.server(tls).map_err(quic_error)?;
        let (sockets, is_steered) = bind_all(address, workers(config.threads))?;
        let local = match sockets.first().map(UdpSocket::local_addr) {
            Some(Ok(local)) => local,
            _ => address,
        };
        let cx: StartContext = config.start_context(vec![local]);
        let retry = config.retry;
        let mut router = config.into_router()?;
        router.start(&cx).await.map_err(StartError::Endpoint)?;
        diagnostics::announce();
        raise_descriptor_limit();
        let places = Places::new(&settings.limits);
        let (site, retired) = Site::new(router);
        let shared = Arc::new(Shared {
            site,
            counters: Default::default(),
        });
        let health = Arc::new(Health::new(sockets.len()));
        let mailboxes: Arc<[_]> = sockets.iter().map(|_| Arc::<Mailbox>::default()).collect();
        let reloader = Reloader::new(
            shared.clone(),
            mailboxes.clone(),
            places.clone(),
            local,
            fixed,
            settings.limits.clone(),
        );
        Ok(Self {
            shared,
            retired,
            settings,
            identity,
            clients,
            sockets,
            is_steered,
            mailboxes,
            local,
            places,
            retry,
            health,
            reloader,
        })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether its workers are alive, for a supervisor's watchdog. Known from the first turn on, and
    /// for as long as the server [runs](Self::run).
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// How many endpoints are mounted.
    pub fn endpoints(&self) -> usize {
        self.shared.site.router().mounts().len()
    }

    /// What gives this server another configuration while it [runs](Self::run).
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `shutdown` completes; then announces the end to all clients (GOAWAY), gives
    /// what is under way the configured time, closes all connections and stops the endpoints.
    ///
    /// # Errors
    /// When a worker cannot start. What a peer does is never an error.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mailboxes = self.mailboxes;
        let tokens = TokenKey::random();
        let mut running = Vec::new();
        for (index, socket) in self.sockets.into_iter().enumerate() {
            let listener = Listener {
                shared: self.shared.clone(),
                places: self.places.clone(),
                tokens: tokens.clone(),
                retry: self.retry,
                verifier: Verifier::default(),
                is_steered: self.is_steered,
            };
            let settings = self.settings.clone();
            let tls = self
                .identity
                .context(&self.clients)
                .map_err(|e| Error::internal(e.to_string()))?;
            let quic = settings
                .server(tls)
                .map_err(|e| Error::internal(e.to_string()))?;
            let h3 = settings
                .h3(true)
                .map_err(|e| Error::internal(e.to_string()))?;
            let (workers, tokens) = (mailboxes.clone(), tokens.clone());
            let limits = settings.limits;
            let pulse = self.health.pulses().get(index).cloned();
            running.push(spawn(&format!("worker-{index}"), move || {
                let socket = Socket::Udp(Udp::new(socket)?);
                let index = index as u8;
                let listener = Some(listener);
                Ok(Worker::new(Parts {
                    index,
                    socket,
                    quic,
                    h3,
                    limits,
                    workers,
                    tokens,
                    listener,
                    pulse,
                }))
            })?);
        }
        let monitor = Monitor::start(self.health, mailboxes.clone(), self.places.clone())?;
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(endpoint) = self.retired.next() => endpoint.stop().await,
            }
        }
        info!(connections = self.places.total(), "stopping");
        for mailbox in mailboxes.iter() {
            mailbox.push(Message::Drain(self.reloader.limits().drain));
        }
        for worker in running {
            // A worker that panicked has ended, too.
            let _ = worker.await;
        }
        drop(monitor);
        self.shared.site.router().stop().await;
        while let Some(endpoint) = self.retired.next_now() {
            endpoint.stop().await;
        }
        Ok(())
    }
}

/// Runs a worker on a thread and a runtime of its own. The receiver completes when it has ended.
pub(crate) fn spawn(
    name: &str,
    make: impl FnOnce() -> io::Result<Worker> + Send + 'static,
) -> Result<oneshot::Receiver<()>, Error> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(BLOCKING_STACK)
        .build()?;
    memory::keep_free();
    let (ended, receiver) = oneshot::channel();
    thread::Builder::new().name(name.into()).spawn(move || {
        // Unconstrained: one turn polls the sockets of all its flows, and has a budget of its own.
        runtime.block_on(async {
            match make() {
                Ok(worker) => unconstrained(worker.run()).await,
                Err(error) => warn!(%error, "worker cannot start"),
            }
        });
        // Endpoints may have look-ups under way on blocking threads: nobody waits for them.
        runtime.shutdown_background();
        let _ = ended.send(());
    })?;
    Ok(receiver)
}

/// Every tunnel needs a socket: what the system lets this process have, it takes.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, ?limit, "descriptor limit stays as it is");
    }
}

/// Makes the certificate and key of `config` where `self_signed` asks for it and there are none, for a
/// server that is to listen on `address`. [`Server::bind`] does so, too; a program that confines itself
/// to files before has it done earlier.
///
/// # Errors
/// They cannot be made or written, or the server would be an open relay: then nothing is made.
pub fn make_identity(config: &ServerConfig, address: SocketAddr) -> Result<(), StartError> {
    // Its warnings come with the start.
    config.check_relay(&[address])?;
    make_missing(config)
}

fn make_missing(config: &ServerConfig) -> Result<(), StartError> {
    let (cert, key) = (&config.cert_file, &config.key_file);
    if config.self_signed && !cert.exists() && !key.exists() {
        make_self_signed(cert, key)?;
        warn!(file = %cert.display(), "made a self-signed certificate");
    }
    Ok(())
}

/// The certificate and key of `config`, made before where `self_signed` asks for it.
pub(crate) fn load_identity(config: &ServerConfig) -> Result<Identity, StartError> {
    make_missing(config)?;
    let (cert, key) = (&config.cert_file, &config.key_file);
    config.check_files()?;
    let identity = Identity::load(cert, key)?;
    if config.self_signed {
        let pin = hex(&identity.fingerprint);
        warn!("the certificate is self-signed; clients trust it with: psq-client --pin {pin}");
    }
    Ok(identity)
}

fn workers(configured: Option<NonZeroUsize>) -> usize {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    configured
        .map_or_else(cores, NonZeroUsize::get)
        .min(MAX_WORKERS)
}

/// Binds a socket for each worker. Tells whether packets come to the one that their connection ID names.
pub(crate) fn bind_all(
    address: SocketAddr,
    count: usize,
) -> Result<(Vec<UdpSocket>, bool), StartError> {
    let fail = |error| StartError::Bind(address, error);
    // Shared only once it is bound: a second server on the same address is an error, not a partner, and a free
    // port is one that nobody shares.
    let first = Udp::bind(address, false).map_err(fail)?;
    if count > 1 {
        SockRef::from(&first).set_reuse_port(true).map_err(fail)?;
    }
    let local = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(Udp::bind(local, true).map_err(fail)?);
    }
    let is_steered = match sockets.first() {
        Some(first) if count > 1 => steering::attach(first)
            .inspect_err(|error| warn!(%error, "this kernel chooses workers by the clients' addresses: nothing is wrong, but some may get more than their share"))
            .is_ok(),
        _ => false,
    };
    Ok((sockets, is_steered))
}

pub(crate) fn quic_error(error: quiche::Error) -> StartError {
    StartError::Quic(error.to_string())
}
