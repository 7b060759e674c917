//! What a server holds for each idle connection, and for each idle tunnel more: its private memory
//! before and after a thousand of them. The clients are in this process, so theirs is not counted;
//! neither is what the kernel holds for sockets and interfaces.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use pasque::wire::capsule::ADDRESS_REQUEST;
use pasque::{Batch, Connection, Flow, FlowCx, Request};
use pasque_tests::netns::Namespace;
use pasque_tests::{Server, beside};
use serde_json::json;
use tokio::time::sleep;

use crate::load::{config, serve};
use crate::machine::{is_root, pin, private_memory};
use crate::report::Report;
use crate::setup::{AT_A_TIME, CLIENTS, in_parallel, place};
use crate::traffic::Target;
use crate::{Plan, Result};

/// Until path MTU discovery and acknowledgements are over.
const SETTLE: Duration = Duration::from_secs(3);

/// Bytes for each of [`CLIENTS`].
#[derive(Clone, Copy, Debug)]
struct Sample {
    connection: f64,
    tunnel: f64,
}

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut report = Report::default();
    let (mut udp, mut ip) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        udp.push(runtime.block_on(udp_run(plan))?);
        if is_root() {
            ip.push(runtime.block_on(ip_run(plan))?);
        }
    }
    let connections = || udp.iter().map(|sample| sample.connection / 1024.0);
    let what = format!("a connection, mean of {CLIENTS}");
    report.row(what, "KiB", connections());
    report.row(
        "a UDP tunnel more",
        "KiB",
        udp.iter().map(|sample| sample.tunnel / 1024.0),
    );
    report.beside("its connection", connections());
    if ip.is_empty() {
        report.note("IP tunnels are left out: their interface takes root");
    } else {
        report.row(
            "an IP tunnel more",
            "KiB",
            ip.iter().map(|sample| sample.tunnel / 1024.0),
        );
        report.beside(
            "its connection",
            ip.iter().map(|sample| sample.connection / 1024.0),
        );
    }
    Ok(report)
}

/// Readings of one server's memory.
struct Meter {
    id: u32,
    last: f64,
}

impl Meter {
    async fn start(server: &mut Server) -> Result<Self> {
        sleep(SETTLE).await;
        let id = server.process().id().ok_or("the server has ended")?;
        let last = private_memory(id)?;
        Ok(Self { id, last })
    }

    /// What was added since the last reading, for each client.
    async fn added(&mut self) -> Result<f64> {
        sleep(SETTLE).await;
        let now = private_memory(self.id)?;
        Ok((now - std::mem::replace(&mut self.last, now)) / CLIENTS as f64)
    }
}

async fn udp_run(plan: &Plan) -> Result<Sample> {
    let mut server = serve(plan, "warn,pasque_h3=info,psq_server=info").await?;
    let target = Target::echo(plan.cores.client)?;
    let path = format!("/udp/127.0.0.1/{}/", target.address.port());
    let request = || Request::tunnel("connect-udp", path.clone());
    // What a server has once, it has now.
    let first = server.connect().await?;
    first.open(request(), Idle::default()).await?;
    let mut meter = Meter::start(&mut server).await?;
    let (host, port, config) = place(&server);
    let clients: Vec<Connection> = in_parallel(CLIENTS, AT_A_TIME, || {
        let (host, config) = (host.clone(), config.clone());
        async move { Ok(pasque_h3::connect(&host, port, &config).await?) }
    })
    .await?;
    let connection = meter.added().await?;
    for client in &clients {
        client.open(request(), Idle::default()).await?;
    }
    let tunnel = meter.added().await?;
    Ok(Sample { connection, tunnel })
}

async fn ip_run(plan: &Plan) -> Result<Sample> {
    let namespace = Namespace::new("memory")?;
    let endpoint = json!({
        "path": "ip", "type": "IpEndpoint", "anonymous": true, "ifprefix": "bench",
        "addresspools": ["10.76.0.1/16"], "routes": ["10.76.0.0/16"], "interface": "shared",
    });
    let address = SocketAddr::from(([127, 0, 0, 1], 4433));
    let program = beside("psq-server")?;
    pin(plan.cores.server)?;
    let server = Server::start_in(
        &namespace,
        &program,
        config(json!([endpoint])),
        ["-a", "127.0.0.1:4433"],
    )
    .await;
    pin(plan.cores.client)?;
    let mut server = server?;
    let (.., trust) = place(&server);
    let request = || Request::tunnel("connect-ip", "/ip/*/*/");
    let first = namespace.connect(address, &trust)?;
    first.open(request(), Idle::asking()).await?;
    let mut meter = Meter::start(&mut server).await?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(namespace.connect(address, &trust)?);
        // What the server says is read meanwhile.
        tokio::task::yield_now().await;
    }
    let connection = meter.added().await?;
    for client in &clients {
        client.open(request(), Idle::asking()).await?;
    }
    let tunnel = meter.added().await?;
    Ok(Sample { connection, tunnel })
}

/// A tunnel that nothing passes.
#[derive(Default)]
struct Idle {
    /// Whether to ask for an address.
    asks: bool,
}

impl Idle {
    fn asking() -> Self {
        Self { asks: true }
    }
}

impl Flow for Idle {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> pasque::Result<()> {
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<pasque::Result<()>> {
        if std::mem::take(&mut self.asks) {
            // Request ID 1, IPv4, any address, a whole one (RFC 9484 §4.7.2).
            cx.send_capsule(ADDRESS_REQUEST, &[1, 4, 0, 0, 0, 0, 32]);
        }
        Poll::Pending
    }
}
