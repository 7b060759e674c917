//! UDP through a tunnel: a `psq-server` as a process on one core, the client's end of the tunnel in this
//! process on the other, and the target, a thread of this process, on one of both.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use pasque::{Batch, Connection, Flow, FlowCx, Packet, Request};
use pasque_tests::{PATIENCE, Server, beside};
use serde_json::{Value, json};
use tokio::time::{Interval, interval};

use crate::machine::{Cpu, numbers, pin};
use crate::traffic::{Counts, STALL, Target, WINDOW, Window, number};
use crate::{Plan, Result, allocations};

/// What passes before a measurement begins: the path MTU and the congestion window are found.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// The line that a server writes when it closes its socket, and the filter that lets it through.
const SOCKET_CLOSED: &str = "socket closed";
const LOG: &str = "info,pasque_h3::socket=debug";

/// The thread of a client's connection.
const CLIENT_THREAD: &str = "connection";

/// Which way datagrams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the target and back.
    Echo,
    /// From the client to the target.
    Up,
    /// From the target to the client.
    Down,
}

/// What one run has measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Datagrams per second that arrived.
    pub(crate) rate: f64,
    /// Share of datagrams that did not arrive.
    pub(crate) lost: f64,
    /// What the server needed, in seconds, for the datagrams that arrived.
    pub(crate) cpu: Cpu,
    /// What the client's end needed.
    pub(crate) client_cpu: Cpu,
    /// The datagrams that arrived while that was measured.
    pub(crate) arrived: f64,
    /// Allocations of the client's worker for each datagram that it sent or received.
    pub(crate) allocations: f64,
    /// What the server's QUIC socket has moved in all.
    pub(crate) moved: Moved,
}

/// Packets, and the system calls that moved them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) sent: f64,
    pub(crate) sends: f64,
    pub(crate) received: f64,
    pub(crate) receives: f64,
}

impl Moved {
    /// Of a server that does not say, as one of another version.
    const UNKNOWN: Self = Self {
        sent: f64::NAN,
        sends: f64::NAN,
        received: f64::NAN,
        receives: f64::NAN,
    };

    /// From the `name=value` words of a line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let numbers = numbers(line);
        Some(Self {
            sent: *numbers.get("sent")?,
            sends: *numbers.get("sends")?,
            received: *numbers.get("received")?,
            receives: *numbers.get("receives")?,
        })
    }
}

/// A server with one worker that allows the targets of this process, and as many clients as come.
pub(crate) async fn serve(plan: &Plan, log: &str) -> Result<Server> {
    pin(plan.cores.server)?;
    let endpoint = json!({
        "path": "udp", "type": "UdpEndpoint", "anonymous": true, "allow": ["127.0.0.1"],
    });
    let program = beside("psq-server")?;
    let server = Server::start_logging(
        &program,
        log,
        config(json!([endpoint])),
        ["-a", "127.0.0.1:0"],
    );
    let server = server.await;
    pin(plan.cores.client)?;
    Ok(server?)
}

/// A configuration of one worker that takes as many clients as come from one address.
pub(crate) fn config(endpoints: Value) -> Value {
    json!({
        "threads": 1,
        "limits": { "connections": 5000, "connections_per_address": 5000 },
        "endpoints": endpoints,
    })
}

/// Opens a UDP tunnel to `target` whose client's end is `flow`.
pub(crate) async fn open(connection: &Connection, target: &Target, flow: impl Flow) -> Result<()> {
    let path = format!("/udp/127.0.0.1/{}/", target.address.port());
    let request = Request::tunnel("connect-udp", path);
    connection.open(request, flow).await?;
    Ok(())
}

/// One run.
pub(crate) fn measure(plan: &Plan, direction: Direction, len: usize) -> Result<Sample> {
    // One thread, so that all that is started from here on is where this thread is.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut server = serve(plan, LOG).await?;
        let counts = Arc::<Counts>::default();
        // One way, the target is with the end of the tunnel that has less to do: to open a packet costs less
        // than to seal it.
        let (here, there) = (plan.cores.client, plan.cores.server);
        let target = match direction {
            Direction::Echo => Target::batching_echo(here)?,
            Direction::Up => Target::sink(there, counts.clone())?,
            Direction::Down => Target::source(here, len, counts.clone())?,
        };
        let connection = server.connect().await?;
        open(
            &connection,
            &target,
            Load::new(direction, len, counts.clone()),
        )
        .await?;
        let deadline = Instant::now() + PATIENCE;
        while counts.read().arrived == 0 {
            if Instant::now() > deadline {
                return Err("no datagram has come through the tunnel".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(WARM_UP).await;
        let id = server.process().id().ok_or("the server has ended")?;
        let (start, before) = (Instant::now(), counts.read());
        let cpus = [Cpu::of(id)?, Cpu::of_threads(CLIENT_THREAD)?];
        tokio::time::sleep(plan.time).await;
        let (time, after) = (start.elapsed(), counts.read());
        let [cpu, client_cpu] = cpus;
        let cpu = Cpu::of(id)?.since(cpu);
        let client_cpu = Cpu::of_threads(CLIENT_THREAD)?.since(client_cpu);
        connection.close();
        connection.closed().await;
        server.process().terminate().await?;
        let output = server.process().output();
        let line = output.lines().rfind(|line| line.contains(SOCKET_CLOSED));
        let moved = line.and_then(Moved::parse);

        let (sent, arrived) = (after.sent - before.sent, after.arrived - before.arrived);
        if arrived == 0 {
            return Err(format!("of {sent} datagrams none arrived").into());
        }
        let handled = if direction == Direction::Up {
            sent
        } else {
            arrived
        };
        Ok(Sample {
            rate: arrived as f64 / time.as_secs_f64(),
            lost: sent.saturating_sub(arrived) as f64 / sent.max(1) as f64,
            cpu,
            client_cpu,
            arrived: arrived as f64,
            allocations: (after.allocations - before.allocations) as f64 / handled as f64,
            moved: moved.unwrap_or(Moved::UNKNOWN),
        })
    })
}

/// The client's end of the tunnel, inside the connection's worker.
pub(crate) struct Load {
    direction: Direction,
    len: usize,
    window: Window,
    counts: Arc<Counts>,
    /// Made where it is polled: a timer belongs to a runtime.
    tick: Option<Interval>,
    answered_at_tick: u64,
}

impl Load {
    pub(crate) fn new(direction: Direction, len: usize, counts: Arc<Counts>) -> Self {
        let size = match direction {
            Direction::Echo => WINDOW,
            // As much as there is room for.
            Direction::Up => u64::MAX,
            // One asks the source to begin; another, in case that is lost.
            Direction::Down => 1,
        };
        Self {
            direction,
            len,
            window: Window::new(size),
            counts,
            tick: None,
            answered_at_tick: 0,
        }
    }

    fn fill(&mut self, cx: &mut FlowCx<'_>) {
        let mut sent = 0;
        // Until the path MTU is found, the longer ones do not fit.
        let fits = cx.max_len() > self.len;
        while fits && self.window.is_open() && cx.room() > 0 {
            let mut packet = Packet::with_len(self.len);
            self.window.stamp(&mut packet);
            // Context ID 0: a UDP payload (RFC 9298 §5).
            packet.prepend(&[0]);
            cx.send(packet);
            sent += 1;
        }
        if self.direction != Direction::Down {
            self.counts.sent.fetch_add(sent, Ordering::Relaxed);
        }
        let allocations = allocations::of_this_thread();
        self.counts
            .allocations
            .store(allocations, Ordering::Relaxed);
    }
}

impl Flow for Load {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> pasque::Result<()> {
        let arrived = inbound.len() as u64;
        for mut packet in inbound.drain() {
            packet.advance(1);
            match self.direction {
                Direction::Down => {
                    let settled = number(&packet).map_or(0, |number| number.saturating_add(1));
                    self.counts.settled.fetch_max(settled, Ordering::Relaxed);
                }
                Direction::Echo | Direction::Up => self.window.answer(&packet),
            }
        }
        self.counts.arrived.fetch_add(arrived, Ordering::Relaxed);
        self.fill(cx);
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<pasque::Result<()>> {
        let has_begun = self.counts.arrived.load(Ordering::Relaxed) > 0;
        // A timer that ticks for nothing would wake the worker.
        let needs_tick = match self.direction {
            Direction::Echo => true,
            Direction::Up => false,
            Direction::Down => !has_begun,
        };
        if needs_tick {
            let tick = self.tick.get_or_insert_with(|| interval(STALL));
            while tick.poll_tick(&mut cx.task()).is_ready() {
                if self.window.answered() == self.answered_at_tick {
                    self.window.reset();
                }
                self.answered_at_tick = self.window.answered();
            }
        }
        self.fill(cx);
        Poll::Pending
    }
}
