//! A TUN interface that moves super-packets.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pasque::{BATCH_LEN, Batch, Packet};
use rustix::io::{Errno, read, retry_on_intr, writev};

use super::offload::buffers::{self, READ_LEN};
use super::offload::{Coalescer, Head, Run, Split, SuperPacket, VirtioHeader};
use super::readiness::Readiness;
use super::refusal::Refusal;
use super::{Load, Mtu, PacketDevice, Reads};

/// A super-packet of at most so many bytes is copied out of its buffer, which is of 64 KiB: so that
/// what waits takes the memory that it needs.
const SMALL: usize = 16 << 10;

thread_local! {
    /// Where super-packets are read to: one per thread, not per device, as there may be a device per
    /// tunnel. Empty until the first read.
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };

    static COALESCER: RefCell<Coalescer> = RefCell::default();
}

/// A queue of a TUN interface whose reads and writes have a virtio header in front.
pub(super) struct OffloadDevice {
    fd: Readiness<Arc<OwnedFd>>,
    /// Whether the kernel takes UDP datagrams together.
    udp: bool,
    mtu: Mtu,
    refused: AtomicU64,
}

impl OffloadDevice {
    pub(super) fn register(fd: Arc<OwnedFd>, udp: bool, mtu: Mtu) -> io::Result<Self> {
        Ok(Self {
            fd: Readiness::register(fd)?,
            udp,
            mtu,
            refused: AtomicU64::new(0),
        })
    }

    /// One system call; returns how many packets it stands for.
    fn read(&self, reads: &mut Reads) -> io::Result<usize> {
        READ.with_borrow_mut(|buffer| {
            if buffer.len() != READ_LEN {
                *buffer = buffers::take();
            }
            let len = read(self.fd.get_ref(), &mut buffer[..])?;
            if len == 0 {
                return Err(Errno::NODEV.into());
            }
            let Ok(mut split) = Split::new(buffer.get(..len).unwrap_or_default()) else {
                self.refuse(1);
                return Ok(0);
            };
            let (count, progress) = (split.len(), split.progress());
            let load = if count == 1 {
                split.next().map(Load::from)
            } else {
                Some(Load::of_super(SuperPacket::new(
                    take_out(buffer, len),
                    progress,
                )))
            };
            load.into_iter().for_each(|load| reads.push(load));
            Ok(count)
        })
    }

    /// Writes a run, in one system call if the kernel takes it so.
    ///
    /// # Errors
    /// There is no room, or no interface any more. What was written before is in `written`.
    fn write(
        &self,
        coalescer: &Coalescer,
        run: &Run,
        packets: &[Packet],
        written: &mut Written,
    ) -> io::Result<()> {
        let mut head: Head = [0; _];
        let mut slices = [IoSlice::new(&[]); BATCH_LEN + 1];
        let count = coalescer.gather(run, packets, &mut head, &mut slices);
        let together = self.writev(slices.get(..count).unwrap_or_default());
        if let (Err(Errno::INVAL | Errno::MSGSIZE), 2..) = (together, run.count()) {
            let head = VirtioHeader::default().encode();
            for index in coalescer.members(run) {
                let packet = packets.get(index).map_or(&[][..], |packet| &packet[..]);
                let alone = self.writev(&[IoSlice::new(&head), IoSlice::new(packet)]);
                self.settle(alone, 1)?;
                written.note(index);
            }
            return Ok(());
        }
        self.settle(together, run.count())?;
        coalescer.members(run).for_each(|index| written.note(index));
        Ok(())
    }

    fn writev(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        retry_on_intr(|| writev(self.fd.get_ref(), slices))
    }

    /// Counts what the kernel refuses for itself, so that it is settled too.
    fn settle(&self, written: Result<usize, Errno>, packets: usize) -> io::Result<()> {
        if let Err(errno) = written {
            let error = io::Error::from(errno);
            match Refusal::of(&error) {
                Refusal::Packet => self.refuse(packets),
                Refusal::Later | Refusal::Gone => return Err(error),
            }
        }
        Ok(())
    }

    fn refuse(&self, packets: usize) {
        self.refused.fetch_add(packets as u64, Ordering::Relaxed);
    }
}

/// Takes the first `len` bytes of `buffer`: with it, or as a copy if they are few.
fn take_out(buffer: &mut Vec<u8>, len: usize) -> Vec<u8> {
    if len <= SMALL {
        return buffer.get(..len).unwrap_or_default().to_vec();
    }
    let mut taken = std::mem::take(buffer);
    taken.truncate(len);
    taken
}

/// Which packets of a batch need not be written again.
struct Written([bool; BATCH_LEN]);

impl Written {
    fn note(&mut self, index: usize) {
        if let Some(is_written) = self.0.get_mut(index) {
            *is_written = true;
        }
    }
}

impl PacketDevice for OffloadDevice {
    fn mtu(&self) -> usize {
        self.mtu.get()
    }

    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>> {
        self.fd
            .poll_fill(cx, reads, &self.refused, |reads| self.read(reads))
    }

    fn try_send(&self, batch: &mut Batch) -> io::Result<()> {
        COALESCER.with_borrow_mut(|coalescer| {
            let packets = batch.as_slice();
            let mut written = Written([false; BATCH_LEN]);
            coalescer.arrange(packets, self.udp);
            for run in coalescer.runs() {
                match self.write(coalescer, run, packets, &mut written) {
                    Ok(()) => {}
                    Err(error) if Refusal::of(&error) == Refusal::Later => break,
                    Err(error) => return Err(error),
                }
            }
            let mut written = written.0.into_iter();
            batch.retain(|_| !written.next().unwrap_or(false));
            Ok(())
        })
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
