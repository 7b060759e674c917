//! Servers and clients that speak real QUIC over a network in memory (feature `testing`).
//!
//! The API is that of `pasque::testing`, so a plugin's test can move from one to the other; the
//! network between has latency, loss and an MTU.

mod pair;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pasque::config::{EndpointConfig, Limits, Retry};
use pasque::connection::{ClientError, Connection};
use pasque::testing::TestTunnel;
use pasque::{Mount, Request, Response, Router, Site, StartContext, endpoint_types};

use tokio::task::coop::unconstrained;

pub use self::pair::Pair;

use crate::client::{ClientConfig, Dialer, Handle, finish};
use crate::client_certificate::{ClientCertificates, Verifier};
use crate::connection::Shared;
use crate::listener::{Listener, Places};
use crate::mailbox::{Mailbox, Message};
use crate::settings::Settings;
use crate::socket::Socket;
pub use crate::socket::memory::{Conditions, Network};
use crate::tls::{Identity, TlsContext, Trust, make_self_signed};
use crate::token::TokenKey;
use crate::worker::{Parts, Worker};

/// Endpoints served over QUIC in memory.
pub struct TestServer {
    network: Network,
    address: SocketAddr,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    places: Arc<Places>,
}

impl TestServer {
    /// Serves the example that the type `tag` was registered with.
    ///
    /// # Panics
    /// When no such type is linked, or its example does not start.
    pub async fn example(tag: &str) -> Self {
        let types = endpoint_types().expect("type tags are unique");
        let kind = types
            .iter()
            .find(|kind| kind.tag == tag)
            .expect("the type is linked");
        Self::from_json(kind.example).await
    }

    /// Serves one endpoint from the JSON object that a configuration would hold.
    ///
    /// # Panics
    /// With the configuration's error message, or the endpoint's.
    pub async fn from_json(json: &str) -> Self {
        Self::start(&[json], Conditions::default(), Limits::default()).await
    }

    /// Serves several endpoints over a network under `conditions`.
    ///
    /// # Panics
    /// With the error message of whatever does not start.
    pub async fn start(endpoints: &[&str], conditions: Conditions, limits: Limits) -> Self {
        Self::tweaked(endpoints, conditions, limits, |_| {}).await
    }

    /// [`from_json`](Self::from_json) on a server that asks for certificates as `clients` says.
    #[cfg(test)]
    pub(crate) async fn asking(json: &str, clients: ClientCertificates) -> Self {
        let limits = Limits::default();
        Self::serve(&[json], Conditions::default(), limits, &clients, |_| {}).await
    }

    /// [`start`](Self::start) with transport settings as `tweak` leaves them.
    pub(crate) async fn tweaked(
        endpoints: &[&str],
        conditions: Conditions,
        limits: Limits,
        tweak: impl FnOnce(&mut quiche::Config),
    ) -> Self {
        let clients = ClientCertificates::NotAsked;
        Self::serve(endpoints, conditions, limits, &clients, tweak).await
    }

    async fn serve(
        endpoints: &[&str],
        conditions: Conditions,
        limits: Limits,
        clients: &ClientCertificates,
        tweak: impl FnOnce(&mut quiche::Config),
    ) -> Self {
        let mounts: Vec<Mount> = endpoints
            .iter()
            .map(|json| EndpointConfig::parse(json).unwrap_or_else(|error| panic!("{error}")))
            .map(EndpointConfig::into_mount)
            .collect();
        let mut router = Router::new(mounts, "pasque")
            .unwrap_or_else(|error| panic!("{error}"))
            .with_limits(&limits)
            .with_isolation();
        let cx = StartContext::new(Path::new("."));
        router
            .start(&cx)
            .await
            .unwrap_or_else(|error| panic!("{error}"));

        let settings = Settings {
            limits: limits.clone(),
            congestion_control: Default::default(),
        };
        let mut quic = settings
            .server(throwaway_identity(clients))
            .expect("QUIC settings");
        tweak(&mut quic);

        let network = Network::new(conditions);
        let socket = network.socket();
        let socket = Socket::Memory(socket);
        let address = socket.local_addr();
        let mailbox = Arc::<Mailbox>::default();
        let (site, mut retired) = Site::new(router);
        tokio::spawn(async move {
            while let Some(endpoint) = retired.next().await {
                endpoint.stop().await;
            }
        });
        let shared = Arc::new(Shared {
            site,
            counters: Default::default(),
        });
        let places = Places::new(&limits);
        let tokens = TokenKey::random();
        let worker = Worker::new(Parts {
            index: 0,
            socket,
            quic,
            h3: settings.h3(true).expect("HTTP/3 settings"),
            limits,
            workers: Arc::new([mailbox.clone()]),
            tokens: tokens.clone(),
            listener: Some(Listener {
                shared: shared.clone(),
                places: places.clone(),
                tokens,
                retry: Retry::Always,
                verifier: Verifier::default(),
                is_steered: false,
            }),
            pulse: None,
        });
        tokio::spawn(unconstrained(worker.run()));
        Self {
            network,
            address,
            mailbox,
            shared,
            places,
        }
    }

    /// A new client's connection.
    pub async fn connection(&self) -> Result<Connection, ClientError> {
        Ok(self.connect_from().await?.0)
    }

    /// A new client's connection and its address on the network.
    pub async fn connect_from(&self) -> Result<(Connection, SocketAddr), ClientError> {
        let config = ClientConfig {
            trust: Trust::AcceptAny,
            ..ClientConfig::default()
        };
        dial(&self.network, self.address, "localhost", &config).await
    }

    /// Sends an ordinary request on a connection of its own.
    pub async fn request(&self, request: Request) -> Result<Response, ClientError> {
        let connection = self.connection().await?;
        let response = connection.request(request).await?;
        // The body still streams: the connection lives as long as its reader.
        Ok(keep_alive(response, connection))
    }

    /// Opens a tunnel on a connection of its own.
    pub async fn connect(&self, protocol: &str, path: &str) -> Result<Client, ClientError> {
        let connection = self.connection().await?;
        let tunnel = TestTunnel::open(&connection, Request::tunnel(protocol, path)).await?;
        Ok(Client { tunnel, connection })
    }

    /// Where the server is on its network.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The network, to change its conditions.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Sheds load as if `percent` of the budget of memory were in use.
    #[cfg(test)]
    pub(crate) fn use_memory(&self, percent: u64) {
        let step = self.places.memory.judge(percent, 100);
        crate::monitor::give_up(step, std::slice::from_ref(&self.mailbox));
    }

    /// Looks whether places are wanted, as the monitor does.
    #[cfg(test)]
    pub(crate) fn look_after_places(&self) {
        crate::monitor::look_after_places(&self.places, std::slice::from_ref(&self.mailbox));
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.places.total()
    }

    /// Tunnels open now.
    pub fn tunnels(&self) -> usize {
        self.shared
            .counters
            .tunnels_open
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Starts an orderly stop, as a signal would.
    pub fn drain(&self, time: Duration) {
        self.mailbox.push(Message::Drain(time));
    }
}

/// Connects a client to `address`, whose certificate has to be one for `host`. Returns the client's
/// own address, too.
pub(crate) async fn dial(
    network: &Network,
    address: SocketAddr,
    host: &str,
    config: &ClientConfig,
) -> Result<(Connection, SocketAddr), ClientError> {
    let (dialer, connected) = Dialer::new(host, 443, config)?;
    let socket = Socket::Memory(network.socket());
    let local = socket.local_addr();
    let (mailbox, closed) = (dialer.mailbox.clone(), dialer.closed.clone());
    let worker = dialer.start(socket, address)?;
    tokio::spawn(unconstrained(worker.run()));
    let handle = Handle {
        mailbox,
        peer: address,
        found: vec![address.ip()],
        closed,
        response_timeout: config.response_timeout,
    };
    Ok((finish(handle, connected).await?, local))
}

/// A tunnel together with the connection that it needs.
#[derive(Debug)]
pub struct Client {
    /// The tunnel.
    pub tunnel: TestTunnel,
    /// The connection below it.
    pub connection: Connection,
}

impl std::ops::Deref for Client {
    type Target = TestTunnel;

    fn deref(&self) -> &TestTunnel {
        &self.tunnel
    }
}

impl std::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut TestTunnel {
        &mut self.tunnel
    }
}

fn keep_alive(mut response: Response, connection: Connection) -> Response {
    let body = std::mem::take(&mut response.body);
    response.body = pasque::Body::stream(futures_util::stream::unfold(
        (body, connection),
        |(mut body, connection)| async move { Some((body.next().await?, (body, connection))) },
    ));
    response
}

/// Sets the allocator of this process as a worker does that starts: 4 MiB that are free stay in each heap.
pub fn keep_free() {
    crate::memory::keep_free();
}

/// The transport settings of a server, with a certificate of its own, and of a client that takes any
/// certificate: for programs that measure what the engine adds to quiche alone.
pub fn transport_settings() -> (quiche::Config, quiche::Config) {
    let settings = Settings {
        limits: Limits::default(),
        congestion_control: Default::default(),
    };
    let trust = Trust::AcceptAny;
    let client = trust.context().expect("TLS");
    (
        settings
            .server(throwaway_identity(&ClientCertificates::NotAsked))
            .expect("QUIC settings"),
        settings
            .client(client, trust.verifies_chain())
            .expect("QUIC settings"),
    )
}

/// A server's identity that nobody else has ever had, or will have.
fn throwaway_identity(clients: &ClientCertificates) -> TlsContext {
    let folder = tempfile_folder();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    make_self_signed(&cert, &key).expect("a certificate");
    let identity = Identity::load(&cert, &key).expect("a good certificate");
    let context = identity.context(clients).expect("TLS");
    // Loaded above; nobody needs the files any more.
    let _ = std::fs::remove_dir_all(&folder);
    context
}

fn tempfile_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("pasque-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder).expect("a temporary folder");
    folder
}
