use std::net::SocketAddr;

use std::task::Waker;

use pasque::{Outbox, Packet};
use rustix::io::Errno;
use tokio::time::{advance, pause};

use super::*;
use crate::testing::{Fake, FakeIcmp, FakeNetwork, LOCAL_ADDRESS, Read};

const MAX_LEN: usize = 1320;
const IDLE: Duration = Duration::from_secs(300);

/// A flow with what an engine would lend it.
struct Driver {
    flow: UdpFlow,
    outbox: Outbox,
}

impl Driver {
    fn new(hosts: &[(SocketAddr, &Fake)]) -> Self {
        let addresses = hosts.iter().map(|(address, _)| *address);
        let target = Candidates::open(addresses, FakeNetwork::new(hosts)).unwrap();
        Self {
            flow: UdpFlow::new(target, IDLE),
            outbox: Outbox::default(),
        }
    }

    fn to(fake: &Fake) -> Self {
        Self::new(&[(address(1), fake)])
    }

    /// A tunnel whose target is told by `icmp`.
    fn with_reports(fake: &Fake, icmp: &Arc<FakeIcmp>) -> Self {
        let driver = Self::to(fake);
        Self {
            flow: driver.flow.with_reports(icmp.clone()),
            ..driver
        }
    }

    /// Hands over datagrams that have their context ID already.
    fn deliver(&mut self, datagrams: &[&[u8]]) -> Result<()> {
        let mut batch = Batch::new();
        for datagram in datagrams {
            batch.push(Packet::copy_from(datagram)).unwrap();
        }
        let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), BATCH_LEN, MAX_LEN);
        self.flow.on_datagrams(&mut batch, &mut cx)
    }

    fn poll(&mut self, room: usize) -> Poll<Result<()>> {
        self.poll_with(room, MAX_LEN)
    }

    fn poll_with(&mut self, room: usize, max_len: usize) -> Poll<Result<()>> {
        let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), room, max_len);
        self.flow.poll_outbound(&mut cx)
    }

    fn out(&mut self) -> Vec<Vec<u8>> {
        self.outbox
            .packets
            .drain(..)
            .map(|packet| packet.to_vec())
            .collect()
    }

    fn counters(&self) -> Counters {
        *self.flow.counters()
    }
}

fn address(host: u8) -> SocketAddr {
    ([192, 0, 2, host], 53).into()
}

#[tokio::test]
async fn udp_40_payloads_pass_as_they_are() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    driver.deliver(&[b"\0", b"\0hi", b"\x40\0hi"]).unwrap();
    assert_eq!(fake.sent(), [b"".to_vec(), b"hi".to_vec(), b"hi".to_vec()]);

    for payload in [&b""[..], b"hi"] {
        fake.answer(payload, payload.len());
    }
    assert!(driver.poll(64).is_pending());
    assert_eq!(driver.out(), [b"\0".to_vec(), b"\0hi".to_vec()]);
}

#[tokio::test]
async fn udp_43_unknown_contexts_do_not_reach_the_target() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    driver
        .deliver(&[b"\x02hi", b"\x05hi", b"", b"\0ok"])
        .unwrap();
    assert_eq!(fake.sent(), [b"ok"]);
    assert_eq!(
        (
            driver.counters().unknown_context,
            driver.counters().no_context
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn udp_18_what_others_sent_before_is_dropped() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    fake.read(Read::Datagrams {
        from: Some(address(9)),
        contents: b"abcdef".to_vec(),
        segment_len: 2,
    });
    fake.answer(b"hi", 2);
    assert!(driver.poll(64).is_pending());
    assert_eq!(driver.out(), [b"\0hi"]);
    assert_eq!(
        (driver.counters().foreign, driver.counters().received),
        (3, 1)
    );
}

#[tokio::test]
async fn udp_46_what_no_datagram_carries_is_dropped_and_counted() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    for len in [2000, MAX_LEN, MAX_LEN - 1] {
        fake.answer(&vec![7; len], len);
    }
    assert!(driver.poll(64).is_pending());
    assert_eq!(
        driver.out().iter().map(Vec::len).collect::<Vec<_>>(),
        [MAX_LEN]
    );
    assert_eq!(driver.counters().too_long_inward, 2);
    assert!(driver.outbox.capsules.is_empty());
}

#[tokio::test]
async fn udp_47_the_target_is_told_of_what_is_too_long_and_of_nothing_else() {
    let (fake, icmp) = (Fake::default(), Arc::default());
    let mut driver = Driver::with_reports(&fake, &icmp);
    for len in [MAX_LEN - 1, MAX_LEN, 0] {
        fake.answer(&vec![7; len], len);
    }
    assert!(driver.poll(64).is_pending());
    assert_eq!(driver.out().len(), 2);
    let too_long = TooLong {
        from: address(1),
        to: LOCAL_ADDRESS.into(),
        payload: &[7; MAX_LEN],
        max_payload_len: MAX_LEN - 1,
    };
    let expected = (address(1), too_long.message().unwrap());
    assert_eq!(*icmp.sent.lock().unwrap(), [expected]);
    assert_eq!(driver.counters().too_long_inward, 1);
    assert_eq!(driver.counters().too_long_reported, 1);
}

#[tokio::test]
async fn udp_47_a_limit_that_shrinks_is_told_as_it_is_now() {
    let (fake, icmp) = (Fake::default(), Arc::default());
    let mut driver = Driver::with_reports(&fake, &icmp);
    fake.answer(&[7; 2 * 1200], 1200);
    assert!(driver.poll(1).is_pending());
    assert_eq!(driver.out().len(), 1);
    // The other one waits, and when its turn comes the path carries less.
    assert!(driver.poll_with(64, 1001).is_pending());
    assert_eq!(driver.out().len(), 0);
    let sent = icmp.sent.lock().unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1[6..8], 1028_u16.to_be_bytes());
}

#[tokio::test]
async fn udp_47_a_target_that_does_not_listen_is_told_ten_times_a_second() {
    pause();
    let (fake, icmp) = (Fake::default(), Arc::<FakeIcmp>::default());
    let mut driver = Driver::with_reports(&fake, &icmp);
    for expected in [10, 20, 30] {
        for _ in 0..50 {
            fake.answer(&[7; 2000], 2000);
        }
        assert!(driver.poll(64).is_pending());
        assert_eq!(icmp.sent.lock().unwrap().len(), expected);
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(driver.counters().too_long_inward, 150);
    assert_eq!(driver.counters().too_long_reported, 30);
}

#[tokio::test]
async fn udp_47_a_message_that_cannot_be_sent_harms_nothing() {
    let (fake, icmp) = (Fake::default(), Arc::<FakeIcmp>::default());
    let mut driver = Driver::with_reports(&fake, &icmp);
    *icmp.errors.lock().unwrap() = [Errno::PERM].into();
    fake.answer(&[7; 2000], 2000);
    fake.answer(b"hi", 2);
    assert!(driver.poll(64).is_pending());
    assert_eq!(driver.out(), [b"\0hi"]);
    assert_eq!(driver.counters().too_long_inward, 1);
    assert_eq!(driver.counters().too_long_reported, 0);
}

#[tokio::test]
async fn a_read_that_is_more_than_the_room_loses_nothing() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    let contents: Vec<u8> = (0..64).flat_map(|n| [n; 100]).collect();
    fake.answer(&contents, 100);
    fake.answer(b"last", 4);
    let mut seen = Vec::new();
    for room in [0, 1, 10, 30, 64, 64] {
        assert!(driver.poll(room).is_pending());
        let out = driver.out();
        assert!(out.len() <= room);
        seen.extend(out);
    }
    let mut expected: Vec<_> = (0..64).map(|n| [&[0][..], &[n; 100]].concat()).collect();
    expected.push(b"\0last".to_vec());
    assert_eq!(seen, expected);
    assert_eq!(driver.outbox.dropped_no_room, 0);
}

#[tokio::test]
async fn what_many_slow_tunnels_have_no_room_for_stays_in_the_kernel() {
    let fakes: Vec<_> = (0..16).map(|_| Fake::default()).collect();
    let mut drivers: Vec<_> = fakes.iter().map(Driver::to).collect();
    for fake in &fakes {
        for _ in 0..256 {
            fake.answer(b"late", 4);
        }
    }
    for _ in 0..4 {
        for driver in &mut drivers {
            assert!(driver.poll(0).is_pending());
        }
    }
    let unread = || {
        fakes
            .iter()
            .map(|fake| fake.lock().reads.len())
            .sum::<usize>()
    };
    assert_eq!(unread(), 2048, "half of what there is");
    // Where there is room, all of it is read.
    for _ in 0..8 {
        for driver in &mut drivers {
            assert!(driver.poll(64).is_pending());
        }
    }
    assert_eq!(unread(), 0);
    let sent = drivers.iter_mut().map(|driver| driver.out().len());
    assert_eq!(sent.sum::<usize>(), 16 * 256);
}

#[tokio::test]
async fn a_turn_is_bounded() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    for _ in 0..1000 {
        fake.answer(b"", 0);
    }
    assert!(driver.poll(1000).is_pending());
    assert_eq!(driver.out().len(), BATCH_LEN);
}

#[tokio::test]
async fn udp_20_an_unusable_socket_ends_the_stream() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    fake.lock().send_errors = [Some(Errno::NOTCONN)].into();
    let error = driver.deliver(&[b"\0hi"]).unwrap_err();
    assert_eq!(error.stream_error().code(), 0x010f);
    drop(driver);

    let mut driver = Driver::to(&fake);
    fake.read(Read::Error(Errno::BADF));
    let Poll::Ready(Err(error)) = driver.poll(64) else {
        panic!("the flow lives on");
    };
    assert_eq!(error.stream_error().code(), 0x010f);
    drop(driver);
    assert_eq!(fake.lock().open, 0);
}

#[tokio::test]
async fn udp_20_a_socket_that_only_fails_ends_the_stream() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    for _ in 0..MAX_FAILED_READS - 1 {
        fake.read(Read::Error(Errno::INVAL));
    }
    while !fake.lock().reads.is_empty() {
        assert!(driver.poll(64).is_pending());
    }
    for _ in 0..MAX_FAILED_READS {
        fake.read(Read::Error(Errno::INVAL));
    }
    assert!(driver.poll(64).is_pending());
    let Poll::Ready(Err(error)) = driver.poll(64) else {
        panic!("the flow lives on");
    };
    assert_eq!(error.stream_error().code(), 0x010f);
}

#[tokio::test]
async fn udp_20_a_link_that_stays_down_ends_the_stream() {
    pause();
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    let down = || [Some(Errno::NETDOWN)].into();
    fake.lock().send_errors = down();
    driver.deliver(&[b"\0hi"]).unwrap();
    advance(LINK_PATIENCE / 2).await;
    driver.deliver(&[b"\0hi"]).unwrap();

    // It was up again for a moment: a new count begins.
    fake.lock().send_errors = down();
    driver.deliver(&[b"\0hi"]).unwrap();
    advance(LINK_PATIENCE * 3 / 4).await;
    fake.lock().send_errors = down();
    driver.deliver(&[b"\0hi"]).unwrap();
    advance(LINK_PATIENCE / 4).await;
    fake.lock().send_errors = down();
    let error = driver.deliver(&[b"\0hi"]).unwrap_err();
    assert_eq!(error.stream_error().code(), 0x010f);
    assert_eq!(driver.counters().link_down, 4);
}

#[tokio::test]
async fn udp_21_the_tunnel_survives_what_one_datagram_does_not() {
    let errors = [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::MSGSIZE,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::PERM,
        Errno::IO,
        Errno::INVAL,
    ];
    for errno in errors {
        let fake = Fake::default();
        let mut driver = Driver::to(&fake);
        fake.lock().send_errors = [Some(errno), Some(errno)].into();
        driver.deliver(&[b"\0lost"]).unwrap();
        fake.lock().send_errors.clear();
        driver.deliver(&[b"\0hi"]).unwrap();
        assert_eq!(fake.sent(), [b"hi"], "{errno:?}");

        fake.read(Read::Error(errno));
        fake.answer(b"hi", 2);
        assert!(driver.poll(64).is_pending());
        assert_eq!(driver.out(), [b"\0hi"], "{errno:?}");
    }
}

#[tokio::test]
async fn udp_22_silence_ends_the_tunnel_in_order() {
    pause();
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    advance(IDLE - Duration::from_secs(1)).await;
    assert!(driver.poll(64).is_pending());
    driver.deliver(&[b"\0hi"]).unwrap();
    advance(IDLE - Duration::from_secs(1)).await;
    assert!(driver.poll(64).is_pending());
    fake.answer(b"hi", 2);
    assert!(driver.poll(64).is_pending());
    // What is dropped is no use of the tunnel.
    driver.deliver(&[b"\x02hi"]).unwrap();
    advance(IDLE - Duration::from_secs(1)).await;
    driver.deliver(&[b"\x02hi"]).unwrap();
    assert!(driver.poll(64).is_pending());
    advance(Duration::from_secs(2)).await;
    assert!(matches!(driver.poll(64), Poll::Ready(Ok(()))));
    drop(driver);
    assert_eq!(fake.lock().open, 0);
}

#[tokio::test]
async fn a_dead_address_gives_way_to_the_next_one_until_one_has_answered() {
    let (dead, live) = (Fake::default(), Fake::default());
    let mut driver = Driver::new(&[(address(1), &dead), (address(2), &live)]);
    driver.deliver(&[b"\0first"]).unwrap();
    assert_eq!(dead.sent(), [b"first"]);

    // The news comes with the second datagram, which is sent again and not lost.
    dead.lock().send_errors = [Some(Errno::CONNREFUSED)].into();
    driver.deliver(&[b"\0second"]).unwrap();
    assert_eq!(live.sent(), [b"second"]);
    assert_eq!((dead.lock().open, live.lock().open), (0, 1));

    live.answer(b"hi", 2);
    assert!(driver.poll(64).is_pending());
    assert_eq!(driver.out(), [b"\0hi"]);
    live.lock().send_errors = [Some(Errno::CONNREFUSED)].into();
    driver.deliver(&[b"\0third"]).unwrap();
    assert_eq!(live.sent(), [b"second", &b"third"[..]]);
    assert_eq!(driver.counters().switched, 1);
}

#[tokio::test]
async fn a_dead_address_gives_way_when_a_read_says_so() {
    let (dead, live) = (Fake::default(), Fake::default());
    let mut driver = Driver::new(&[(address(1), &dead), (address(2), &live)]);
    dead.read(Read::Error(Errno::HOSTUNREACH));
    live.answer(b"hi", 2);
    assert!(driver.poll(64).is_pending());
    assert_eq!(driver.out(), [b"\0hi"]);
    assert_eq!(driver.flow.target.address(), address(2));
}

#[tokio::test]
async fn udp_33_one_packet_each_way_per_datagram() {
    let fake = Fake::default();
    let mut driver = Driver::to(&fake);
    let datagrams: Vec<_> = (0..64).map(|n| vec![0; 1 + n % 7]).collect();
    let datagrams: Vec<_> = datagrams.iter().map(|datagram| &datagram[..]).collect();
    for _ in 0..10 {
        driver.deliver(&datagrams).unwrap();
        fake.answer(&[7; 64], 1);
        assert!(driver.poll(64).is_pending());
    }
    assert_eq!(fake.sent().len(), 640);
    assert_eq!(driver.out().len(), 640);
    assert_eq!(
        (driver.counters().sent, driver.counters().received),
        (640, 640)
    );
}

#[tokio::test]
async fn udp_45_a_capsule_beyond_the_link_is_skipped() {
    let fake = Fake::default();
    let driver = Driver::to(&fake);
    let admit = |payload_len: u64| {
        let mut decoder = pasque::wire::capsule::CapsuleDecoder::default();
        let head = pasque::wire::capsule::encode_header(0, payload_len as usize + 1);
        let mut input = &[&head[..], b"\0"].concat()[..];
        let mut last = Admit::Peek;
        let _ = decoder.next(&mut input, |kind, len, start| {
            last = driver.flow.admit_capsule(kind, len, start);
            last
        });
        last
    };
    assert_eq!(admit(1472), Admit::Buffer);
    assert_eq!(admit(1473), Admit::Skip);
    assert_eq!(admit(65_528), Admit::Reject);
}

#[tokio::test]
async fn a_refusing_target_with_one_address_is_kept() {
    let fake = Fake::default();
    let target = Candidates::open([address(1)], FakeNetwork::new(&[(address(1), &fake)])).unwrap();
    let mut driver = Driver {
        flow: UdpFlow::new(target, IDLE),
        outbox: Outbox::default(),
    };
    for _ in 0..100 {
        fake.lock().send_errors = [Some(Errno::CONNREFUSED)].into();
        driver.deliver(&[b"\0hi"]).unwrap();
    }
    assert_eq!(fake.sent().len(), 100);
    assert_eq!((fake.lock().dials, driver.counters().unreachable), (1, 100));
}
