//! Packets with a long header: what a connection begins with.

use std::time::Instant;

use quiche::{RecvInfo, SendInfo};

use super::Worker;
use crate::cid::Cid;
use crate::connection::{Buffers, Role};
use crate::listener::Verdict;
use crate::mailbox::{Adoption, Message};

/// The transport error for a client that has no place (RFC 9000 §20.1).
const CONNECTION_REFUSED: u64 = 0x02;

impl Worker {
    /// A packet of a handshake, or no QUIC at all.
    pub(super) fn on_long(
        &mut self,
        info: RecvInfo,
        packet: &mut [u8],
        now: Instant,
        is_foreign: bool,
    ) -> Option<usize> {
        let len = packet.len();
        let header = quiche::Header::from_slice(packet, crate::settings::CID_LEN).ok()?;
        let cid = Cid::copy_from(&header.dcid);
        if let Some(slot) = self.routes.get(&cid) {
            return Some(slot);
        }
        if !is_foreign && let Some(worker) = self.elsewhere.get(&cid) {
            self.pass_on(worker, info, packet, len);
            return None;
        }
        // The type of a packet is known only where its version is.
        let is_known = quiche::version_is_supported(header.version);
        if is_known && header.ty != quiche::Type::Initial {
            if !is_foreign {
                self.hand_over(cid, info, packet, len);
            }
            return None;
        }
        let is_stopping = self.drain_until.is_some();
        let home = self.home(is_foreign);
        let listener = self.listener.as_mut().filter(|_| !is_stopping)?;
        let verdict = listener.judge(&header, info, len, now, home, self.output.buffer());
        match verdict {
            Verdict::Drop => None,
            Verdict::Reply(len) => {
                let info = SendInfo {
                    from: info.to,
                    to: info.from,
                    at: now,
                };
                self.output.send_one(&mut self.socket, len, &info);
                None
            }
            Verdict::Accept {
                cid,
                original,
                place,
            } => {
                let accepted = match &original {
                    Some(original) => quiche::accept_with_retry::<Buffers>(
                        &cid.to_quiche(),
                        quiche::RetryConnectionIds {
                            original_destination_cid: &original.to_quiche(),
                            retry_source_cid: &header.dcid,
                        },
                        info.to,
                        info.from,
                        &mut self.quic,
                    ),
                    None => quiche::accept_with_buf_factory::<Buffers>(
                        &cid.to_quiche(),
                        None,
                        info.to,
                        info.from,
                        &mut self.quic,
                    ),
                };
                let first = Cid::copy_from(&header.dcid);
                let mut quic = accepted.ok()?;
                listener.prepare(quic.as_mut());
                let Some(place) = place else {
                    self.refuse(quic, packet, info);
                    return None;
                };
                let side = listener.server_side(place);
                if home != self.index {
                    let packet = packet.to_vec();
                    self.give_away(
                        home,
                        Adoption {
                            cid,
                            first,
                            quic,
                            side,
                            packet,
                            info,
                        },
                        now,
                    );
                    return None;
                }
                let slot = self.insert(cid, quic, Role::Server(side), now);
                // Until it knows ours, the client sends to the ID that it chose.
                self.routes.insert(first, slot);
                Some(slot)
            }
        }
    }

    /// The worker for a new connection: the one that has the fewest. Only where its packets will come to it.
    fn home(&self, is_foreign: bool) -> u8 {
        let listener = self.listener.as_ref();
        if is_foreign || !listener.is_some_and(|listener| listener.is_steered) {
            return self.index;
        }
        let (mut home, mut fewest) = (self.index, self.mailbox.connections());
        for (index, worker) in (0..=u8::MAX).zip(self.workers.iter()) {
            let connections = worker.connections();
            if connections < fewest {
                (home, fewest) = (index, connections);
            }
        }
        home
    }

    /// Gives a connection to another worker, and what the client sends before it knows that.
    fn give_away(&mut self, home: u8, adoption: Adoption, now: Instant) {
        let Some(mailbox) = self.workers.get(usize::from(home)) else {
            return;
        };
        let kept = self.limits.handshake_timeout;
        self.elsewhere.insert(adoption.first, home, now, kept);
        // Counted at once: the next one is for somebody else.
        mailbox.count_connection();
        mailbox.push(Message::Adopt(Box::new(adoption)));
    }

    /// Takes a connection that began at another worker.
    pub(super) fn adopt(&mut self, adoption: Adoption, now: Instant) {
        let Adoption {
            cid,
            first,
            quic,
            side,
            mut packet,
            info,
        } = adoption;
        let slot = self.insert(cid, quic, Role::Server(side), now);
        // It was counted when it was given away.
        self.mailbox.uncount_connection();
        self.routes.insert(first, slot);
        self.receive(slot, info, &mut packet, now);
    }

    /// Tells a client that there is no place for it, and keeps nothing.
    fn refuse(&mut self, mut quic: quiche::Connection<Buffers>, packet: &mut [u8], info: RecvInfo) {
        let received = quic.recv(packet, info);
        let closed = quic.close(false, CONNECTION_REFUSED, b"too many connections");
        if received.is_ok()
            && closed.is_ok()
            && let Ok((len, info)) = quic.send(self.output.buffer())
        {
            self.output.send_one(&mut self.socket, len, &info);
        }
    }
}
