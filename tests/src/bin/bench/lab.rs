//! TCP through an IP tunnel, in namespaces: the network of the tests, a server, clients, and
//! iperf3.
//!
//! ```text
//! tunnel   iperf3 → psq0 → psq-client → eth0 ┐          ┌ eth0 → psq-server → bench-s → iperf3
//!          client 0, client 1                └ router ──┘ server                        target
//!
//! bare     iperf3 → eth0 ───────────────────── router ─── server ──────────────────────→ iperf3
//! ```
//!
//! Without a tunnel the client's default route leads to the target, with one the tunnel's own.
//! Nothing is pinned: both ends, iperf3 and the kernel share all cores.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pasque_tests::netns::{Namespace, Network, Plan as NetworkPlan};
use pasque_tests::{PATIENCE, Process, Server, beside};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::machine::{Cpu, find, is_root};
use crate::{Plan, Result};

/// Where iperf3 waits at the target: two servers, because each takes one client at a time.
const PORTS: [u16; 2] = [5201, 5202];

/// What the MTU of a tunnel's interface is at least, once the path is known to carry Ethernet's
/// packets.
const FULL_MTU: u64 = 1400;

/// What TCP needs until it is at its full rate.
const OMITTED: Duration = Duration::from_secs(1);

/// Why figures of this kind are left out here, if they are.
pub(crate) fn missing() -> Option<String> {
    if !is_root() {
        return Some("left out: namespaces and interfaces take root".into());
    }
    let programs = ["ip", "nft", "iperf3"];
    let missing: Vec<&str> = programs
        .into_iter()
        .filter(|program| find(program).is_none())
        .collect();
    (!missing.is_empty()).then(|| format!("left out: not installed: {}", missing.join(", ")))
}

/// A network, and the target's iperf3.
pub(crate) struct Lab {
    pub(crate) network: Network,
    pub(crate) runtime: Runtime,
    iperf: PathBuf,
    _servers: Vec<Process>,
}

/// What a tunnel is to be.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The kind of both ends' devices: `auto` or `plain`.
    pub(crate) device: &'static str,
    /// The server's `congestion_control`.
    pub(crate) congestion_control: &'static str,
    /// Where the clients connect to.
    pub(crate) server: SocketAddr,
    pub(crate) clients: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            device: "auto",
            congestion_control: "cubic",
            server: SocketAddr::from((Network::SERVER, 443)),
            clients: 1,
        }
    }
}

/// A server and its clients, each with an interface. Dropping it ends them.
pub(crate) struct Tunnel {
    server: Server,
    server_id: u32,
    clients: Vec<Process>,
}

/// What iperf3 has measured, and what both ends of a tunnel needed for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transfer {
    /// Gbit/s at the receiver.
    pub(crate) rate: f64,
    pub(crate) retransmits: f64,
    /// CPU seconds for each 10^9 bytes, of the client and of the server.
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
}

/// What iperf3 is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) streams: u32,
    /// From the target to the client.
    pub(crate) down: bool,
}

impl Load {
    pub(crate) const UP: Self = Self {
        streams: 1,
        down: false,
    };
    pub(crate) const DOWN: Self = Self {
        streams: 1,
        down: true,
    };
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.down { "down" } else { "up" };
        match self.streams {
            1 => write!(f, "TCP {way}"),
            streams => write!(f, "TCP {way}, {streams} streams"),
        }
    }
}

impl Lab {
    pub(crate) fn new(clients: usize, single_packets: bool) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let iperf = find("iperf3").ok_or("iperf3 is not installed")?;
        let plan = NetworkPlan {
            routed: true,
            single_packets,
        };
        let network = Network::new(clients, plan)?;
        // The way without a tunnel.
        let way = format!("route add {}/32 via {}", Network::TARGET, Network::SERVER);
        network.router.ip(&way)?;
        let servers = runtime.block_on(async {
            let mut servers = Vec::new();
            for port in PORTS {
                let port = port.to_string();
                let arguments = ["-s", "-p", &port, "--forceflush"];
                let mut server = network.target.start(&iperf, arguments)?;
                server.line("Server listening").await?;
                servers.push(server);
            }
            Ok::<_, std::io::Error>(servers)
        })?;
        Ok(Self {
            network,
            runtime,
            iperf,
            _servers: servers,
        })
    }

    /// Opens a tunnel for each client, and waits until they have their full MTU.
    pub(crate) fn open(&self, spec: &Spec) -> Result<Tunnel> {
        self.runtime.block_on(async {
            let endpoint = json!({
                "path": "ip", "type": "IpEndpoint", "anonymous": true, "ifprefix": "bench-s",
                "addresspools": ["10.76.0.1/24"],
                "routes": ["10.76.0.0/24", "198.51.100.0/24"],
                "device": spec.device,
            });
            let config = json!({
                "congestion_control": spec.congestion_control, "endpoints": [endpoint],
            });
            let program = beside("psq-server")?;
            let network = &self.network;
            let mut server =
                Server::start_in(&network.server, &program, config, ["-a", "0.0.0.0:443"]).await?;
            let mut tunnel = Tunnel {
                server_id: server.process().id().ok_or("the server has ended")?,
                server,
                clients: Vec::new(),
            };
            let program = beside("psq-client")?;
            for place in network.clients.iter().take(spec.clients) {
                let url = format!("https://{}", spec.server);
                let arguments = ["-d", &url, "--pin", tunnel.server.pin(), "-i"];
                let device = ["--device", spec.device];
                let mut client = place.start(&program, arguments.into_iter().chain(device))?;
                let line = client.line(" up: ").await?;
                let interface = line.split_whitespace().nth(1).unwrap_or_default();
                wait_for_mtu(place, interface).await?;
                tunnel.clients.push(client);
            }
            // The server's way back learns the same a little later.
            sleep(OMITTED).await;
            Ok(tunnel)
        })
    }

    /// Ends a tunnel, so that the next one finds nothing of it.
    pub(crate) fn close(&self, mut tunnel: Tunnel) -> Result<()> {
        self.runtime.block_on(async {
            for client in &mut tunnel.clients {
                client.terminate().await?;
            }
            tunnel.server.process().terminate().await?;
            Ok(())
        })
    }

    /// Sends TCP from or to client 0 for a while, through `tunnel` if that is where the route
    /// leads.
    pub(crate) fn transfer(
        &self,
        plan: &Plan,
        tunnel: Option<&Tunnel>,
        load: Load,
    ) -> Result<Transfer> {
        let before = tunnel.map(Tunnel::cpu).transpose()?;
        let mut transfer = self
            .runtime
            .block_on(async { self.start(plan, 0, load)?.finish().await })?;
        if let (Some(tunnel), Some(before)) = (tunnel, before) {
            let after = tunnel.cpu()?;
            // What iperf3 leaves out of its figures was sent, too.
            let seconds = (plan.time + OMITTED).as_secs_f64();
            let gigabytes = transfer.rate / 8.0 * seconds;
            transfer.client_cpu = after[0].since(before[0]).total() / gigabytes;
            transfer.server_cpu = after[1].since(before[1]).total() / gigabytes;
        }
        Ok(transfer)
    }

    /// Starts iperf3 at client `n`. Takes the lab's runtime.
    pub(crate) fn start(&self, plan: &Plan, n: usize, load: Load) -> Result<Iperf> {
        let words = format!(
            "-c {} -p {} -t {} -O {} -P {} -J{}",
            Network::TARGET,
            PORTS[n % PORTS.len()],
            plan.time.as_secs(),
            OMITTED.as_secs(),
            load.streams,
            if load.down { " -R" } else { "" }
        );
        let place = &self.network.clients[n];
        let words: Vec<&str> = words.split(' ').collect();
        Ok(Iperf {
            process: place.start(&self.iperf, words)?,
            patience: plan.time + OMITTED + PATIENCE,
        })
    }

    /// Where the path between clients and server can be made worse.
    pub(crate) fn router(&self) -> &Namespace {
        &self.network.router
    }

    /// The router's address on the side of client 0.
    pub(crate) fn router_address() -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 1, 1)
    }
}

impl Tunnel {
    /// What client 0 and the server have used.
    fn cpu(&self) -> Result<[Cpu; 2]> {
        let client = self.clients.first().and_then(Process::id);
        let client = client.ok_or("the client has ended")?;
        Ok([Cpu::of(client)?, Cpu::of(self.server_id)?])
    }
}

/// An iperf3 client that runs.
pub(crate) struct Iperf {
    process: Process,
    patience: Duration,
}

impl Iperf {
    /// Waits for its end.
    pub(crate) async fn finish(mut self) -> Result<Transfer> {
        let deadline = Instant::now() + self.patience;
        // The process may take longer than the wait of `exit` allows.
        while self.process.id().is_some_and(is_running) && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        self.process.exit().await?;
        let text = self.process.output();
        let report: Value =
            serde_json::from_str(&text).map_err(|error| format!("iperf3: {error}: {text}"))?;
        let end = &report["end"];
        match end["sum_received"]["bits_per_second"].as_f64() {
            Some(rate) => Ok(Transfer {
                rate: rate / 1e9,
                retransmits: end["sum_sent"]["retransmits"].as_f64().unwrap_or(f64::NAN),
                ..Transfer::default()
            }),
            None => Err(format!("iperf3: {}", report["error"]).into()),
        }
    }
}

/// Whether a process has not ended yet; one that nobody has waited for has.
fn is_running(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn wait_for_mtu(place: &Namespace, interface: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let links = place.show(&format!("link show dev {interface}"))?;
        let mtu = links.first().and_then(|link| link["mtu"].as_u64());
        if mtu.is_some_and(|mtu| mtu >= FULL_MTU) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{interface} stays at an MTU of {mtu:?}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The target, for echo requests.
pub(crate) fn target() -> IpAddr {
    Network::TARGET.into()
}
