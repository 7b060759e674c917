//! `make bench`: what a UDP tunnel costs, as echo throughput beside that of plain UDP.
//!
//! ```text
//! plain    client                      →             echo
//!          core B                                    core A
//!
//! tunnel   client → psq-server → echo, and back the same way
//!          core B   core A       core B
//! ```
//!
//! Both in the same run, one after the other, with the same number of datagrams under way. A number
//! of one machine says little about another; the ratio travels better.
//!
//! Usage: `bench [SECONDS]`, the length of each measurement.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pasque::{Batch, Flow, FlowCx, Packet, Request};
use pasque_tests::{Server, beside};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::json;
use tokio::time::{Interval, interval};

/// Bytes of UDP payload.
const SIZES: [usize; 2] = [64, 1200];
/// Datagrams under way: enough to hide the round trip, few enough for a socket's buffer.
const WINDOW: u64 = 256;
/// The receive buffer of a socket, in bytes: the kernel counts more than 2 KiB for a datagram.
const BUFFER_LEN: usize = 1 << 20;
/// Runs of each measurement; the median counts.
const RUNS: usize = 3;
/// What passes before a measurement begins: the path MTU and the congestion window are found.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long nothing comes back before all that is under way counts as lost.
const STALL: Duration = Duration::from_millis(50);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |text| text.parse());
    let time = Duration::from_secs(seconds.map_err(|_| "usage: bench [SECONDS]")?);
    let cores = Cores::choose()?;
    println!("echo throughput, median of {RUNS} runs of {time:?}, {WINDOW} datagrams under way");
    println!("{cores}\n");
    println!("bytes  path      kpps  Gbit/s   lost  runs (kpps)");
    for len in SIZES {
        let mut medians = [0.0; 2];
        let plain = || plain(len, time, cores);
        let tunnel = || tunnel(len, time, cores);
        let paths: [(&str, &dyn Fn() -> Result<Sample>); 2] =
            [("plain", &plain), ("tunnel", &tunnel)];
        for (median, (name, measure)) in medians.iter_mut().zip(paths) {
            let mut samples = (0..RUNS).map(|_| measure()).collect::<Result<Vec<_>>>()?;
            samples.sort_by(|a, b| a.rate.total_cmp(&b.rate));
            let Sample { rate, lost } = samples[RUNS / 2];
            let gigabits = rate * len as f64 * 8.0 / 1e9;
            let runs: Vec<_> = samples
                .iter()
                .map(|s| format!("{:.0}", s.rate / 1e3))
                .collect();
            let (kpps, lost, runs) = (rate / 1e3, lost * 100.0, runs.join(" "));
            println!("{len:5}  {name:6} {kpps:7.1} {gigabits:7.3} {lost:5.1}%  {runs}");
            *median = rate;
        }
        let [plain, tunnel] = medians;
        println!("{len:5}  tunnel/plain {:.2}", tunnel / plain);
    }
    Ok(())
}

/// What one run has measured.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Round trips per second.
    rate: f64,
    /// Share of datagrams that did not come back.
    lost: f64,
}

/// Which processor does what.
#[derive(Clone, Copy, Debug)]
struct Cores {
    /// The server, or the plain echo.
    server: usize,
    /// The client, and the tunnel's target.
    client: usize,
}

impl Cores {
    fn choose() -> io::Result<Self> {
        let usable = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&core| usable.is_set(core));
        let server = numbers.next().unwrap_or(0);
        Ok(Self {
            server,
            client: numbers.next().unwrap_or(server),
        })
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.server == self.client {
            true => f.write_str("one core for everything: there is no other"),
            false => write!(
                f,
                "the server on core {}, client and target on core {}",
                self.server, self.client
            ),
        }
    }
}

/// Keeps the calling thread, and whatever it starts from now on, on one core.
fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// A socket on loopback whose buffer holds all that is under way.
fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(STALL))?;
    // The kernel gives what its `net.core.rmem_max` allows; the rest shows as loss.
    set_socket_recv_buffer_size(&socket, BUFFER_LEN)?;
    Ok(socket)
}

/// Datagrams by number. An answer means that all before it have come back, or never will.
#[derive(Debug, Default)]
struct Window {
    next: u64,
    answered: u64,
}

impl Window {
    fn is_open(&self) -> bool {
        self.next - self.answered < WINDOW
    }

    /// Numbers the next datagram.
    fn stamp(&mut self, payload: &mut [u8]) {
        payload[..8].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
    }

    fn answer(&mut self, payload: &[u8]) {
        if let Some(number) = payload.first_chunk() {
            self.answered = self
                .answered
                .max(u64::from_be_bytes(*number).saturating_add(1))
                .min(self.next);
        }
    }

    /// Gives up all that is under way.
    fn reset(&mut self) {
        self.answered = self.next;
    }
}

/// What a load has done so far, seen from outside.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    returned: AtomicU64,
}

impl Counts {
    fn read(&self) -> (u64, u64) {
        (
            self.sent.load(Ordering::Relaxed),
            self.returned.load(Ordering::Relaxed),
        )
    }

    /// The rate between two readings.
    fn sample(before: (u64, u64), after: (u64, u64), time: Duration) -> Result<Sample> {
        let (sent, returned) = (after.0 - before.0, after.1 - before.1);
        if returned == 0 {
            return Err(format!("of {sent} datagrams none came back").into());
        }
        let lost = sent.saturating_sub(returned) as f64 / sent.max(1) as f64;
        Ok(Sample {
            rate: returned as f64 / time.as_secs_f64(),
            lost,
        })
    }
}

/// Client and echo without anything between them.
fn plain(len: usize, time: Duration, cores: Cores) -> Result<Sample> {
    let echo = Echo::start(cores.server)?;
    pin(cores.client)?;
    let socket = socket()?;
    socket.connect(echo.address)?;
    let mut window = Window::default();
    let counts = Counts::default();
    let mut payload = vec![0; len];
    let start = Instant::now();
    let mut before = None;
    loop {
        while window.is_open() {
            window.stamp(&mut payload);
            // A full buffer loses it, as the network would.
            let _ = socket.send(&payload);
            counts.sent.fetch_add(1, Ordering::Relaxed);
        }
        match socket.recv(&mut payload) {
            Ok(_) => {
                window.answer(&payload);
                counts.returned.fetch_add(1, Ordering::Relaxed);
            }
            Err(_stalled) => window.reset(),
        }
        let elapsed = start.elapsed();
        match before {
            None if elapsed >= WARM_UP => before = Some((elapsed, counts.read())),
            Some((began, before)) if elapsed - began >= time => {
                return Counts::sample(before, counts.read(), elapsed - began);
            }
            _ => {}
        }
    }
}

/// The same through a server.
fn tunnel(len: usize, time: Duration, cores: Cores) -> Result<Sample> {
    // One thread, so that all that is started from here on is where this thread is.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        pin(cores.server)?;
        let server = Server::start_with(
            &beside("psq-server")?,
            json!({
                "threads": 1,
                "endpoints": [{ "path": "udp", "type": "UdpEndpoint", "allow": ["127.0.0.1"] }],
            }),
            ["-a", "127.0.0.1:0"],
        )
        .await?;
        pin(cores.client)?;
        let echo = Echo::start(cores.client)?;
        let connection = server.connect().await?;
        let counts = Arc::<Counts>::default();
        let load = Load::new(len, counts.clone());
        let path = format!("/udp/127.0.0.1/{}/", echo.address.port());
        connection
            .open(Request::tunnel("connect-udp", path), load)
            .await?;
        tokio::time::sleep(WARM_UP).await;
        let (start, before) = (Instant::now(), counts.read());
        tokio::time::sleep(time).await;
        let sample = Counts::sample(before, counts.read(), start.elapsed());
        connection.close();
        connection.closed().await;
        sample
    })
}

/// The client's end of the tunnel: keeps the window full from inside the connection's worker.
struct Load {
    len: usize,
    window: Window,
    counts: Arc<Counts>,
    /// Made where it is polled: a timer belongs to a runtime.
    tick: Option<Interval>,
    answered_at_tick: u64,
}

impl Load {
    fn new(len: usize, counts: Arc<Counts>) -> Self {
        Self {
            len,
            window: Window::default(),
            counts,
            tick: None,
            answered_at_tick: 0,
        }
    }

    fn fill(&mut self, cx: &mut FlowCx<'_>) {
        let mut sent = 0;
        // Until the path MTU is found, the longer ones do not fit.
        while self.window.is_open() && cx.room() > 0 && cx.max_len() > self.len {
            let mut packet = Packet::with_len(self.len);
            self.window.stamp(&mut packet);
            // Context ID 0: a UDP payload (RFC 9298 §5).
            packet.prepend(&[0]);
            cx.send(packet);
            sent += 1;
        }
        self.counts.sent.fetch_add(sent, Ordering::Relaxed);
    }
}

impl Flow for Load {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> pasque::Result<()> {
        self.counts
            .returned
            .fetch_add(inbound.len() as u64, Ordering::Relaxed);
        for mut packet in inbound.drain() {
            packet.advance(1);
            self.window.answer(&packet);
        }
        self.fill(cx);
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<pasque::Result<()>> {
        let tick = self.tick.get_or_insert_with(|| interval(STALL));
        while tick.poll_tick(&mut cx.task()).is_ready() {
            if self.window.answered == self.answered_at_tick {
                self.window.reset();
            }
            self.answered_at_tick = self.window.answered;
        }
        self.fill(cx);
        Poll::Pending
    }
}

/// A plain UDP echo on a thread of its own. Ends when dropped.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(core: usize) -> io::Result<Self> {
        let socket = socket()?;
        let address = socket.local_addr()?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            if let Err(error) = pin(core) {
                eprintln!("bench: the echo runs on any core: {error}");
            }
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], from);
                }
            }
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics nowhere.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_settles_everything_before_it() {
        let mut window = Window::default();
        let mut datagrams = vec![[0; 64]; WINDOW as usize];
        for datagram in &mut datagrams {
            assert!(window.is_open());
            window.stamp(datagram);
        }
        assert!(!window.is_open());
        // The first nine are lost.
        window.answer(&datagrams[9]);
        window.answer(&datagrams[3]);
        assert_eq!(window.next - window.answered, WINDOW - 10);
        // One of an earlier window, or not one of ours.
        window.answer(&u64::MAX.to_be_bytes());
        window.answer(b"short");
        assert_eq!(window.answered, window.next);
    }
}
