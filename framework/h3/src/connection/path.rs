//! The path of a connection: how long its packets may be, and following a peer whose address
//! changes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiche::{PathEvent, PathStats, SendInfo};
use tracing::debug;

use super::farewell::{Farewells, stats};
use super::http::{Buffers, Http};
use super::mtu_probe::Probes;
use super::path_mtu::{BASE, PathMtu, Tally, Traffic, Verdict};
use super::{Connection, Role, TurnCx};
use crate::settings::MAX_UDP_PAYLOAD;

/// How often a connection is looked at for what costs more than comparing a number, while packets
/// come.
const PULSE: Duration = Duration::from_millis(50);

/// How long a peer may take to answer a PATH_CHALLENGE beyond the time that its packets take.
const ANSWER_DELAY: Duration = Duration::from_millis(50);

/// A challenge is repeated after ever longer times: each is twice as long as the one before, but for
/// the last ones.
const MAX_DOUBLINGS: u32 = 5;

/// Whether a path is validated. quiche tells it by a type that it does not export: its values are, in
/// this order, a path that was given up, one that was not asked to answer, one that was, one that has
/// answered to a short packet, and one that is validated.
fn is_validated(path: &PathStats) -> bool {
    path.validation_state as u8 == 4
}

/// Makes a packet for where the peer is now.
///
/// quiche makes the next packet for a path that has a challenge to send, if there is one. When the peer
/// has left that path before it was validated, there may be no room for the challenge in what may be sent
/// there (RFC 9000 §8.1): there is no packet then, now or ever, whatever waits for other paths.
fn send_to_peer(http: &mut Http, space: &mut [u8]) -> quiche::Result<(usize, SendInfo)> {
    let active = http.quic.path_stats().find(|path| path.active);
    let active = active.ok_or(quiche::Error::Done)?;
    let (from, to) = (Some(active.local_addr), Some(active.peer_addr));
    let call = || http.quic.send_on_path(space, from, to);
    http.holding.count(call)
}

/// Our address and the peer's.
pub(super) type Addresses = (SocketAddr, SocketAddr);

/// What the engine knows of the path in use.
pub(super) struct Path {
    mtu: PathMtu,
    probes: Probes,
    /// Packets made so far.
    long: Tally,
    short: Tally,
    /// The path that the connection began on. Only there does quiche look for the MTU.
    first: Option<Addresses>,
    /// Where packets go, as far as it is validated.
    in_use: Option<Addresses>,
    /// A path that the peer has moved to and that is not validated yet.
    unproven: Option<Unproven>,
    farewells: Farewells,
    /// Whether the peer has ever come from another address than the first.
    has_others: bool,
    /// Whether some path was given up before it was validated.
    had_failure: bool,
    /// Bytes that were acknowledged when the probe timeout ran out, until there are more.
    acked_at_timeout: Option<u64>,
    /// When the connection was last looked at.
    looked: Instant,
}

/// A path that is not validated.
#[derive(Clone, Copy, Debug)]
struct Unproven {
    path: Addresses,
    /// When the peer was last asked to answer on this path.
    asked: Instant,
    /// How often it has been asked again.
    repeats: u32,
}

impl Unproven {
    /// When the peer is to be asked again (RFC 9000 §8.2.1: no more often than Initial packets are
    /// sent again).
    ///
    /// quiche asks again only when the path's loss timer runs out. But the answer is in a packet, too,
    /// perhaps in one that was too long for the path, and it is sent once (RFC 9000 §13.3): when the
    /// challenge is acknowledged and its answer is lost, there may be no timer, and quiche waits for
    /// ever.
    fn deadline(&self, quic: &quiche::Connection<Buffers>) -> Option<Instant> {
        let path = stats(quic, self.path)?;
        let patience = path.rtt + path.rttvar * 4 + ANSWER_DELAY;
        Some(self.asked + patience * 2u32.pow(self.repeats.min(MAX_DOUBLINGS)))
    }
}

impl Path {
    pub(super) fn new(http: &Http, now: Instant) -> Self {
        let in_use = http
            .quic
            .path_stats()
            .find(|path| path.active)
            .map(|path| (path.local_addr, path.peer_addr));
        Self {
            mtu: PathMtu::new(BASE),
            probes: Probes::new(http.quic.is_server()),
            long: Tally::default(),
            short: Tally::default(),
            first: in_use,
            in_use,
            unproven: None,
            farewells: Farewells::default(),
            has_others: false,
            had_failure: false,
            acked_at_timeout: None,
            looked: now,
        }
    }

    /// The peer's address on the last path that was validated.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.in_use.map(|(_local, peer)| peer)
    }

    /// Whether packets are kept short for a moment, whatever the path may carry.
    ///
    /// After a probe timeout: what comes next is to arrive even if it was the length that kept the
    /// last packets from arriving. And before a new path is validated: to that end 1200 bytes are
    /// enough (RFC 9000 §8.2.1), and quiche pads every packet.
    fn is_careful(&self) -> bool {
        self.acked_at_timeout.is_some() || self.unproven.is_some()
    }

    /// The longest packet that may be made now.
    fn limit(&self) -> usize {
        match self.probes.unsent() {
            Some(size) => size,
            // Long packets would only keep the probe from its place in the congestion window.
            None if self.is_careful() || self.mtu.is_doubted() => BASE,
            None => self.mtu.cap().min(MAX_UDP_PAYLOAD),
        }
    }

    /// When there is something to do although nothing happens. `heard` is when the last packet came.
    pub(super) fn deadline(&self, http: &Http, heard: Instant) -> Option<Instant> {
        let pulse = (heard > self.looked).then_some(self.looked + PULSE);
        let probe = self.probes.deadline(&http.quic);
        let unproven = self.unproven.as_ref();
        let repeat = unproven.and_then(|unproven| unproven.deadline(&http.quic));
        let farewell = self.farewells.deadline();
        [pulse, probe, repeat, self.mtu.deadline(), farewell]
            .into_iter()
            .flatten()
            .min()
    }

    /// Lets QUIC's timers run out.
    pub(super) fn on_timeout(&mut self, http: &mut Http) {
        let in_use = |http: &Http| http.quic.path_stats().find(|path| path.active);
        let before = in_use(http);
        http.holding.count(|| http.quic.on_timeout());
        let (Some(before), Some(after)) = (before, in_use(http)) else {
            return;
        };
        // quiche counts timeouts that find losses, too: there, something was acknowledged. Its own
        // probes it does not count among the losses.
        // Where the path in use has failed, another has taken its place.
        if (before.local_addr, before.peer_addr) != (after.local_addr, after.peer_addr) {
            return;
        }
        let ran_out = after.total_pto_count > before.total_pto_count && after.lost == before.lost;
        let is_searching = self.in_use == self.first && http.quic.pmtu().is_none();
        if ran_out && !is_searching && self.acked_at_timeout.is_none() && self.mtu.size() > BASE {
            self.acked_at_timeout = Some(http.quic.stats().acked_bytes);
            // Whatever it was: something that is short enough has to ask for an answer.
            let _ = http.quic.send_ack_eliciting();
        }
    }

    /// Makes the next packet.
    fn next_packet(
        &mut self,
        http: &mut Http,
        space: &mut [u8],
        now: Instant,
    ) -> quiche::Result<(usize, SendInfo)> {
        let limit = self.limit().min(space.len());
        let waiting = http.quic.dgram_send_queue_len();
        let room = space.get_mut(..limit).unwrap_or_default();
        let mut made = http.holding.count(|| http.quic.send(room));
        if made == Err(quiche::Error::Done) && self.has_others {
            made = send_to_peer(http, room);
        }
        match made {
            Ok((len, _)) => {
                let tally = if len > BASE {
                    &mut self.long
                } else {
                    &mut self.short
                };
                tally.add(len);
                let is_datagram = http.quic.dgram_send_queue_len() < waiting;
                let (probes, quic) = (&mut self.probes, &mut http.quic);
                let call = || probes.on_packet(quic, len, is_datagram, now);
                http.holding.count(call);
                made
            }
            Err(quiche::Error::Done) => {
                if self.probes.unsent().is_some() {
                    // Something took its room.
                    let (probes, quic) = (&mut self.probes, &mut http.quic);
                    http.holding.count(|| probes.cancel(quic));
                }
                let in_use = self.in_use.ok_or(quiche::Error::Done)?;
                let (farewells, quic) = (&mut self.farewells, &mut http.quic);
                let call = || farewells.next_packet(quic, space, in_use, now);
                http.holding.count(call)
            }
            Err(_) => made,
        }
    }

    fn on_event(&mut self, event: PathEvent, http: &mut Http, now: Instant) {
        match event {
            PathEvent::New(local, peer) => {
                self.has_others = true;
                self.note_unproven((local, peer), now);
            }
            PathEvent::Validated(local, peer) => {
                self.unproven
                    .take_if(|unproven| unproven.path == (local, peer));
            }
            PathEvent::FailedValidation(..) => self.had_failure = true,
            PathEvent::PeerMigrated(local, peer) => self.on_moved((local, peer), http, now),
            PathEvent::PmtuUpdated { local, peer, pmtu } if self.in_use == Some((local, peer)) => {
                self.mtu.set_ceiling(pmtu, now);
            }
            _ => {}
        }
    }

    /// The peer is on a path that is not validated.
    fn note_unproven(&mut self, path: Addresses, now: Instant) {
        if self.unproven.is_some_and(|unproven| unproven.path == path) {
            return;
        }
        let unproven = Unproven {
            path,
            asked: now,
            repeats: 0,
        };
        // The peer may have moved on before the last one was validated.
        if let Some(earlier) = self.unproven.replace(unproven) {
            self.farewells.add(earlier.path);
        }
    }

    /// Notices that the peer has come back to a path that was not validated when it left, of which
    /// quiche says nothing.
    fn find_unproven(&mut self, http: &Http, now: Instant) {
        let path = http.quic.path_stats().find(|path| path.active);
        let path = path.filter(|path| !is_validated(path));
        if let Some(path) = path {
            self.note_unproven((path.local_addr, path.peer_addr), now);
        }
    }

    /// The peer has moved, and its new address is validated.
    fn on_moved(&mut self, to: Addresses, http: &mut Http, now: Instant) {
        let from = self.in_use.replace(to);
        // The news may come with a packet from where the peer is by now.
        let present = http.quic.path_stats().find(|path| path.active);
        let present = present.map(|path| (path.local_addr, path.peer_addr));
        let earlier = self.unproven.take_if(|unproven| {
            let is_present = present == Some(unproven.path);
            unproven.path == to || !is_present
        });
        let unproven = earlier.map(|unproven| unproven.path);
        for path in unproven.into_iter().chain(from) {
            self.farewells.add(path);
        }
        self.farewells.restart(to);
        if from == self.in_use {
            return;
        }
        debug!(?from, ?to, "the peer has moved");
        // Its fate would be mixed with that of the path.
        let (probes, quic) = (&mut self.probes, &mut http.quic);
        http.holding.count(|| probes.cancel(quic));
        self.acked_at_timeout = None;
        let ceiling = http.quic.path_stats().find(|path| path.active);
        let is_same_host = from.is_some_and(|(_, peer)| peer.ip() == to.1.ip());
        self.mtu
            .move_to(ceiling.map_or(BASE, |path| path.pmtu), is_same_host, now);
    }

    /// Whether a new path has not answered its first challenge in time.
    fn is_slow_to_answer(&self) -> bool {
        self.unproven.is_some_and(|unproven| unproven.repeats > 0)
    }

    /// Repeats the challenge that a new path has not answered.
    fn ask_again(&mut self, http: &mut Http, now: Instant) {
        let Some(unproven) = &mut self.unproven else {
            return;
        };
        if unproven.deadline(&http.quic).is_some_and(|due| due <= now) {
            unproven.asked = now;
            unproven.repeats += 1;
            let (local, peer) = unproven.path;
            // Fails only where there is no such path any more.
            let _ = http.quic.probe_path(local, peer);
        }
    }

    /// Looks for what happens seldom. Returns the streams that the peer has stopped so far, if it is
    /// time to ask.
    fn look(&mut self, http: &mut Http, heard: Instant, now: Instant) -> Option<u64> {
        while let Some(event) = http.quic.path_event_next() {
            self.on_event(event, http, now);
        }
        self.mtu.on_time(now);
        self.farewells.on_time(&http.quic, now);
        self.ask_again(http, now);
        if self
            .acked_at_timeout
            .is_some_and(|acked| http.quic.stats().acked_bytes > acked)
        {
            self.acked_at_timeout = None;
            self.mtu.doubt(now);
        }
        let (probes, quic) = (&mut self.probes, &mut http.quic);
        let call = || probes.verdict(quic, heard, now);
        if let Some((size, verdict)) = http.holding.count(call)
            && self.mtu.wanted() == Some(size)
        {
            self.judge(verdict, now);
        }
        let stopped = (heard > self.looked && now >= self.looked + PULSE).then(|| {
            self.looked = now;
            self.find_unproven(http, now);
            let stats = http.quic.stats();
            let lost = Tally {
                packets: stats.lost as u64,
                bytes: stats.lost_bytes,
            };
            let traffic = Traffic {
                long: self.long,
                short: self.short,
                lost,
                acked: stats.acked_bytes,
            };
            self.mtu.note(traffic, now);
            stats.stopped_stream_count_remote
        });
        self.probe(http, now);
        stopped
    }

    /// Starts a probe, if one is wanted and there is room for it.
    fn probe(&mut self, http: &mut Http, now: Instant) {
        if http.h3.is_none() || self.is_careful() || self.probes.is_busy() {
            return;
        }
        if let Some(size) = self.mtu.wanted()
            && let Err(verdict) = {
                let (probes, quic) = (&mut self.probes, &mut http.quic);
                http.holding.count(|| probes.start(quic, size, now))
            }
        {
            self.judge(verdict, now);
        }
    }

    fn judge(&mut self, verdict: Verdict, now: Instant) {
        let before = self.mtu.size();
        self.mtu.judge(verdict, now);
        let after = self.mtu.size();
        if before != after {
            debug!(before, after, "the longest packet that the path carries");
        }
    }
}

impl Connection {
    /// Whether the peer has come back to a path that was given up. quiche has no path to send on
    /// then until it sends, and takes the next packet for an error.
    pub(crate) fn is_without_path(&mut self, now: Instant) -> bool {
        let is_without = self.path.had_failure && self.http.quic.send_quantum() == 0;
        if is_without {
            self.path.find_unproven(&self.http, now);
        }
        is_without
    }

    /// Lets quiche fall back to another path when it is without one still: the congestion window of
    /// the path that was given up may have no room for the packet that would have given it back.
    pub(crate) fn fall_back(&mut self) {
        if self.path.had_failure && self.http.quic.send_quantum() == 0 {
            self.path.on_timeout(&mut self.http);
        }
    }

    /// Makes the next packet to be sent.
    pub(crate) fn next_packet(
        &mut self,
        space: &mut [u8],
        now: Instant,
    ) -> quiche::Result<(usize, SendInfo)> {
        self.path.next_packet(&mut self.http, space, now)
    }

    /// What could be sent was sent: the rest waits.
    pub(crate) fn note_waiting(&mut self) {
        let left = self.http.quic.dgram_send_queue_len();
        self.http.waiting.set(left);
    }

    /// Follows the path. Every flow is asked once when the longest datagram has changed: a flow
    /// that has nothing to send has no other way to learn of it.
    pub(super) fn look_after_path(&mut self, cx: &mut TurnCx<'_>) {
        let stopped = self.path.look(&mut self.http, self.last_received, cx.now);
        if let Some(stopped) = stopped {
            self.http.set_watermark();
            if std::mem::replace(&mut self.stopped, stopped) != stopped {
                self.find_stopped(cx);
            }
        }
        let (before, after) = (self.http.packet_len, self.path.mtu.size());
        if before == after {
            return;
        }
        self.http.packet_len = after;
        if after < before {
            self.drop_datagrams_above(after);
        }
        let tunnels = self.streams.iter().filter(|(_, s)| s.tunnel.is_some());
        let tunnels: Vec<u64> = tunnels.map(|(id, _)| *id).collect();
        for id in tunnels {
            self.poll_flow(id);
        }
    }

    /// While long packets are lost anyway, or may not be sent for longer than a moment, short ones do
    /// not wait behind them.
    pub(super) fn drop_doubted(&mut self) {
        if self.path.mtu.is_doubted() || self.path.is_slow_to_answer() {
            self.drop_datagrams_above(BASE);
        }
    }

    /// Datagrams that no packet will carry would hold up those behind them.
    fn drop_datagrams_above(&mut self, packet_len: usize) {
        let max_len = self.http.datagram_len_in(packet_len);
        let quic = &mut self.http.quic;
        let before = quic.dgram_send_queue_len();
        quic.dgram_purge_outgoing(|datagram| datagram.as_ref().len() > max_len);
        let dropped = before - quic.dgram_send_queue_len();
        if let Role::Server(server) = &self.role {
            server.count_dropped(dropped as u64);
        }
    }
}
