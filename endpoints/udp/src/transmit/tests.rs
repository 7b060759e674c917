use rustix::io::Errno;

use super::*;
use crate::testing::{Fake, FakeSocket};

/// The length of one send, and that of its segments.
type Lens = (usize, Option<usize>);

struct Direct(FakeSocket);

impl Route for Direct {
    fn sink(&self) -> &dyn Sink {
        &self.0
    }
}

fn packets(lens: &[usize]) -> Vec<Packet> {
    let packet = |(at, &len): (usize, &usize)| Packet::copy_from(&vec![at as u8; len]);
    lens.iter().enumerate().map(packet).collect()
}

fn transmit(lens: &[usize], fake: &Fake) -> (io::Result<()>, Counters) {
    let mut route = Direct(fake.socket(([192, 0, 2, 1], 9).into()));
    let mut counters = Counters::default();
    let result = send_batch(&packets(lens), &mut route, &mut counters);
    (result, counters)
}

fn sends(fake: &Fake) -> Vec<Lens> {
    fake.lock()
        .sends
        .iter()
        .map(|(contents, len)| (contents.len(), *len))
        .collect()
}

#[test]
fn neighbours_of_one_length_leave_together() {
    let table: [(&[usize], &[Lens]); 9] = [
        (&[], &[]),
        (&[9], &[(9, None)]),
        (&[9, 9, 9], &[(27, Some(9))]),
        (&[9, 9, 4], &[(22, Some(9))]),
        (&[9, 9, 4, 4], &[(22, Some(9)), (4, None)]),
        (&[4, 9, 9], &[(4, None), (18, Some(9))]),
        (&[0, 0, 9], &[(0, None), (0, None), (9, None)]),
        (&[9, 9, 0], &[(18, Some(9)), (0, None)]),
        (&[40_000, 40_000], &[(40_000, None), (40_000, None)]),
    ];
    for (lens, expected) in table {
        let fake = Fake::default();
        let (result, counters) = transmit(lens, &fake);
        result.unwrap();
        assert_eq!(sends(&fake), expected, "{lens:?}");
        assert_eq!(counters.sent, lens.len() as u64);
        let expected: Vec<_> = packets(lens).iter().map(|packet| packet.to_vec()).collect();
        assert_eq!(fake.sent(), expected, "{lens:?}");
    }
}

#[test]
fn a_run_stops_at_the_segments_and_the_bytes_that_one_send_takes() {
    let fake = Fake::default();
    fake.lock().max_segments = 3;
    transmit(&[9; 7], &fake).0.unwrap();
    assert_eq!(sends(&fake), [(27, Some(9)), (27, Some(9)), (9, None)]);

    let fake = Fake::default();
    transmit(&[1400; 64], &fake).0.unwrap();
    assert_eq!(
        sends(&fake),
        [(46 * 1400, Some(1400)), (18 * 1400, Some(1400))]
    );
}

#[test]
fn a_refused_offload_becomes_single_sends() {
    for errno in [Errno::IO, Errno::INVAL, Errno::MSGSIZE] {
        let fake = Fake::default();
        fake.lock().send_errors = [Some(errno)].into();
        let (result, counters) = transmit(&[9, 9, 4], &fake);
        result.unwrap();
        assert_eq!(sends(&fake), [(9, None), (9, None), (4, None)]);
        assert_eq!(
            (counters.sent, counters.failed, counters.too_long_outward),
            (3, 0, 0)
        );
    }
}

#[test]
fn udp_21_an_error_costs_one_datagram() {
    type Counter = fn(&Counters) -> u64;
    let table: [(Errno, Counter); 8] = [
        (Errno::MSGSIZE, |counters| counters.too_long_outward),
        (Errno::NOBUFS, |counters| counters.no_buffer),
        (Errno::AGAIN, |counters| counters.no_buffer),
        (Errno::NOMEM, |counters| counters.no_buffer),
        (Errno::PERM, |counters| counters.denied),
        (Errno::NETDOWN, |counters| counters.link_down),
        (Errno::IO, |counters| counters.failed),
        (Errno::INVAL, |counters| counters.failed),
    ];
    for (errno, counter) in table {
        let fake = Fake::default();
        fake.lock().send_errors = [None, Some(errno)].into();
        let (result, counters) = transmit(&[1, 2, 3], &fake);
        result.unwrap();
        assert_eq!(fake.sent(), [vec![0; 1], vec![2; 3]], "{errno:?}");
        assert_eq!((counters.sent, counter(&counters)), (2, 1), "{errno:?}");
    }
}

#[test]
fn udp_21_news_of_an_earlier_datagram_costs_none() {
    for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH] {
        let fake = Fake::default();
        fake.lock().send_errors = [None, Some(errno), None].into();
        let (result, counters) = transmit(&[1, 2, 3], &fake);
        result.unwrap();
        assert_eq!(fake.sent().len(), 3, "{errno:?}");
        assert_eq!((counters.sent, counters.unreachable), (3, 1));

        // Without a route it fails again at once.
        let fake = Fake::default();
        fake.lock().send_errors = [Some(errno), Some(errno)].into();
        let (result, counters) = transmit(&[1, 2], &fake);
        result.unwrap();
        assert_eq!(fake.sent(), [vec![1; 2]]);
        assert_eq!((counters.sent, counters.unreachable), (1, 2));
    }
}

#[test]
fn a_run_that_cannot_be_sent_is_counted_whole() {
    let fake = Fake::default();
    fake.lock().send_errors = [Some(Errno::AGAIN)].into();
    let (result, counters) = transmit(&[9, 9, 9], &fake);
    result.unwrap();
    assert_eq!((counters.sent, counters.no_buffer), (0, 3));
}

#[test]
fn udp_20_an_unusable_socket_is_an_error() {
    for errno in [Errno::BADF, Errno::NOTSOCK, Errno::NOTCONN, Errno::PIPE] {
        for lens in [&[1][..], &[9, 9]] {
            let fake = Fake::default();
            fake.lock().send_errors = [Some(errno)].into();
            assert!(transmit(lens, &fake).0.is_err(), "{errno:?}");
        }
    }
}
