//! A long path without loss: a relay of UDP datagrams that holds each back for a while. It does
//! what netem would, which not every machine has.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pasque_tests::netns::Namespace;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The kernel's buffer for either socket, in bytes: nothing is to be lost here.
const KERNEL_BUFFER: usize = 8 << 20;

/// How long the relay sleeps at most, so that it notices its end.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// One client's datagrams, to a server and back. Ends when dropped.
pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `listen` for one client at a time, in `place`. Each way takes `delay`.
    pub(crate) fn start(
        place: &Namespace,
        listen: SocketAddr,
        server: SocketAddr,
        delay: Duration,
    ) -> io::Result<Self> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut ends = [End::new(place, listen)?, End::new(place, any)?];
        ends[1].peer = Some(server);
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn(&mut ends, delay);
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics nowhere.
            let _ = thread.join();
        }
    }
}

/// Datagrams of equal length that came together, and when they leave.
struct Burst {
    due: Instant,
    bytes: Vec<u8>,
    stride: usize,
}

/// One of the two sockets.
struct End {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    /// Whom it talks to: the one that was heard last.
    peer: Option<SocketAddr>,
    /// What is to be sent from here.
    queue: VecDeque<Burst>,
}

impl End {
    fn new(place: &Namespace, address: SocketAddr) -> io::Result<Self> {
        let socket = place.udp(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Root may have more than the system's limit.
        let sockets = socket2::SockRef::from(&socket);
        sockets.set_recv_buffer_size(KERNEL_BUFFER)?;
        sockets.set_send_buffer_size(KERNEL_BUFFER)?;
        Ok(Self {
            socket,
            state,
            buffers: vec![vec![0; 1 << 16]; BATCH_SIZE],
            peer: None,
            queue: VecDeque::new(),
        })
    }

    /// Moves what has come to `queue`.
    fn read(&mut self, queue: &mut VecDeque<Burst>, delay: Duration) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> = self
            .buffers
            .iter_mut()
            .map(|buffer| IoSliceMut::new(buffer))
            .collect();
        let socket = UdpSockRef::from(&self.socket);
        let count = self
            .state
            .recv(socket, &mut slices, &mut metas)
            .unwrap_or(0);
        let due = Instant::now() + delay;
        for (meta, buffer) in metas.iter().zip(&self.buffers).take(count) {
            self.peer = Some(meta.addr);
            queue.push_back(Burst {
                due,
                bytes: buffer[..meta.len].to_vec(),
                stride: meta.stride.max(1),
            });
        }
    }

    /// Sends what is due.
    fn write(&mut self) {
        let Some(peer) = self.peer else { return };
        while let Some(burst) = self.queue.front() {
            if burst.due > Instant::now() {
                return;
            }
            let transmit = Transmit {
                destination: peer,
                ecn: None,
                contents: &burst.bytes,
                segment_size: (burst.bytes.len() > burst.stride).then_some(burst.stride),
                src_ip: None,
            };
            let socket = UdpSockRef::from(&self.socket);
            match self.state.try_send(socket, &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Whatever else it is, it will be the same again.
                _ => drop(self.queue.pop_front()),
            }
        }
    }
}

/// Reads, sends, and sleeps until there is something to do.
fn turn(ends: &mut [End; 2], delay: Duration) {
    let [outer, inner] = ends;
    outer.read(&mut inner.queue, delay);
    inner.read(&mut outer.queue, delay);
    outer.write();
    inner.write();
    let due = [&*outer, &*inner]
        .into_iter()
        .filter_map(|end| end.queue.front())
        .map(|burst| burst.due.saturating_duration_since(Instant::now()))
        .min();
    let time = due.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: time.subsec_nanos().into(),
    };
    let wants = |end: &End| match end.queue.front() {
        // It is due, and the kernel has no room for it.
        Some(burst) if burst.due <= Instant::now() => PollFlags::IN | PollFlags::OUT,
        _ => PollFlags::IN,
    };
    let mut waiting = [
        PollFd::new(&outer.socket, wants(outer)),
        PollFd::new(&inner.socket, wants(inner)),
    ];
    // Interrupted, it is looked at again.
    let _ = poll(&mut waiting, Some(&time));
}
