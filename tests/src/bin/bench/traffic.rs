//! What is at the far end of a UDP tunnel, and how what is under way is counted.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::machine::pin;

/// Datagrams under way where there is an answer to each: enough to hide the round trip, few enough
/// for a socket's buffer.
pub(crate) const WINDOW: u64 = 256;
/// Datagrams that a source is ahead of what has come out at the other end.
const LEAD: u64 = 2048;
/// The receive buffer of a socket, in bytes: the kernel counts more than 2 KiB for a datagram.
const BUFFER_LEN: usize = 1 << 20;
/// How long nothing comes before all that is under way counts as lost.
pub(crate) const STALL: Duration = Duration::from_millis(50);
/// What a source waits for at a time.
const PAUSE: Duration = Duration::from_micros(50);
/// The most of one segmented send, in bytes and in datagrams.
const SEND_LEN: usize = 60_000;
const SEND_SEGMENTS: usize = 64;

/// A socket on loopback whose buffer holds all that is under way.
pub(crate) fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(STALL))?;
    // The kernel gives what its `net.core.rmem_max` allows; the rest shows as loss.
    set_socket_recv_buffer_size(&socket, BUFFER_LEN)?;
    Ok(socket)
}

/// Datagrams by number. An answer means that all before it have come back, or never will.
#[derive(Debug)]
pub(crate) struct Window {
    size: u64,
    next: u64,
    answered: u64,
}

impl Window {
    pub(crate) fn new(size: u64) -> Self {
        Self {
            size,
            next: 0,
            answered: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.next - self.answered < self.size
    }

    /// Everything before this number is settled.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Numbers the next datagram.
    pub(crate) fn stamp(&mut self, payload: &mut [u8]) {
        payload[..8].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
    }

    pub(crate) fn answer(&mut self, payload: &[u8]) {
        if let Some(number) = number(payload) {
            self.settle(number.saturating_add(1));
        }
    }

    fn settle(&mut self, before: u64) {
        self.answered = self.answered.max(before).min(self.next);
    }

    /// Gives up all that is under way.
    pub(crate) fn reset(&mut self) {
        self.answered = self.next;
    }
}

/// The number that a datagram was stamped with.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    payload
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

/// What a load has done so far, seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) arrived: AtomicU64,
    /// One more than the highest number that has arrived.
    pub(crate) settled: AtomicU64,
    /// Allocations of the thread that the client's end runs on.
    pub(crate) allocations: AtomicU64,
}

/// A reading of [`Counts`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    pub(crate) allocations: u64,
}

impl Counts {
    pub(crate) fn read(&self) -> Reading {
        Reading {
            sent: self.sent.load(Ordering::Relaxed),
            arrived: self.arrived.load(Ordering::Relaxed),
            allocations: self.allocations.load(Ordering::Relaxed),
        }
    }
}

/// A thread at the far end of a tunnel. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Target {
    /// Returns every datagram, with one system call for each.
    pub(crate) fn echo(core: usize) -> io::Result<Self> {
        Self::start(core, socket()?, |socket, stop| {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], from);
                }
            }
        })
    }

    /// Returns every datagram, as many with a system call as the kernel gives and takes.
    pub(crate) fn batching_echo(core: usize) -> io::Result<Self> {
        Self::start(core, socket()?, |socket, stop| {
            let Ok(state) = UdpSocketState::new(UdpSockRef::from(&socket)) else {
                return;
            };
            let mut buffers = vec![vec![0; 1 << 16]; BATCH_SIZE];
            while !stop.load(Ordering::Relaxed) {
                for (meta, buffer) in read(&socket, &state, &mut buffers)
                    .into_iter()
                    .zip(&buffers)
                {
                    let transmit = Transmit {
                        destination: meta.addr,
                        ecn: None,
                        contents: &buffer[..meta.len],
                        segment_size: (meta.len > meta.stride).then_some(meta.stride),
                        src_ip: None,
                    };
                    let _ = state.try_send(UdpSockRef::from(&socket), &transmit);
                }
            }
        })
    }

    /// Counts what arrives, as many with a system call as the kernel gives, and looks for it from time to
    /// time: to be woken by each send would be a cost of the sender's core and of the client's, which a
    /// target at the other end of a network does not have.
    pub(crate) fn sink(core: usize, counts: Arc<Counts>) -> io::Result<Self> {
        Self::start(core, socket()?, move |socket, stop| {
            let Ok(state) = UdpSocketState::new(UdpSockRef::from(&socket)) else {
                return;
            };
            let mut buffers = vec![vec![0; 1 << 16]; BATCH_SIZE];
            while !stop.load(Ordering::Relaxed) {
                let (packets, _) = receive(&socket, &state, &mut buffers);
                counts.arrived.fetch_add(packets, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        })
    }

    /// Sends datagrams of `len` bytes to whoever sends something first, never far ahead of what
    /// `counts` says has arrived.
    pub(crate) fn source(core: usize, len: usize, counts: Arc<Counts>) -> io::Result<Self> {
        Self::start(core, socket()?, move |socket, stop| {
            let mut hello = [0; 2048];
            let peer = loop {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok((_, from)) = socket.recv_from(&mut hello) {
                    break from;
                }
            };
            let Ok(sender) = Sender::new(&socket) else {
                return;
            };
            let mut window = Window::new(LEAD);
            let mut progress = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let settled = counts.settled.load(Ordering::Relaxed);
                if settled > window.answered() {
                    window.settle(settled);
                    progress = Instant::now();
                } else if progress.elapsed() > STALL {
                    window.reset();
                    progress = Instant::now();
                }
                match window.is_open() {
                    true => {
                        let sent =
                            sender.burst(peer, len, usize::MAX, |payload| window.stamp(payload));
                        counts.sent.fetch_add(sent, Ordering::Relaxed);
                    }
                    false => thread::sleep(PAUSE),
                }
            }
        })
    }

    fn start(
        core: usize,
        socket: UdpSocket,
        work: impl FnOnce(UdpSocket, &AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            if let Err(error) = pin(core) {
                eprintln!("bench: the target runs on any core: {error}");
            }
            work(socket, &stopped);
        });
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics nowhere.
            let _ = thread.join();
        }
    }
}

/// Waits for datagrams, for [`STALL`] at most. Returns how many have come, and where from the last.
pub(crate) fn receive(
    socket: &UdpSocket,
    state: &UdpSocketState,
    buffers: &mut [Vec<u8>],
) -> (u64, Option<SocketAddr>) {
    let metas = read(socket, state, buffers);
    let packets = metas
        .iter()
        .map(|meta| meta.len.div_ceil(meta.stride.max(1)) as u64);
    (packets.sum(), metas.last().map(|meta| meta.addr))
}

/// Waits for datagrams, for [`STALL`] at most, and reads once.
fn read(socket: &UdpSocket, state: &UdpSocketState, buffers: &mut [Vec<u8>]) -> Vec<RecvMeta> {
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: STALL.subsec_nanos().into(),
    };
    // Interrupted or timed out, the read below finds nothing.
    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time));
    let mut metas = vec![RecvMeta::default(); BATCH_SIZE];
    let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
    let count = state.recv(UdpSockRef::from(socket), &mut slices, &mut metas);
    metas.truncate(count.unwrap_or(0));
    metas
}

/// Sends bursts, each with one system call.
pub(crate) struct Sender<'a> {
    socket: &'a UdpSocket,
    state: UdpSocketState,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(socket: &'a UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        Ok(Self { socket, state })
    }

    /// Sends up to `count` datagrams of `len` bytes, each as `stamp` leaves it. Returns how many.
    pub(crate) fn burst(
        &self,
        to: SocketAddr,
        len: usize,
        count: usize,
        mut stamp: impl FnMut(&mut [u8]),
    ) -> u64 {
        let most = SEND_SEGMENTS.min(self.state.max_gso_segments());
        let count = count.min(most).min(SEND_LEN / len).max(1);
        let mut contents = vec![0; count * len];
        contents.chunks_mut(len).for_each(&mut stamp);
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: &contents,
            segment_size: (count > 1).then_some(len),
            src_ip: None,
        };
        // What the kernel has no room for is lost, as the network would lose it.
        let sent = self
            .state
            .try_send(UdpSockRef::from(self.socket), &transmit);
        if sent.is_ok() { count as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_settles_everything_before_it() {
        let mut window = Window::new(WINDOW);
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

    #[test]
    fn a_sink_counts_every_datagram_of_a_burst() {
        let counts = Arc::<Counts>::default();
        let core = crate::Cores::choose().unwrap().client;
        let sink = Target::sink(core, counts.clone()).unwrap();
        let socket = socket().unwrap();
        let sender = Sender::new(&socket).unwrap();
        let sent = sender.burst(sink.address, 100, 40, |payload| payload.fill(7));
        assert!(sent > 0);
        let deadline = Instant::now() + pasque_tests::PATIENCE;
        while counts.read().arrived < sent && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(counts.read().arrived, sent);
    }
}
