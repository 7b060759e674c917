//! A pair of sockets that keeps messages apart stands for the kernel's side of the descriptor.

use std::future::poll_fn;
use std::task::Waker;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::io::write;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use tokio::time::{Instant, timeout};

use super::*;
use crate::device::offload::tests::Sender;
use crate::device::offload::{Checksum, Segmentation};

struct Host(OwnedFd);

impl Host {
    fn pair() -> (OffloadDevice, Self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, host) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let device = OffloadDevice::register(fd.into(), true, Mtu::default()).unwrap();
        (device, Self(host))
    }

    /// Hands over `payload` in one UDP super-packet.
    fn send(&self, payload: &[u8], segment_len: u16) {
        let header = VirtioHeader {
            segmentation: Segmentation::Udp,
            checksum: Some(Checksum {
                start: 20,
                offset: 6,
            }),
            headers_len: 28,
            segment_len,
        };
        let mut ip = [0; 28];
        ip[0] = 0x45;
        let bytes = [&header.encode()[..], &ip, payload].concat();
        assert_eq!(write(&self.0, &bytes).unwrap(), bytes.len());
    }

    fn recv(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; READ_LEN];
        let len = read(&self.0, &mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }
}

async fn receive(device: &OffloadDevice) -> io::Result<Vec<Vec<u8>>> {
    let mut reads = Reads::default();
    let received = poll_fn(|cx| device.poll_recv(cx, &mut reads));
    timeout(Duration::from_secs(10), received).await.unwrap()?;
    let packets = reads.drain().flatten();
    Ok(packets.map(|packet| packet[28..].to_vec()).collect())
}

fn batch(packets: impl IntoIterator<Item = Packet>) -> Batch {
    let mut batch = Batch::new();
    for packet in packets {
        batch.push(packet).unwrap();
    }
    batch
}

#[tokio::test]
async fn a_super_packet_comes_whole_and_whatever_fits_beside_it() {
    let (device, host) = Host::pair();
    assert!(receive(&device).now_or_never().is_none());
    let payload: Vec<u8> = (0..1500_u32).map(|n| (n / 10) as u8).collect();
    host.send(&payload, 10);
    host.send(b"later", 1000);
    let mut received = Vec::new();
    for expected in [150, 1] {
        let packets = receive(&device).await.unwrap();
        assert_eq!(packets.len(), expected);
        received.extend(packets.concat());
    }
    assert_eq!(received, [&payload[..], b"later"].concat());
    assert!(receive(&device).now_or_never().is_none());
}

/// The clock stands still, and would go on if anything waited for it.
#[tokio::test(start_paused = true)]
async fn ip_65_a_packet_alone_is_received_and_sent_at_once() {
    let (device, host) = Host::pair();
    let before = Instant::now();
    host.send(b"alone", 1000);
    assert_eq!(receive(&device).await.unwrap(), [b"alone"]);
    assert_eq!(Instant::now(), before);
    let mut batch = batch([Packet::copy_from(b"alone")]);
    device.try_send(&mut batch).unwrap();
    assert!(batch.is_empty());
    assert_eq!(host.recv().unwrap(), [&[0; 10][..], b"alone"].concat());
}

#[tokio::test]
async fn every_packet_has_headroom() {
    let (device, host) = Host::pair();
    host.send(&[7; 3000], 1000);
    let mut reads = Reads::default();
    poll_fn(|cx| device.poll_recv(cx, &mut reads))
        .await
        .unwrap();
    for mut packet in reads.drain().flatten() {
        let before = packet.as_ptr();
        packet.prepend(&[0; pasque::HEADROOM]);
        packet.advance(pasque::HEADROOM);
        assert_eq!(packet.as_ptr(), before);
    }
}

#[tokio::test]
async fn what_cannot_be_a_packet_is_counted_and_passed_over() {
    let (device, host) = Host::pair();
    write(&host.0, b"short").unwrap();
    write(&host.0, &[0xff; 100]).unwrap();
    host.send(b"good", 0);
    host.send(b"good", 100);
    assert_eq!(receive(&device).await.unwrap(), [b"good"]);
    assert_eq!(device.refused(), 3);
}

#[tokio::test]
async fn what_finds_no_room_stays_and_goes_later_in_order() {
    let (device, host) = Host::pair();
    sockopt::set_socket_send_buffer_size(device.fd.get_ref(), 4096).unwrap();
    let mut sent = 0..;
    let mut left = batch([]);
    while left.is_empty() && sent.start < 9999 {
        left = batch(
            sent.by_ref()
                .take(BATCH_LEN)
                .map(|n: u16| Packet::copy_from(&n.to_be_bytes())),
        );
        device.try_send(&mut left).unwrap();
    }
    let mut received = Vec::new();
    while let Some(bytes) = host.recv() {
        received.push(bytes[10..].to_vec());
    }
    assert_eq!(received.len() + left.len(), usize::from(sent.start));
    device.try_send(&mut left).unwrap();
    while let Some(bytes) = host.recv() {
        received.push(bytes[10..].to_vec());
    }
    let all: Vec<_> = (0..sent.start - left.len() as u16)
        .map(|n| n.to_be_bytes().to_vec())
        .collect();
    assert_eq!(received, all);
    assert_eq!(device.refused(), 0);
}

/// Of the kernel a socket's limit is the likeness that can be had: it refuses what is long.
#[tokio::test]
async fn what_is_refused_together_is_written_one_by_one() {
    let (device, host) = Host::pair();
    sockopt::set_socket_send_buffer_size(device.fd.get_ref(), 4096).unwrap();
    let packets = Sender::default().stream(3, 5000);
    let alone: Vec<Vec<u8>> = packets.iter().map(|packet| packet.to_vec()).collect();
    let mut batch = batch(packets);
    let mut received = Vec::new();
    // The socket has room for one at a time, and never takes two together.
    for _ in 0..alone.len() {
        device.try_send(&mut batch).unwrap();
        while let Some(bytes) = host.recv() {
            received.push(bytes[10..].to_vec());
        }
    }
    assert!(batch.is_empty());
    assert_eq!(received, alone);
    assert_eq!(device.refused(), 0);
}

/// In one message, with the payload where the packets have it.
#[tokio::test]
async fn a_stream_is_written_as_one_super_packet() {
    let (device, host) = Host::pair();
    let packets = Sender::default().stream(20, 1000);
    let expected: Vec<Vec<u8>> = packets.iter().map(|packet| packet.to_vec()).collect();
    let mut batch = batch(packets);
    device.try_send(&mut batch).unwrap();
    assert!(batch.is_empty());
    let written = host.recv().unwrap();
    let split = Split::new(&written).unwrap();
    assert_eq!(
        split.map(|packet| packet.to_vec()).collect::<Vec<_>>(),
        expected
    );
    assert!(host.recv().is_none());
}

#[tokio::test]
async fn the_end_is_told_and_waited_for_no_longer() {
    let (device, host) = Host::pair();
    host.send(b"last", 100);
    drop(host);
    assert_eq!(receive(&device).await.unwrap(), [b"last"]);
    for _ in 0..2 {
        let mut cx = Context::from_waker(Waker::noop());
        let polled = device.poll_recv(&mut cx, &mut Reads::default());
        assert!(matches!(polled, Poll::Ready(Err(_))));
    }
}
