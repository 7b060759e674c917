use rustix::io::Errno;

use super::*;
use crate::testing::{Fake, FakeNetwork};

const FIRST: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    53,
);
const SECOND: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)),
    53,
);

fn hosts() -> (Fake, Fake, Arc<FakeNetwork>) {
    let (first, second) = (Fake::default(), Fake::default());
    let network = FakeNetwork::new(&[(FIRST, &first), (SECOND, &second)]);
    (first, second, network)
}

#[test]
fn udp_13_an_address_without_a_route_is_passed_over() {
    let (first, _, network) = hosts();
    first.lock().dial_errors = [Errno::NETUNREACH].into();
    let candidates = Candidates::open([FIRST, SECOND], network).unwrap();
    assert_eq!(candidates.address(), SECOND);
}

#[test]
fn udp_16_the_first_error_is_told_when_no_address_works() {
    let (first, second, network) = hosts();
    first.lock().dial_errors = [Errno::NETUNREACH].into();
    second.lock().dial_errors = [Errno::ADDRNOTAVAIL].into();
    let error = Candidates::open([FIRST, SECOND], network.clone()).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NETUNREACH));
    assert!(Candidates::open([], network).is_err());
}

#[test]
fn udp_16_without_descriptors_no_other_address_is_tried() {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS] {
        let (first, second, network) = hosts();
        first.lock().dial_errors = [errno].into();
        let error = Candidates::open([FIRST, SECOND], network).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(errno));
        assert_eq!(second.lock().dials, 0);
        assert_eq!(pasque::Error::from(error).status(), 503);
    }
}

#[test]
fn candidates_take_turns_until_one_has_answered() {
    let (first, second, network) = hosts();
    let mut candidates = Candidates::open([FIRST, SECOND], network).unwrap();
    let mut counters = Counters::default();
    for expected in [SECOND, FIRST, SECOND] {
        candidates.give_up(&mut counters);
        assert_eq!(candidates.address(), expected);
        assert_eq!(first.lock().open + second.lock().open, 1);
    }
    // One that has no route now is passed over, and the present one kept.
    first.lock().dial_errors = [Errno::NETUNREACH].into();
    candidates.give_up(&mut counters);
    assert_eq!(candidates.address(), SECOND);
    candidates.keep();
    candidates.give_up(&mut counters);
    assert_eq!(candidates.address(), SECOND);
    assert_eq!(counters.switched, 3);
}
