//! Readers on several runtimes, as the workers of a server have them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pasque::Packet;
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

use super::*;
use crate::device::{MemoryDevice, MemoryPeer};
use crate::packet::testing::{readdressed, udp_v4};

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn options() -> SharedOptions {
    SharedOptions {
        own: networks(&["10.76.0.1/24"]),
        client_to_client: false,
        counters: SharedCounters::default(),
    }
}

/// A queue in memory that notes on which threads it is read.
struct Queue {
    device: MemoryDevice,
    reader: Mutex<Option<ThreadId>>,
    concurrent: AtomicUsize,
}

impl PacketDevice for Queue {
    fn mtu(&self) -> usize {
        1500
    }

    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>> {
        assert_eq!(self.concurrent.fetch_add(1, Ordering::SeqCst), 0);
        let polled = self.device.poll_recv(cx, reads);
        if polled.is_ready() {
            *self.reader.lock().unwrap() = Some(thread::current().id());
        }
        self.concurrent.fetch_sub(1, Ordering::SeqCst);
        polled
    }

    fn try_send(&self, batch: &mut Batch) -> io::Result<()> {
        self.device.try_send(batch)
    }
}

/// A runtime on a thread of its own, as a worker has it.
struct Worker {
    handle: Handle,
    thread: ThreadId,
    stop: Arc<Notify>,
    join: Option<thread::JoinHandle<()>>,
}

impl Worker {
    fn start() -> Self {
        let (started, ready) = mpsc::channel();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let join = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            started
                .send((runtime.handle().clone(), thread::current().id()))
                .unwrap();
            runtime.block_on(stopped.notified());
        });
        let (handle, thread) = ready.recv().unwrap();
        Self {
            handle,
            thread,
            stop,
            join: Some(join),
        }
    }

    /// Takes a seat on this worker for a client with `address`.
    fn seat(&self, shared: &Arc<Shared>, address: &str) -> TakenSeat {
        let (shared, addresses) = (shared.clone(), networks(&[address]));
        let (taken, seat) = mpsc::channel();
        self.handle.spawn(async move {
            let (device, mut seat) = shared.take_seat().unwrap();
            seat.update(&ClientState {
                addresses,
                ..ClientState::default()
            });
            taken
                .send(TakenSeat {
                    device,
                    _seat: seat,
                })
                .unwrap();
        });
        seat.recv_timeout(Duration::from_secs(5)).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(join) = self.join.take() {
            let _ = join.join();
        }
    }
}

struct TakenSeat {
    device: Arc<dyn PacketDevice>,
    _seat: Box<dyn Seat>,
}

impl TakenSeat {
    /// Waits for a packet from the interface.
    fn receive(&self) -> Vec<u8> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut reads = Reads::default();
        let receive = std::future::poll_fn(|cx| self.device.poll_recv(cx, &mut reads));
        let received =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), receive).await });
        received.unwrap().unwrap();
        let first = reads.drain().flatten().next();
        first.unwrap().to_vec()
    }
}

fn queues(count: usize) -> (Vec<Arc<Queue>>, Vec<MemoryPeer>) {
    (0..count)
        .map(|_| {
            let (device, host) = MemoryDevice::pair(1500);
            let queue = Arc::new(Queue {
                device,
                reader: Mutex::default(),
                concurrent: AtomicUsize::new(0),
            });
            (queue, host)
        })
        .unzip()
}

fn packet_to(address: &str) -> Packet {
    Packet::copy_from(&readdressed(udp_v4(), "198.51.100.2", address))
}

#[test]
fn every_queue_is_read_from_the_first_tunnel_on_and_workers_take_their_share() {
    let (queues, hosts) = queues(3);
    let devices = queues
        .iter()
        .map(|queue| queue.clone() as Arc<dyn PacketDevice>);
    let shared = Shared::new(Readers::of_devices(devices), options());
    let workers = [(); 4].map(|()| Worker::start());
    let readers = || {
        let reader = |queue: &Arc<Queue>| queue.reader.lock().unwrap().unwrap();
        queues.iter().map(reader).collect::<Vec<_>>()
    };

    let mut seats = vec![workers[0].seat(&shared, "10.76.0.2/32")];
    let exchange = |seat: &TakenSeat| {
        for host in &hosts {
            host.send(packet_to("10.76.0.2")).unwrap();
            seat.receive();
        }
    };
    exchange(&seats[0]);
    assert_eq!(readers(), [workers[0].thread; 3], "one worker reads all");

    for (number, worker) in (3..).zip(&workers[1..]) {
        seats.push(worker.seat(&shared, &format!("10.76.0.{number}/32")));
    }
    exchange(&seats[0]);
    // The first packet after a change may still be read where the queue was read before.
    exchange(&seats[0]);
    let mut readers = readers();
    readers.sort_by_key(|id| format!("{id:?}"));
    let mut expected: Vec<_> = workers[..3].iter().map(|worker| worker.thread).collect();
    expected.sort_by_key(|id| format!("{id:?}"));
    assert_eq!(
        readers, expected,
        "each of three reads one; the fourth finds none left"
    );
}

#[test]
fn what_a_slow_client_leaves_behind_is_counted() {
    let (device, host) = MemoryDevice::pair(1500);
    let options = options();
    let counters = options.counters.clone();
    let shared = Shared::with_device(Arc::new(device), options);
    let worker = Worker::start();
    let slow = worker.seat(&shared, "10.76.0.2/32");
    let last = worker.seat(&shared, "10.76.0.3/32");
    for _ in 0..3 {
        for _ in 0..900 {
            host.send(packet_to("10.76.0.2")).unwrap();
        }
        // Once this one is there, all before it were handed out.
        host.send(packet_to("10.76.0.3")).unwrap();
        last.receive();
    }
    drop(slow);
    let inward = counters.read().inward;
    assert_eq!(inward.dropped(DropReason::QueueFull), 2700 - 2048);
    assert_eq!(inward.received, 2700 - 2048);
}

#[test]
fn the_interface_is_as_narrow_as_its_narrowest_tunnel_with_ipv6s_minimum() {
    let own = networks(&["10.76.0.1/24", "fd76::1/64"]);
    let client = |mtu, routes: &[&str]| ClientState {
        addresses: Vec::new(),
        routes: networks(routes),
        mtu,
    };
    let mut clients = HashMap::new();
    let state = |clients: &HashMap<u64, ClientState>| link_state(&own, clients);
    assert_eq!(state(&clients).mtu, 1280);
    assert_eq!(
        state(&clients).routes,
        networks(&["10.76.0.0/24", "fd76::/64"])
    );
    clients.insert(1, client(1414, &["192.168.7.0/24"]));
    clients.insert(2, client(0, &[]));
    assert_eq!(state(&clients).mtu, 1414);
    clients.insert(3, client(1319, &["192.168.7.0/24"]));
    assert_eq!(state(&clients).mtu, 1319);
    let routes = networks(&["10.76.0.0/24", "fd76::/64", "192.168.7.0/24"]);
    assert_eq!(state(&clients).routes, routes);
    clients.insert(4, client(1154, &[]));
    assert_eq!(state(&clients).mtu, 1280);
}
