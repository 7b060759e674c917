//! [`Lab`]: a network with a server in it, and clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use pasque::Connection;
use pasque_h3::{ClientConfig, Trust};
use pasque_tests::netns::{Namespace, Network, Plan};
use pasque_tests::{PATIENCE, Process, Server, program};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What each client's packets fit into when nothing on the way is smaller than Ethernet: UDP payload
/// of 1452 bytes, less first byte, connection ID, packet number and tag (1 + 8 + 4 + 16), less the
/// frame's type and length (3), less quarter stream ID and context ID (2).
pub(crate) const FULL_MTU: u32 = 1452 - 29 - 3 - 2;

/// The server's address in the tunnels.
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 76, 0, 1);
/// The same in IPv6.
pub(crate) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd76, 0x212, 0xdead, 0, 0, 0, 0, 1);

/// The server's tunnel interfaces are named so, or start so.
pub(crate) const PREFIX: &str = "tun-s";

/// Networks that exist at a time. More would only take the cores from each other.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)))
});

/// Which devices, and how many interfaces of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// The key `device`, and the option of the same name.
    pub(crate) device: &'static str,
    /// The key `interface`.
    pub(crate) interface: &'static str,
}

impl Mode {
    pub(crate) const AUTO_CLIENT: Self = Self {
        device: "auto",
        interface: "client",
    };
    pub(crate) const AUTO_SHARED: Self = Self {
        device: "auto",
        interface: "shared",
    };
    pub(crate) const PLAIN_CLIENT: Self = Self {
        device: "plain",
        interface: "client",
    };
    pub(crate) const PLAIN_SHARED: Self = Self {
        device: "plain",
        interface: "shared",
    };
}

/// What a [`Lab`] is to be.
pub(crate) struct Setup {
    mode: Mode,
    clients: usize,
    plan: Plan,
    endpoint: Value,
    others: Vec<Value>,
    config: Value,
}

impl Setup {
    /// Two clients, and a target that answers through the server.
    pub(crate) fn new(mode: Mode) -> Self {
        let endpoint = json!({
            "path": "ip", "type": "IpEndpoint", "anonymous": true,
            "ifprefix": PREFIX,
            "addresspools": ["10.76.0.1/24", "fd76:212:dead::1/64"],
            "routes": ["10.76.0.0/24", "fd76:212:dead::/64", "198.51.100.0/24", "2001:db8:100::/64"],
            "interface": mode.interface,
            "device": mode.device,
        });
        Self {
            mode,
            clients: 2,
            plan: Plan {
                routed: true,
                single_packets: false,
            },
            endpoint,
            others: Vec::new(),
            config: json!({}),
        }
    }

    pub(crate) fn clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    /// The target knows nobody but the server.
    pub(crate) fn unrouted(mut self) -> Self {
        self.plan.routed = false;
        self
    }

    /// The router sees every datagram alone: see [`Plan::single_packets`].
    pub(crate) fn single_packets(mut self) -> Self {
        self.plan.single_packets = true;
        self
    }

    /// Sets a key of the endpoint.
    pub(crate) fn endpoint(mut self, key: &str, value: Value) -> Self {
        self.endpoint[key] = value;
        self
    }

    /// Sets a key of the server.
    pub(crate) fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Serves one more endpoint.
    pub(crate) fn beside(mut self, endpoint: Value) -> Self {
        self.others.push(endpoint);
        self
    }

    /// IPv4 only.
    pub(crate) fn ipv4_only(self) -> Self {
        self.endpoint("addresspools", json!(["10.76.0.1/24"]))
            .endpoint("routes", json!(["10.76.0.0/24", "198.51.100.0/24"]))
    }

    /// The whole configuration, but for the certificate.
    pub(crate) fn document(&self) -> Value {
        let mut config = self.config.clone();
        let endpoints = [std::slice::from_ref(&self.endpoint), &self.others[..]].concat();
        config["endpoints"] = endpoints.into();
        config
    }

    /// The network alone.
    pub(crate) async fn network(&self) -> (Network, SemaphorePermit<'static>) {
        let place = PLACES.acquire().await.expect("it is never closed");
        let network = Network::new(self.clients, self.plan);
        (network.expect("a network: this test needs root"), place)
    }

    pub(crate) async fn start(self) -> Lab {
        let (network, place) = self.network().await;
        let server = serve(&network, self.document()).await;
        Lab {
            server,
            network,
            setup: self,
            _place: place,
        }
    }
}

async fn serve(network: &Network, config: Value) -> Server {
    let psq_server = program("psq-server");
    Server::start_in(&network.server, &psq_server, config, ["-a", "[::]:443"])
        .await
        .unwrap()
}

/// A network with a server in it. Dropping it ends both.
pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) network: Network,
    setup: Setup,
    _place: SemaphorePermit<'static>,
}

impl Lab {
    pub(crate) async fn start(mode: Mode) -> Self {
        Setup::new(mode).start().await
    }

    /// Kills the server and starts it again.
    pub(crate) async fn restart_server(&mut self) {
        self.server.process().signal(Signal::KILL).unwrap();
        self.server.process().exit().await.unwrap();
        self.server = serve(&self.network, self.setup.document()).await;
    }

    /// Where client `n` runs.
    pub(crate) fn place(&self, n: usize) -> &Namespace {
        &self.network.clients[n]
    }

    pub(crate) fn target(&self) -> &Namespace {
        &self.network.target
    }

    /// `psq-client -i` with more arguments, which has just been started.
    pub(crate) fn launch(&self, n: usize, arguments: &[&str]) -> Process {
        self.launch_to(Network::SERVER.into(), n, arguments)
    }

    /// [`launch`](Self::launch), to this address of the server.
    pub(crate) fn launch_to(&self, server: IpAddr, n: usize, arguments: &[&str]) -> Process {
        let url = format!("https://{}", SocketAddr::new(server, 443));
        let mut all = vec!["-d", &url, "--pin", self.server.pin(), "-i"];
        all.extend(["--device", self.setup.mode.device]);
        all.extend(arguments);
        self.place(n).start(&program("psq-client"), all).unwrap()
    }

    /// [`launch`](Self::launch), and wait for its interface.
    pub(crate) async fn open(&self, n: usize, arguments: &[&str]) -> Client {
        Client::new(self.launch(n, arguments)).await
    }

    /// [`open`](Self::open), and wait until both ends know that the path carries all of
    /// [`FULL_MTU`], so that nothing changes any more.
    pub(crate) async fn client(&self, n: usize, arguments: &[&str]) -> Client {
        let client = self.open(n, arguments).await;
        self.settle(n, &client).await;
        client
    }

    /// Waits until both ends know that the path carries all of [`FULL_MTU`].
    pub(crate) async fn settle(&self, n: usize, client: &Client) {
        wait("the client's MTU", || client.mtu(self.place(n)) == FULL_MTU).await;
        wait("the server's MTU", || self.server_mtu(client) >= FULL_MTU).await;
    }

    /// The MTU of the server's interface towards `client`, 0 while there is none.
    pub(crate) fn server_mtu(&self, client: &Client) -> u32 {
        let address = client
            .v4
            .map(IpAddr::from)
            .or(client.v6.map(IpAddr::from))
            .unwrap();
        let routes = self.network.server.show(&format!("route get {address}"));
        let device = routes
            .ok()
            .and_then(|routes| Some(routes.first()?["dev"].as_str()?.to_owned()));
        match device {
            Some(device) if device.starts_with(PREFIX) => mtu(&self.network.server, &device),
            _ => 0,
        }
    }

    /// [`Client::leave`], and wait until the server has noticed.
    pub(crate) async fn leave(&self, client: Client) {
        let address = client
            .v4
            .map(IpAddr::from)
            .or(client.v6.map(IpAddr::from))
            .unwrap();
        client.leave().await;
        // The address comes back right after the interface has gone.
        wait("the interface to go", || {
            !self.has_route_of_its_own(address)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// Whether one of the server's interfaces is for `address` alone.
    fn has_route_of_its_own(&self, address: IpAddr) -> bool {
        let routes = self.network.server.show(&format!("route show {address}"));
        !routes.unwrap().is_empty()
    }

    /// A connection from the place of client `n`, without any tunnel yet.
    pub(crate) fn connect(&self, n: usize) -> Connection {
        connect(self.place(n))
    }
}

/// A connection to the server, whatever its certificate.
pub(crate) fn connect(from: &Namespace) -> Connection {
    let mut config = ClientConfig::default();
    config.trust = Trust::AcceptAny;
    config.connect_timeout = PATIENCE;
    config.response_timeout = PATIENCE;
    let server = SocketAddr::from((Network::SERVER, 443));
    from.connect(server, &config).unwrap()
}

/// A `psq-client` with an interface.
pub(crate) struct Client {
    pub(crate) process: Process,
    pub(crate) interface: String,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Client {
    /// Waits until `process` says that its interface is up.
    pub(crate) async fn new(mut process: Process) -> Self {
        let line = process.line(" up: ").await.unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("tunnel"), "{line}");
        let interface = words.next().unwrap().to_owned();
        let addresses: Vec<IpAddr> = words
            .filter_map(|word| word.split_once('/')?.0.parse().ok())
            .collect();
        let v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        });
        Self {
            process,
            interface,
            v4,
            v6,
        }
    }

    /// Both its addresses.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [
            self.v4.expect("an IPv4 address").into(),
            self.v6.expect("an IPv6 address").into(),
        ]
    }

    /// The MTU of its interface in `place`.
    pub(crate) fn mtu(&self, place: &Namespace) -> u32 {
        mtu(place, &self.interface)
    }

    /// Ends it, as its user would.
    pub(crate) async fn leave(mut self) {
        let status = self.process.terminate().await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.process.output());
    }
}

/// Waits until the kernel has done all that it does by itself after links were made.
pub(crate) async fn calm(place: &Namespace) {
    wait("the links", || {
        let links = place.show("address show").unwrap();
        let links = links
            .iter()
            .filter(|link| link["linkinfo"]["info_kind"] == "veth");
        let mut addresses = links.map(|link| link["addr_info"].as_array().into_iter().flatten());
        // It comes last, once the other end is there.
        addresses.all(|mut infos| {
            infos.any(|info| info["scope"] == "link" && info.get("tentative").is_none())
        })
    })
    .await;
}

/// The MTU of `interface`, 0 if there is no such interface.
pub(crate) fn mtu(place: &Namespace, interface: &str) -> u32 {
    let links = place
        .show(&format!("link show dev {interface}"))
        .unwrap_or_default();
    let mtu = links.first().and_then(|link| link["mtu"].as_u64());
    mtu.unwrap_or_default() as u32
}

/// The addresses of `interface`, without prefix lengths.
pub(crate) fn addresses(place: &Namespace, interface: &str) -> Vec<IpAddr> {
    let links = place
        .show(&format!("address show dev {interface}"))
        .unwrap_or_default();
    let infos = links
        .iter()
        .flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    infos
        .map(|info| info["local"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// The destinations of the routes through `interface`, of both versions, in the main table.
pub(crate) fn routes(place: &Namespace, interface: &str) -> Vec<String> {
    let of = |version: &str| place.show(&format!("{version} route show dev {interface}"));
    let all = [of("-4").unwrap_or_default(), of("-6").unwrap_or_default()].concat();
    let destinations = all
        .iter()
        .map(|route| route["dst"].as_str().unwrap().to_owned());
    // What the kernel adds by itself to an interface with IPv6.
    destinations
        .filter(|to| to != "fe80::/64" && to != "multicast")
        .collect()
}

/// Waits until `condition` holds.
pub(crate) async fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
