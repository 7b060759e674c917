//! Packets with a long header: what a connection begins with.

use std::time::Instant;

use quiche::{RecvInfo, SendInfo};

use super::Worker;
use crate::cid::Cid;
use crate::connection::{Buffers, Role};
use crate::listener::Verdict;

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
        // The type of a packet is known only where its version is.
        let is_known = quiche::version_is_supported(header.version);
        if is_known && header.ty != quiche::Type::Initial {
            if !is_foreign {
                self.hand_over(cid, info, packet, len);
            }
            return None;
        }
        let is_stopping = self.drain_until.is_some();
        let listener = self.listener.as_mut().filter(|_| !is_stopping)?;
        let verdict = listener.judge(&header, info, len, now, self.index, self.output.buffer());
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
                let role = Role::Server(listener.server_side(place));
                let slot = self.insert(cid, quic, role, now);
                // Until it knows ours, the client sends to the ID that it chose.
                self.routes.insert(first, slot);
                Some(slot)
            }
        }
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
