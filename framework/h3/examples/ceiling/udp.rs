//! Two processes, one connection over UDP, run to completion: read all there is, take the
//! datagrams, fill the queue, send, and sleep only when nothing was done.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pasque_h3::testing::transport_settings;
use quiche::{ConnectionId, RecvInfo};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::forward::Target;
use crate::{Buffers, CID_LEN, MAX_UDP_PAYLOAD, Quic, Result, WATERMARK, datagram};

/// Reads per turn, kernel buffers and the most of one send, as in the engine.
const READS_PER_TURN: usize = 2;
const KERNEL_BUFFER: usize = 4 << 20;
const SEND_LEN: usize = 65_000;
const RECV_LEN: usize = 64 << 10;

/// What passes before a measurement begins.
const WARM_UP: Duration = Duration::from_secs(1);

/// Datagrams under way where each comes back, and how long none comes before all count as lost.
const WINDOW: u64 = 256;
const STALL: Duration = Duration::from_millis(50);

/// How long either end waits for the other to be there.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Sink,
    Source,
    /// Passes on what comes to somebody, and back what they say.
    Forward(SocketAddr),
    /// Sends what is to come back.
    Ask,
}

/// What one end is to do.
#[derive(Clone, Copy, Debug)]
struct Task {
    role: Role,
    len: usize,
    time: Duration,
}

impl Task {
    fn parse(role: &str, len: &str, seconds: &str) -> Result<Self> {
        Ok(Self {
            role: match role {
                "sink" => Role::Sink,
                "source" => Role::Source,
                "ask" => Role::Ask,
                target => Role::Forward(target.parse()?),
            },
            len: len.parse()?,
            time: Duration::from_secs(seconds.parse()?),
        })
    }
}

/// Waits for a client and runs until it leaves.
pub(crate) fn serve(role: &str, len: &str, seconds: &str) -> Result<()> {
    let task = Task::parse(role, len, seconds)?;
    let mut link = Link::bind()?;
    println!("listening on {}", link.local);
    let (mut settings, _) = transport_settings();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut accepted = None;
        link.receive(|packet, info| {
            let quic = match &mut accepted {
                Some(quic) => quic,
                None => {
                    let cid = ConnectionId::from_ref(&[2; CID_LEN]);
                    let (to, from) = (info.to, info.from);
                    let made = quiche::accept_with_buf_factory::<Buffers>(
                        &cid,
                        None,
                        to,
                        from,
                        &mut settings,
                    );
                    match made {
                        Ok(quic) => accepted.insert(quic),
                        Err(_) => return,
                    }
                }
            };
            // What is no QUIC is not answered, and the connection knows it best.
            let _ = quic.recv(packet, info);
        })?;
        if let Some(quic) = accepted {
            return link.run(quic, task, false);
        }
        if Instant::now() > deadline {
            return Err("nobody has come".into());
        }
        link.wait(Some(Duration::from_millis(100)), false, None)?;
    }
}

/// Connects, runs and leaves.
pub(crate) fn dial(address: &str, role: &str, len: &str, seconds: &str) -> Result<()> {
    let task = Task::parse(role, len, seconds)?;
    let peer: SocketAddr = address.parse()?;
    let link = Link::bind()?;
    let (_, mut settings) = transport_settings();
    let cid = ConnectionId::from_ref(&[1; CID_LEN]);
    let quic = quiche::connect_with_buffer_factory::<Buffers>(
        Some("localhost"),
        &cid,
        link.local,
        peer,
        &mut settings,
    )?;
    link.run(quic, task, true)
}

/// Packets and the calls that moved them.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    datagrams: u64,
    sent: u64,
    sends: u64,
    received: u64,
    receives: u64,
}

/// A socket with segmentation and receive offload.
struct Link {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    buffers: Vec<Vec<u8>>,
    out: Vec<u8>,
    counts: Counts,
    /// A send that the kernel had no room for: its length, and that of a segment.
    blocked: Option<(usize, usize)>,
}

impl Link {
    fn bind() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The system's limit decides how much it is.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), KERNEL_BUFFER);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), KERNEL_BUFFER);
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            state,
            buffers: vec![vec![0; RECV_LEN]; BATCH_SIZE],
            out: vec![0; SEND_LEN + MAX_UDP_PAYLOAD],
            counts: Counts::default(),
            blocked: None,
        })
    }

    /// Hands every packet that has come to `each`. Returns whether there was one.
    fn receive(&mut self, mut each: impl FnMut(&mut [u8], RecvInfo)) -> Result<bool> {
        let mut any = false;
        for _ in 0..READS_PER_TURN {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let read = read(&self.socket, &self.state, &mut self.buffers, &mut metas)?;
            let Some(count) = read else {
                break;
            };
            any = true;
            self.counts.receives += 1;
            for (meta, buffer) in metas.iter().zip(&mut self.buffers).take(count) {
                let info = RecvInfo {
                    from: meta.addr,
                    to: self.local,
                };
                for packet in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                    self.counts.received += 1;
                    each(packet, info);
                }
            }
        }
        Ok(any)
    }

    /// Sends what `quic` has, in runs of equal packets. Returns whether there was any.
    fn send(&mut self, quic: &mut Quic) -> Result<bool> {
        let Some(peer) = quic.path_stats().next().map(|path| path.peer_addr) else {
            return Ok(false);
        };
        if let Some((len, segment)) = self.blocked.take() {
            self.transmit(len, segment, peer)?;
        }
        let mut any = false;
        let (mut filled, mut segment, mut count) = (0, 0, 0);
        while self.blocked.is_none() {
            let len = match quic.send(&mut self.out[filled..]) {
                Ok((len, _)) => len,
                Err(quiche::Error::Done) => break,
                Err(error) => return Err(error.into()),
            };
            any = true;
            if count > 0 && len > segment {
                self.transmit(filled, segment, peer)?;
                self.out.copy_within(filled..filled + len, 0);
                (filled, count) = (0, 0);
            }
            if count == 0 {
                segment = len;
            }
            filled += len;
            count += 1;
            self.counts.sent += 1;
            let is_full = count >= self.state.max_gso_segments() || filled > SEND_LEN - segment;
            if len < segment || is_full {
                self.transmit(filled, segment, peer)?;
                (filled, count) = (0, 0);
            }
        }
        if count > 0 {
            self.transmit(filled, segment, peer)?;
        }
        Ok(any)
    }

    fn transmit(&mut self, len: usize, segment: usize, peer: SocketAddr) -> Result<()> {
        let transmit = Transmit {
            destination: peer,
            ecn: None,
            contents: &self.out[..len],
            segment_size: (len > segment).then_some(segment),
            src_ip: None,
        };
        self.counts.sends += 1;
        match self
            .state
            .try_send(UdpSockRef::from(&self.socket), &transmit)
        {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = Some((len, segment));
                Ok(())
            }
            // Anything else is loss.
            _ => Ok(()),
        }
    }

    /// Waits for packets, or for what comes from `other`.
    fn wait(
        &self,
        time: Option<Duration>,
        for_room: bool,
        other: Option<&UdpSocket>,
    ) -> Result<()> {
        let mut flags = PollFlags::IN;
        if for_room {
            flags |= PollFlags::OUT;
        }
        let time = time.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::new(&self.socket, flags)];
        fds.extend(other.map(|socket| PollFd::new(socket, PollFlags::IN)));
        poll(&mut fds, time.as_ref())?;
        Ok(())
    }

    /// Runs the connection and prints what happened between the end of the warm-up and `task.time`
    /// later. The one that dialled leaves then.
    fn run(mut self, mut quic: Quic, task: Task, leaves: bool) -> Result<()> {
        let started = Instant::now();
        let mut began = None;
        let mut before = None;
        let mut figures = None;
        let mut window = Window::new(started);
        let mut target = match task.role {
            Role::Forward(address) => Some(Target::connect(address)?),
            _ => None,
        };
        while !quic.is_closed() {
            let mut is_busy = self.receive(|packet, info| {
                // An error is the connection's own business: it closes itself.
                let _ = quic.recv(packet, info);
            })?;
            let before_turn = self.counts.datagrams;
            while let Ok(packet) = quic.dgram_recv_buf() {
                // One byte asks for the acknowledgements of the path's probes.
                if packet.len() <= task.len {
                    continue;
                }
                self.counts.datagrams += 1;
                if let Some(target) = &mut target {
                    target.push(&packet);
                }
            }
            if let Some(target) = &mut target {
                target.flush();
                is_busy |= target.read(&mut quic)?;
            }
            if quic.is_established() {
                let now = Instant::now();
                began.get_or_insert(now);
                window.note(self.counts.datagrams - before_turn, now);
                fill(&mut quic, task, &mut window);
            }
            is_busy |= self.send(&mut quic)?;
            let age = began.map_or(Duration::ZERO, |began| began.elapsed());
            if age >= WARM_UP && before.is_none() {
                before = Some((Instant::now(), self.counts, cpu()?));
            }
            if let Some((since, counts, cpu_before)) = before
                && age >= WARM_UP + task.time
                && figures.is_none()
            {
                figures = Some(report(
                    since.elapsed(),
                    counts,
                    self.counts,
                    cpu_before,
                    cpu()?,
                ));
            }
            // The other end began a little later, and is to see the load until its own end.
            if leaves && age >= WARM_UP + task.time + WARM_UP {
                let _ = quic.close(true, 0, b"done");
            }
            if began.is_none() && started.elapsed() > PATIENCE {
                return Err("no connection in time".into());
            }
            let timeout = quic.timeout();
            if timeout == Some(Duration::ZERO) {
                quic.on_timeout();
            } else if !is_busy || self.blocked.is_some() {
                let blocked = self.blocked.is_some();
                let longest = Duration::from_millis(100);
                self.wait(
                    Some(timeout.map_or(longest, |time| time.min(longest))),
                    blocked,
                    target.as_ref().map(|target| &target.socket),
                )?;
            }
        }
        println!("{}", figures.ok_or("the connection ended too early")?);
        Ok(())
    }
}

/// Reads once, and says how many messages that has brought; `None` when there was nothing.
pub(crate) fn read(
    socket: &UdpSocket,
    state: &UdpSocketState,
    buffers: &mut [Vec<u8>],
    metas: &mut [RecvMeta; BATCH_SIZE],
) -> Result<Option<usize>> {
    let mut buffers = buffers.iter_mut();
    let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
        IoSliceMut::new(buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..]))
    });
    match state.recv(UdpSockRef::from(socket), &mut slices, metas) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is under way where each datagram comes back.
#[derive(Debug)]
struct Window {
    under_way: u64,
    heard: Instant,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            under_way: 0,
            heard: now,
        }
    }

    /// Takes note of so many that have come back.
    fn note(&mut self, count: u64, now: Instant) {
        self.under_way = self.under_way.saturating_sub(count);
        if count > 0 {
            self.heard = now;
        } else if now - self.heard >= STALL {
            (self.under_way, self.heard) = (0, now);
        }
    }
}

/// Puts datagrams into the queue, as a flow does.
fn fill(quic: &mut Quic, task: Task, window: &mut Window) {
    if matches!(task.role, Role::Sink | Role::Forward(_)) {
        return;
    }
    // While quiche probes the path, this is the length of its probe.
    let is_found = quic.pmtu().is_some();
    let fits = quic
        .dgram_max_writable_len()
        .is_some_and(|len| len > task.len + 1);
    let len = if is_found && fits { task.len } else { 1 };
    let room = match (len, task.role) {
        (1, _) => 1,
        // As many as may be under way.
        (_, Role::Ask) => usize::MAX,
        _ => WATERMARK,
    };
    while quic.dgram_send_queue_len() < room {
        let is_counted = len > 1 && task.role == Role::Ask;
        if is_counted && window.under_way >= WINDOW || quic.dgram_send_buf(datagram(len)).is_err() {
            return;
        }
        window.under_way += u64::from(is_counted);
    }
}

fn report(
    time: Duration,
    before: Counts,
    after: Counts,
    cpu_before: [f64; 2],
    cpu_after: [f64; 2],
) -> String {
    let [user, system] = [0, 1].map(|n| cpu_after[n] - cpu_before[n]);
    format!(
        "datagrams={} seconds={:.6} user={user:.2} system={system:.2} \
         sent={} sends={} received={} receives={}",
        after.datagrams - before.datagrams,
        time.as_secs_f64(),
        after.sent - before.sent,
        after.sends - before.sends,
        after.received - before.received,
        after.receives - before.receives,
    )
}

/// Seconds of this process in user space and in the kernel.
fn cpu() -> Result<[f64; 2]> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let field = |n: usize| fields.get(n).and_then(|text| text.parse::<f64>().ok());
    // Fields 14 and 15 of proc_pid_stat(5); the two before the ')' are not counted.
    Ok([11, 12].map(|n| field(n).unwrap_or_default() / ticks))
}
