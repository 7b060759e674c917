//! From the interface to the peer.

use pasque::{FlowCx, Packet, Result};

use super::core::Core;
use super::{Role, context};
use crate::device::Load;
use crate::filter::{DropReason, Rejection};
use crate::icmp::{self, Problem};
use crate::mtu::MIN_MTU_V6;
use crate::packet::{self, Header};

impl<R: Role> Core<R> {
    /// Judges what was read from the interface, and sends what there is room for.
    pub(super) fn take_reads(&mut self, cx: &mut FlowCx<'_>) {
        let mut reads = std::mem::take(&mut self.reads);
        self.counters.inward.received += reads.len() as u64;
        for mut load in reads.drain() {
            // The packets of a super-packet are what it is.
            let count = load.packets() as u64;
            let header = match packet::parse(load.whole()) {
                Ok(header) => header,
                Err(malformed) => {
                    self.counters.inward.drop_many(count, malformed.into());
                    continue;
                }
            };
            load.truncate(header.total_len);
            match self.role.inward(load.whole(), &header) {
                Ok(()) => self.queue(load, &header, cx),
                Err(Rejection { reason, problem }) => {
                    self.counters.inward.drop_many(count, reason);
                    if let Some(problem) = problem {
                        self.tell_host(problem, load.whole(), &header);
                    }
                }
            }
        }
        self.reads = reads;
    }

    /// Sends what there is room for, behind what waits.
    #[inline]
    fn queue(&mut self, mut load: Load, header: &Header, cx: &mut FlowCx<'_>) {
        if self.backlog.is_empty() {
            while cx.room() > 0
                && let Some(packet) = load.next()
            {
                self.send(packet, cx);
            }
        }
        if !load.is_empty() {
            let now = self.now();
            self.backlog.push(load, header, now);
        }
    }

    /// Sends a packet to the peer, for which there is room.
    #[inline]
    fn send(&mut self, mut packet: Packet, cx: &mut FlowCx<'_>) {
        if context::datagram_len(packet.len()) > cx.max_len() {
            return self.refuse(&packet, cx.max_len());
        }
        context::add(&mut packet);
        cx.send(packet);
        self.counters.inward.passed += 1;
    }

    /// Tells the sender of a packet that no datagram carries it.
    #[cold]
    fn refuse(&mut self, packet: &[u8], max_len: usize) {
        self.counters.inward.drop_one(DropReason::TooBig);
        let Ok(header) = packet::parse(packet) else {
            return;
        };
        let mtu = max_len.saturating_sub(context::datagram_len(0)) as u32;
        // RFC 8200 §5: no IPv6 host takes less for an answer.
        let mtu = if header.is_v6() {
            mtu.max(MIN_MTU_V6)
        } else {
            mtu
        };
        self.tell_host(Problem::TooBig { mtu }, packet, &header);
    }

    /// Sends of what waits as much as there is room for.
    pub(super) fn send_backlog(&mut self, cx: &mut FlowCx<'_>) {
        while cx.room() > 0 && !self.backlog.is_empty() {
            let now = self.now();
            match self.backlog.pop(now) {
                Some(packet) => self.send(packet, cx),
                None => break,
            }
        }
        self.backlog.settle();
        let late = self.backlog.take_dropped();
        self.counters.inward.drop_many(late, DropReason::QueueFull);
    }

    /// Tells the sender of a packet from the interface why it is dropped.
    ///
    /// The error is from where the packet was to go: the kernel would not believe one from an address of
    /// its own.
    #[cold]
    fn tell_host(&mut self, problem: Problem, packet: &[u8], header: &Header) {
        let now = self.now();
        if !self.errors.admit(now) {
            return;
        }
        if let Some(error) = icmp::error(problem, packet, header, header.destination)
            && self.replies.push(error).is_ok()
        {
            self.counters.errors_sent += 1;
        }
    }

    pub(super) fn send_replies(&mut self) -> Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let mut replies = std::mem::take(&mut self.replies);
        let sent = self.device.try_send(&mut replies);
        self.refused_by_kernel = self.device.refused();
        // An error that is lost will be made again.
        replies.clear();
        self.replies = replies;
        sent.map_err(|error| self.lose_device(error))
    }
}
