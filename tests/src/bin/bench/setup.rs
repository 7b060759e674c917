//! A thousand clients with one UDP tunnel each: how fast they come in, and what they get when the
//! target sends them as much as the server carries, and twice as much.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use pasque::{Batch, Connection, Flow, FlowCx, Packet, Request};
use pasque_h3::{ClientConfig, Trust};
use pasque_tests::{PATIENCE, Server};
use tokio::task::JoinSet;
use tokio::time::{Interval, interval};

use crate::load::serve;
use crate::machine::pin;
use crate::report::{Report, percentile};
use crate::traffic::{Counts, Sender, socket};
use crate::{Plan, Result};

pub(crate) const CLIENTS: usize = 1000;

/// Clients that come in at the same time.
pub(crate) const AT_A_TIME: usize = 64;

/// Clients that come in one after the other, for comparison.
const ALONE: usize = 50;

/// Bytes of UDP payload: what fits while the path is not known to carry more than every path does.
/// An overload makes QUIC doubt that it does, and longer datagrams would show that instead.
const LEN: usize = 1100;

/// Datagrams for one client at a time.
const BURST: usize = 8;

/// The first load that is tried, in datagrams per second, and how long each is.
const FIRST_RATE: f64 = 5_000.0;
const STEP: Duration = Duration::from_secs(1);

/// What part has to arrive for a load to be carried, and to be sent for it to be offered.
const CARRIED: f64 = 0.95;

/// How much more has to arrive for the next load, twice as high, to be tried.
const GROWN: f64 = 1.05;

/// Threads that do nothing but compute on the server's core while loads are tried: with an eighth of a core
/// the server carries so little that clients and target, who share the other one, can do twice as much.
const COMPETITORS: usize = 7;

/// How long a client waits for a busy server: to be shown as a long time, not as a failure.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// How often a client asks the target to begin.
const ASK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Sample {
    /// Tunnels set up per second.
    rate: f64,
    alone_rate: f64,
    /// How long each took, in milliseconds.
    times: Vec<f64>,
    alone_times: Vec<f64>,
    /// Datagrams per second that arrived.
    peak: f64,
    overload: f64,
    offered: f64,
}

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let samples: Vec<Sample> = (0..plan.runs)
        .map(|_| runtime.block_on(run(plan)))
        .collect::<Result<_>>()?;
    let mut report = Report::default();
    report.row(
        format!("tunnels set up, {AT_A_TIME} at a time"),
        "per second",
        samples.iter().map(|sample| sample.rate),
    );
    report.beside(
        "one at a time",
        samples.iter().map(|sample| sample.alone_rate),
    );
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let of = |times: &[f64]| percentile(times, share).unwrap_or(f64::NAN);
        report.row(
            format!("connection and tunnel, {name}"),
            "ms",
            samples.iter().map(|sample| of(&sample.times)),
        );
        report.beside(
            "one at a time",
            samples.iter().map(|sample| of(&sample.alone_times)),
        );
    }
    let gigabits = |rate: f64| rate * LEN as f64 * 8.0 / 1e9;
    let what = format!("goodput of {CLIENTS} tunnels at twice the peak");
    report.row(what, "Gbit/s", samples.iter().map(|s| gigabits(s.overload)));
    report.beside("at the peak", samples.iter().map(|s| gigabits(s.peak)));
    let what = "load offered meanwhile";
    report.row(what, "Gbit/s", samples.iter().map(|s| gigabits(s.offered)));
    report.beside(
        "goodput at the peak",
        samples.iter().map(|s| gigabits(s.peak)),
    );
    report.note(format!(
        "while loads were tried the server shared its core with {COMPETITORS} threads that only compute"
    ));
    Ok(report)
}

/// Does the same `count` times, `at_a_time` at once.
pub(crate) async fn in_parallel<T, F>(
    count: usize,
    at_a_time: usize,
    mut start: impl FnMut() -> F,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    let mut done = Vec::with_capacity(count);
    for _ in 0..count {
        if under_way.len() >= at_a_time
            && let Some(one) = under_way.join_next().await
        {
            done.push(one??);
        }
        under_way.spawn(start());
    }
    while let Some(one) = under_way.join_next().await {
        done.push(one??);
    }
    Ok(done)
}

/// Where a server is, and whom to trust there.
pub(crate) fn place(server: &Server) -> (String, u16, ClientConfig) {
    let mut config = ClientConfig::default();
    config.trust = Trust::CaFile(server.certificate());
    config.connect_timeout = CLIENT_PATIENCE;
    config.response_timeout = CLIENT_PATIENCE;
    (
        server.address().ip().to_string(),
        server.address().port(),
        config,
    )
}

/// A client, and how long it took to come in, in milliseconds.
type Client = (Connection, f64);

/// Lets clients come in. Returns how many that were per second.
async fn come_in(
    server: &Server,
    count: usize,
    at_a_time: usize,
    target: SocketAddr,
    counts: &Arc<Counts>,
) -> Result<(f64, Vec<Client>)> {
    let path = format!("/udp/127.0.0.1/{}/", target.port());
    let (host, port, config) = place(server);
    let start = Instant::now();
    let clients = in_parallel(count, at_a_time, || {
        let (host, config, path) = (host.clone(), config.clone(), path.clone());
        let receiver = Receiver::new(counts.clone());
        async move {
            let start = Instant::now();
            let connection = pasque_h3::connect(&host, port, &config).await?;
            connection
                .open(Request::tunnel("connect-udp", path), receiver)
                .await?;
            Ok((connection, start.elapsed().as_secs_f64() * 1e3))
        }
    })
    .await?;
    Ok((count as f64 / start.elapsed().as_secs_f64(), clients))
}

async fn run(plan: &Plan) -> Result<Sample> {
    let server = serve(plan, "warn,pasque_h3=info,psq_server=info").await?;
    let target = socket()?;
    let address = target.local_addr()?;
    let counts = Arc::<Counts>::default();
    let (alone_rate, alone) = come_in(&server, ALONE, 1, address, &counts).await?;
    let times = |clients: &[Client]| clients.iter().map(|(_, time)| *time).collect();
    let alone_times = times(&alone);
    drop(alone);
    let (rate, clients) = come_in(&server, CLIENTS, AT_A_TIME, address, &counts).await?;
    // From here on nothing needs this runtime: every client has a thread of its own.
    let mut source = Source {
        tunnels: find_tunnels(&target)?,
        socket: target,
        next: 0,
        counts,
    };
    let _competition = Competition::on(plan.cores.server, COMPETITORS);
    source.settle()?;
    let peak_rate = source.find_peak()?;
    // Too much was sent last: what that has done is to be over.
    source.settle()?;
    let (_, arrived) = source.offer(peak_rate, plan.time)?;
    let peak = arrived.max(peak_rate);
    source.settle()?;
    let (offered, overload) = source.offer(2.0 * peak_rate, plan.time)?;
    Ok(Sample {
        rate,
        alone_rate,
        times: times(&clients),
        alone_times,
        peak,
        overload,
        offered,
    })
}

/// The server's end of every tunnel, as the target sees it: each client asks for datagrams until it
/// gets one. Those of clients that have left may be among them.
fn find_tunnels(target: &UdpSocket) -> Result<Vec<SocketAddr>> {
    let mut tunnels = std::collections::BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while tunnels.len() < CLIENTS && Instant::now() < deadline {
        if let Ok((_, from)) = target.recv_from(&mut [0; 64]) {
            tunnels.insert(from);
        }
    }
    match tunnels.len() {
        CLIENTS.. => Ok(tunnels.into_iter().collect()),
        count => Err(format!("only {count} of {CLIENTS} clients ask for datagrams").into()),
    }
}

/// The target, which sends to all tunnels in turn.
struct Source {
    socket: UdpSocket,
    tunnels: Vec<SocketAddr>,
    next: usize,
    counts: Arc<Counts>,
}

impl Source {
    /// Waits until the clients get what little is sent: the path carries long datagrams only when
    /// QUIC has found out that it does.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let (sent, arrived) = self.offer(FIRST_RATE, STEP)?;
            // More than was sent is what had waited in sockets since the last load.
            if (CARRIED..=1.0 / CARRIED).contains(&(arrived / sent)) {
                return Ok(());
            }
        }
        Err(format!("{FIRST_RATE} datagrams per second do not arrive").into())
    }

    /// The most datagrams per second that arrive, whatever is sent.
    fn find_peak(&mut self) -> Result<f64> {
        let (mut rate, mut peak) = (FIRST_RATE, 0.0_f64);
        loop {
            let (sent, arrived) = self.offer(rate, STEP)?;
            let has_grown = arrived > GROWN * peak;
            peak = peak.max(arrived);
            // Where this end cannot send more, more will not arrive.
            if !has_grown || sent < CARRIED * rate {
                return Ok(peak);
            }
            rate *= 2.0;
        }
    }

    /// Sends so many datagrams per second, or as many as it can. Returns how many were sent, and
    /// how many arrived, per second.
    fn offer(&mut self, rate: f64, time: Duration) -> Result<(f64, f64)> {
        let sender = Sender::new(&self.socket)?;
        let (start, before) = (Instant::now(), self.counts.read().arrived);
        let mut sent = 0;
        while start.elapsed() < time {
            let due = (rate * start.elapsed().as_secs_f64()) as u64;
            if sent >= due {
                thread::sleep(Duration::from_micros(100));
                continue;
            }
            let to = self.tunnels[self.next % self.tunnels.len()];
            self.next += 1;
            sent += sender.burst(to, LEN, BURST, |_| {}).max(1);
        }
        let (seconds, after) = (start.elapsed().as_secs_f64(), self.counts.read().arrived);
        // What is still under way is not to count for the next load.
        thread::sleep(STEP / 4);
        Ok((sent as f64 / seconds, (after - before) as f64 / seconds))
    }
}

/// Threads that compute. They end when this is dropped.
struct Competition(Arc<AtomicBool>);

impl Competition {
    fn on(core: usize, threads: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        for _ in 0..threads {
            let stop = stop.clone();
            thread::spawn(move || {
                if let Err(error) = pin(core) {
                    eprintln!("bench: a competitor runs on any core: {error}");
                }
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Competition {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client's end, which counts.
struct Receiver {
    counts: Arc<Counts>,
    has_begun: bool,
    again: Option<Interval>,
}

impl Receiver {
    fn new(counts: Arc<Counts>) -> Self {
        Self {
            counts,
            has_begun: false,
            again: None,
        }
    }
}

impl Flow for Receiver {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> pasque::Result<()> {
        let count = inbound.len() as u64;
        self.has_begun |= count > 0;
        self.counts.arrived.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<pasque::Result<()>> {
        if !self.has_begun {
            let again = self.again.get_or_insert_with(|| interval(ASK_AGAIN));
            while again.poll_tick(&mut cx.task()).is_ready() {
                // Context ID 0, and a payload that nobody reads.
                cx.send(Packet::copy_from(&[0; 9]));
            }
        }
        Poll::Pending
    }
}
