//! From the interface to the peer.

use pasque::{FlowCx, Packet, Result};

use super::core::Core;
use super::{Role, context};
use crate::filter::{DropReason, Rejection};
use crate::icmp::{self, Problem};
use crate::mtu::MIN_MTU_V6;
use crate::packet::{self, Header};

impl<R: Role> Core<R> {
    /// Judges what was read from the interface, and sends what there is room for.
    pub(super) fn take_read(&mut self, cx: &mut FlowCx<'_>) {
        let mut read = std::mem::take(&mut self.read);
        self.counters.inward.received += read.len() as u64;
        for mut packet in read.drain() {
            let header = match packet::parse(&packet) {
                Ok(header) => header,
                Err(malformed) => {
                    self.counters.inward.drop_one(malformed.into());
                    continue;
                }
            };
            packet.truncate(header.total_len);
            match self.role.inward(&packet, &header) {
                Ok(()) => self.send(packet, &header, cx),
                Err(Rejection { reason, problem }) => {
                    self.counters.inward.drop_one(reason);
                    if let Some(problem) = problem {
                        self.tell_host(problem, &packet, &header);
                    }
                }
            }
        }
        self.read = read;
    }

    /// Sends a packet to the peer, now or when there is room.
    #[inline]
    fn send(&mut self, mut packet: Packet, header: &Header, cx: &mut FlowCx<'_>) {
        if context::datagram_len(packet.len()) > cx.max_len() {
            self.counters.inward.drop_one(DropReason::TooBig);
            let mtu = cx.max_len().saturating_sub(context::datagram_len(0)) as u32;
            // RFC 8200 §5: no IPv6 host takes less for an answer.
            let mtu = if header.is_v6() {
                mtu.max(MIN_MTU_V6)
            } else {
                mtu
            };
            self.tell_host(Problem::TooBig { mtu }, &packet, header);
        } else if cx.room() > 0 {
            context::add(&mut packet);
            cx.send(packet);
            self.counters.inward.passed += 1;
        } else {
            self.waiting.push_back(packet);
        }
    }

    /// Sends what the last turn had no room for.
    pub(super) fn send_waiting(&mut self, cx: &mut FlowCx<'_>) {
        while cx.room() > 0
            && let Some(packet) = self.waiting.pop_front()
        {
            // The limit may have shrunk since the packet was read.
            match packet::parse(&packet) {
                Ok(header) => self.send(packet, &header, cx),
                Err(malformed) => self.counters.inward.drop_one(malformed.into()),
            }
        }
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
