//! A TUN interface that moves one packet per system call.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pasque::{Batch, HEADROOM, Packet};
use rustix::io::Errno;
use tokio_tun::Tun;

use super::readiness::Readiness;
use super::refusal::Refusal;
use super::{Mtu, PacketDevice, Reads};

/// What one read asks for at least, in bytes: a block of the pool. It takes every packet of a tunnel,
/// also one that was queued before the MTU was lowered.
const MIN_READ_LEN: usize = 2048 - HEADROOM;

/// A queue of a TUN interface without offloads.
pub(super) struct PlainDevice {
    tun: Readiness<Arc<Tun>>,
    mtu: Mtu,
    refused: AtomicU64,
}

impl PlainDevice {
    pub(super) fn register(tun: Arc<Tun>, mtu: Mtu) -> io::Result<Self> {
        Ok(Self {
            tun: Readiness::register(tun)?,
            mtu,
            refused: AtomicU64::new(0),
        })
    }
}

impl PacketDevice for PlainDevice {
    fn mtu(&self) -> usize {
        self.mtu.get()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>> {
        let len = self.mtu().max(MIN_READ_LEN);
        self.tun.poll_fill(cx, reads, &self.refused, |reads| {
            let mut packet = Packet::with_len(len);
            let read = self.tun.get_ref().try_recv(&mut packet)?;
            if read == 0 {
                return Err(Errno::NODEV.into());
            }
            packet.truncate(read);
            reads.push(packet.into());
            Ok(1)
        })
    }

    fn try_send(&self, batch: &mut Batch) -> io::Result<()> {
        let mut sent = 0;
        for packet in batch.iter() {
            if let Err(error) = self.tun.get_ref().try_send(packet) {
                match Refusal::of(&error) {
                    Refusal::Later => break,
                    Refusal::Gone => return Err(error),
                    Refusal::Packet => self.refused.fetch_add(1, Ordering::Relaxed),
                };
            }
            sent += 1;
        }
        batch.drop_first(sent);
        Ok(())
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
