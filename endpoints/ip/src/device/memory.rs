//! An interface in memory, for tests: no privilege, no kernel.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use pasque::{Batch, Packet};
use rustix::io::Errno;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{PacketDevice, Reads};

/// Packets that wait in each direction at most: the queue of a TUN interface.
const QUEUE_LEN: usize = 1000;

/// The device of a pair.
#[derive(Debug)]
pub struct MemoryDevice {
    mtu: usize,
    from_host: Mutex<Receiver<Packet>>,
    to_host: Sender<Packet>,
}

/// The host behind a [`MemoryDevice`]. When it is dropped, the interface is gone.
#[derive(Debug)]
pub struct MemoryPeer {
    to_device: Sender<Packet>,
    from_device: Receiver<Packet>,
}

impl MemoryDevice {
    /// A device of `mtu` bytes and its host.
    pub fn pair(mtu: usize) -> (Self, MemoryPeer) {
        let (to_device, from_host) = channel(QUEUE_LEN);
        let (to_host, from_device) = channel(QUEUE_LEN);
        let device = Self {
            mtu,
            from_host: Mutex::new(from_host),
            to_host,
        };
        let peer = MemoryPeer {
            to_device,
            from_device,
        };
        (device, peer)
    }
}

impl PacketDevice for MemoryDevice {
    fn mtu(&self) -> usize {
        self.mtu
    }

    fn poll_recv(&self, cx: &mut Context<'_>, reads: &mut Reads) -> Poll<io::Result<()>> {
        let mut from_host = self
            .from_host
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = reads.len();
        while !reads.is_full() {
            match from_host.poll_recv(cx) {
                Poll::Ready(Some(packet)) => reads.push(packet.into()),
                _ if reads.len() > before => break,
                Poll::Ready(None) => return Poll::Ready(Err(Errno::NODEV.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn try_send(&self, batch: &mut Batch) -> io::Result<()> {
        if self.to_host.is_closed() {
            return Err(Errno::NODEV.into());
        }
        let mut refused = Vec::new();
        for packet in batch.drain() {
            if let Err(TrySendError::Full(packet)) = self.to_host.try_send(packet) {
                refused.push(packet);
            }
        }
        for packet in refused {
            let pushed = batch.push(packet);
            debug_assert!(pushed.is_ok());
        }
        Ok(())
    }
}

impl MemoryPeer {
    /// Sends a packet through the interface, as the host's IP stack would.
    ///
    /// # Errors
    /// The packet, when the device's queue is full or the device was dropped.
    pub fn send(&self, packet: Packet) -> Result<(), Packet> {
        self.to_device
            .try_send(packet)
            .map_err(|error| match error {
                TrySendError::Full(packet) | TrySendError::Closed(packet) => packet,
            })
    }

    /// The next packet that came out of the tunnel; `None` once the device was dropped.
    pub async fn recv(&mut self) -> Option<Packet> {
        self.from_device.recv().await
    }

    /// A packet that came out of the tunnel already.
    pub fn try_recv(&mut self) -> Option<Packet> {
        self.from_device.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use pasque::BATCH_LEN;

    use super::*;

    async fn receive(device: &MemoryDevice) -> io::Result<Vec<u8>> {
        let mut reads = Reads::default();
        poll_fn(|cx| device.poll_recv(cx, &mut reads)).await?;
        Ok(reads.drain().flatten().map(|packet| packet[0]).collect())
    }

    #[tokio::test]
    async fn packets_pass_in_order_both_ways() {
        let (device, mut peer) = MemoryDevice::pair(1400);
        assert_eq!(device.mtu(), 1400);
        assert!(receive(&device).now_or_never().is_none());
        for n in 0..70 {
            peer.send(Packet::copy_from(&[n])).unwrap();
        }
        assert_eq!(receive(&device).await.unwrap(), Vec::from_iter(0..64));
        assert_eq!(receive(&device).await.unwrap(), Vec::from_iter(64..70));

        let mut batch = Batch::new();
        batch.push(Packet::copy_from(b"one")).unwrap();
        batch.push(Packet::copy_from(b"two")).unwrap();
        device.try_send(&mut batch).unwrap();
        assert!(batch.is_empty());
        assert_eq!(&peer.recv().await.unwrap()[..], b"one");
        assert_eq!(&peer.try_recv().unwrap()[..], b"two");
        assert!(peer.try_recv().is_none());
    }

    #[tokio::test]
    async fn what_finds_no_room_stays_in_the_batch_and_a_dropped_host_is_an_error() {
        let (device, mut peer) = MemoryDevice::pair(1400);
        let mut batch = Batch::new();
        let mut sent = 0;
        while batch.is_empty() && sent < 2 * QUEUE_LEN {
            for _ in 0..BATCH_LEN {
                batch.push(Packet::copy_from(&[sent as u8])).unwrap();
                sent += 1;
            }
            device.try_send(&mut batch).unwrap();
        }
        assert_eq!(sent - batch.len(), QUEUE_LEN);
        assert_eq!(batch.as_slice()[0][0], QUEUE_LEN as u8);
        peer.recv().await.unwrap();
        let left = batch.len();
        device.try_send(&mut batch).unwrap();
        assert_eq!(batch.len(), left - 1);

        drop(peer);
        assert!(receive(&device).await.is_err());
        assert!(device.try_send(&mut batch).is_err());
    }
}
