//! Two connections in one thread: what each end of a datagram costs, beside the AEAD of its packet.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boring::aead::{AeadCtx, Algorithm};
use pasque_h3::testing::transport_settings;
use quiche::{ConnectionId, RecvInfo};

use crate::counting::allocations;
use crate::{Buffers, CID_LEN, MAX_UDP_PAYLOAD, Quic, Result, WATERMARK, datagram};

/// Payload of a datagram, in bytes: a packet of 1380 bytes.
const LEN: usize = 1380;

/// Datagrams that travel together, and are acknowledged once: as many as wait in quiche. Between two
/// acknowledgements of a tunnel at full load there are more.
const BURST: usize = WATERMARK;

/// What a short header has in front of the payload: first byte, connection ID, packet number.
const HEADER_LEN: usize = 1 + CID_LEN + 4;

/// Type and length of a DATAGRAM frame as quiche writes them.
const FRAME_LEN: usize = 3;

const TAG_LEN: usize = 16;

/// Rounds after which the AEAD has its turn: both see the same phases of a machine that drifts.
const ROUNDS: usize = 64;

/// Prints nanoseconds and allocations per datagram.
pub(crate) fn measure(datagrams: &str) -> Result<()> {
    let rounds = datagrams.parse::<usize>()?.div_ceil(BURST);
    let mut pair = Pair::connect()?;
    let mut aead = Aead::new()?;
    // Unmeasured: the congestion window opens, and the caches fill.
    pair.run(ROUNDS)?;
    aead.run(ROUNDS)?;
    let mut cost = Cost::default();
    let mut done = 0;
    while done < rounds {
        cost.add(pair.run(ROUNDS)?);
        let (seal, open) = aead.run(ROUNDS)?;
        cost.seal += seal;
        cost.open += open;
        done += ROUNDS;
    }
    let datagrams = (done * BURST) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e9 / datagrams;
    println!(
        "sender={:.1} receiver={:.1} seal={:.1} open={:.1} sender_allocations={:.3} \
         receiver_allocations={:.3}",
        each(cost.sender),
        each(cost.receiver),
        each(cost.seal),
        each(cost.open),
        cost.sender_allocations as f64 / datagrams,
        cost.receiver_allocations as f64 / datagrams,
    );
    Ok(())
}

/// Moves that many datagrams and says how many packets that took.
pub(crate) fn exchange(datagrams: &str) -> Result<()> {
    let rounds = datagrams.parse::<usize>()?.div_ceil(BURST);
    let mut pair = Pair::connect()?;
    pair.run(rounds)?;
    println!("datagrams={} packets={}", rounds * BURST, pair.packets);
    Ok(())
}

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    sender: Duration,
    receiver: Duration,
    sender_allocations: u64,
    receiver_allocations: u64,
    seal: Duration,
    open: Duration,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.sender += other.sender;
        self.receiver += other.receiver;
        self.sender_allocations += other.sender_allocations;
        self.receiver_allocations += other.receiver_allocations;
    }
}

/// A client that sends and a server that receives.
struct Pair {
    client: Quic,
    server: Quic,
    addresses: [SocketAddr; 2],
    /// Packets on their way to the server, each with its length.
    wire: Vec<(Vec<u8>, usize)>,
    answer: Vec<u8>,
    packets: u64,
}

impl Pair {
    fn connect() -> Result<Self> {
        let addresses = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let [here, there] = addresses;
        let (mut server_settings, mut client_settings) = transport_settings();
        let cids = [[1; CID_LEN], [2; CID_LEN]];
        let [client, server] = cids.each_ref().map(|cid| ConnectionId::from_ref(cid));
        let client = quiche::connect_with_buffer_factory::<Buffers>(
            Some("localhost"),
            &client,
            here,
            there,
            &mut client_settings,
        )?;
        let server = quiche::accept_with_buf_factory::<Buffers>(
            &server,
            None,
            there,
            here,
            &mut server_settings,
        )?;
        let mut pair = Self {
            client,
            server,
            addresses,
            wire: vec![(vec![0; MAX_UDP_PAYLOAD], 0); 2 * BURST],
            answer: vec![0; MAX_UDP_PAYLOAD],
            packets: 0,
        };
        pair.settle()?;
        Ok(pair)
    }

    /// Exchanges packets until the handshake is over and the path is known to carry the datagrams.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            self.pass_all(true)?;
            self.pass_all(false)?;
            for quic in [&mut self.client, &mut self.server] {
                if quic.timeout() == Some(Duration::ZERO) {
                    quic.on_timeout();
                }
            }
            let is_open = self.client.is_established() && self.server.is_established();
            let found = self.client.dgram_max_writable_len();
            if is_open && found.is_some_and(|len| len > LEN) && self.client.pmtu().is_some() {
                return Ok(());
            }
            if is_open {
                // Asks for acknowledgements, without which no probe of the path's MTU is answered.
                let _ = self.client.dgram_send_buf(datagram(1));
                while self.server.dgram_recv_buf().is_ok() {}
            }
        }
        Err("no connection within a minute".into())
    }

    /// Moves all packets of one side to the other.
    fn pass_all(&mut self, from_client: bool) -> Result<()> {
        let [here, there] = self.addresses;
        let (from, to, info) = match from_client {
            true => (
                &mut self.client,
                &mut self.server,
                RecvInfo {
                    from: here,
                    to: there,
                },
            ),
            false => (
                &mut self.server,
                &mut self.client,
                RecvInfo {
                    from: there,
                    to: here,
                },
            ),
        };
        loop {
            match from.send(&mut self.answer) {
                Ok((len, _)) => drop(to.recv(&mut self.answer[..len], info)),
                Err(quiche::Error::Done) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// So many bursts. What the receiver does between a packet and its acknowledgement is its cost,
    /// everything else the sender's.
    fn run(&mut self, rounds: usize) -> Result<Cost> {
        let mut cost = Cost::default();
        let [here, there] = self.addresses;
        for _ in 0..rounds {
            let (mut clock, mut counter) = (Instant::now(), allocations());
            for _ in 0..BURST {
                self.client.dgram_send_buf(datagram(LEN))?;
            }
            // What the congestion window has no room for leaves after the acknowledgement.
            while self.client.dgram_send_queue_len() > 0 {
                let mut count = 0;
                for (packet, packet_len) in &mut self.wire {
                    match self.client.send(packet) {
                        Ok((len, _)) => *packet_len = len,
                        Err(quiche::Error::Done) => break,
                        Err(error) => return Err(error.into()),
                    }
                    count += 1;
                }
                self.packets += count as u64;
                cost.sender += lap(&mut clock);
                cost.sender_allocations += step(&mut counter);
                let info = RecvInfo {
                    from: here,
                    to: there,
                };
                for (packet, len) in &mut self.wire[..count] {
                    self.server.recv(&mut packet[..*len], info)?;
                }
                while let Ok(packet) = self.server.dgram_recv_buf() {
                    black_box(&packet);
                }
                let mut answer_len = 0;
                if let Ok((len, _)) = self.server.send(&mut self.answer) {
                    answer_len = len;
                }
                cost.receiver += lap(&mut clock);
                cost.receiver_allocations += step(&mut counter);
                if answer_len > 0 {
                    let info = RecvInfo {
                        from: there,
                        to: here,
                    };
                    self.client.recv(&mut self.answer[..answer_len], info)?;
                }
                if count == 0 && self.client.timeout() == Some(Duration::ZERO) {
                    self.client.on_timeout();
                }
                cost.sender += lap(&mut clock);
                cost.sender_allocations += step(&mut counter);
            }
        }
        Ok(cost)
    }
}

/// The time since the last lap.
fn lap(clock: &mut Instant) -> Duration {
    let now = Instant::now();
    now - std::mem::replace(clock, now)
}

/// The allocations since the last step.
fn step(counter: &mut u64) -> u64 {
    let now = allocations();
    now - std::mem::replace(counter, now)
}

/// The cipher that BoringSSL prefers where the processor has AES, on packets of the same length.
struct Aead {
    context: AeadCtx,
    payload: Vec<u8>,
    tag: [u8; TAG_LEN],
}

impl Aead {
    fn new() -> Result<Self> {
        Ok(Self {
            context: AeadCtx::new_default_tag(&Algorithm::aes_128_gcm(), &[7; 16])?,
            payload: vec![7; FRAME_LEN + crate::PREFIX.len() + LEN],
            tag: [0; TAG_LEN],
        })
    }

    /// Seals as many packets as [`Pair::run`] does, and opens them.
    fn run(&mut self, rounds: usize) -> Result<(Duration, Duration)> {
        let header = [0x40; HEADER_LEN];
        let (mut seal, mut open) = (Duration::ZERO, Duration::ZERO);
        let mut sealed = vec![(self.payload.clone(), self.tag); BURST];
        for round in 0..rounds {
            let mut clock = Instant::now();
            for (number, (payload, tag)) in sealed.iter_mut().enumerate() {
                let nonce = nonce(round, number);
                self.context
                    .seal_scatter_mut(&nonce, payload, tag, None, &header)?;
            }
            seal += lap(&mut clock);
            for (number, (payload, tag)) in sealed.iter_mut().enumerate() {
                let nonce = nonce(round, number);
                self.context
                    .open_gather_mut(&nonce, payload, tag, &header)?;
            }
            open += lap(&mut clock);
        }
        Ok((seal, open))
    }
}

fn nonce(round: usize, number: usize) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&((round * BURST + number) as u64).to_be_bytes());
    nonce
}
