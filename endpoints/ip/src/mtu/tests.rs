use super::*;

/// Room for one HTTP Datagram in a QUIC packet (conformance §0.3): a short header with its connection ID
/// and a packet number of 4 bytes, the tag, a DATAGRAM frame with a 2-byte length; then the quarter
/// stream ID.
const fn max_len(udp_payload: usize, cid_len: usize, quarter_len: usize) -> usize {
    udp_payload - 1 - cid_len - 4 - 16 - 3 - quarter_len
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Everything that is due at one moment.
fn duties(guard: &mut PathGuard, now: Instant, max_len: usize, has_ipv6: bool) -> Vec<Duty> {
    std::iter::from_fn(|| guard.check(now, max_len, has_ipv6)).collect()
}

#[test]
fn ip_58_the_mtu_is_what_one_datagram_carries_and_follows_the_path() {
    let now = Instant::now();
    let mut guard = PathGuard::new(false);
    assert_eq!(guard.mtu(), 0);
    assert_eq!(guard.check(now, 0, true), None, "not known yet");
    for (cid_len, mtu) in [(16, 1308), (20, 1304)] {
        let max_len = max_len(1350, cid_len, 1);
        assert_eq!(duties(&mut guard, now, max_len, true), [Duty::SetMtu(mtu)]);
        assert_eq!(guard.mtu(), mtu);
        assert_eq!(duties(&mut guard, now, max_len, true), []);
    }
}

#[test]
fn ip_58_an_interface_with_ipv6_never_gets_less_than_it_needs() {
    let now = Instant::now();
    let mut guard = PathGuard::new(false);
    let narrow = max_len(1200, 8, 1);
    assert_eq!(duties(&mut guard, now, narrow, true), [Duty::SetMtu(1280)]);
    assert_eq!((guard.link_mtu(false), guard.link_mtu(true)), (1166, 1280));
}

#[test]
fn ip_58_capsules_have_no_limit_so_the_mtu_is_that_of_an_ethernet() {
    let mut guard = PathGuard::new(false);
    assert_eq!(
        guard.check(Instant::now(), 65_535 + 8, true),
        Some(Duty::SetMtu(1500))
    );
}

#[test]
fn ip_59_what_the_outer_packet_needs_for_1280_bytes() {
    let now = Instant::now();
    // As many bytes as the checklist says are enough, and one less is not.
    for (cid_len, quarter_len, needed) in [(20, 1, 1326), (20, 8, 1333)] {
        let is_enough = |udp_payload| {
            let mut guard = PathGuard::new(true);
            let max_len = max_len(udp_payload, cid_len, quarter_len);
            duties(&mut guard, now, max_len, true).contains(&Duty::SendEcho { sequence: 1 })
        };
        assert!(is_enough(needed));
        assert!(!is_enough(needed - 1));
    }
}

#[test]
fn ip_60_an_echo_without_answer_is_sent_again_and_then_the_tunnel_ends() {
    let start = Instant::now();
    let mut guard = PathGuard::new(true);
    assert_eq!(
        duties(&mut guard, start, 1309, true),
        [Duty::SetMtu(1308), Duty::SendEcho { sequence: 1 }]
    );
    for seconds in 1..5 {
        let before = start + secs(seconds) - Duration::from_millis(1);
        assert_eq!(duties(&mut guard, before, 1309, true), []);
        assert_eq!(
            duties(&mut guard, start + secs(seconds), 1309, true),
            [Duty::SendEcho {
                sequence: seconds as u16 + 1
            }]
        );
    }
    assert_eq!(
        guard.check(start + secs(5), 1309, true),
        Some(Duty::Abort(PathFailure::NoEcho))
    );
}

#[test]
fn ip_60_an_answer_to_any_of_the_echoes_is_proof() {
    let start = Instant::now();
    for answered in 1..=3 {
        let mut guard = PathGuard::new(true);
        for seconds in 0..3 {
            duties(&mut guard, start + secs(seconds), 1309, true);
        }
        assert!(guard.is_waiting());
        assert!(!guard.take_answer(0));
        assert!(!guard.take_answer(4), "not sent yet");
        assert!(guard.take_answer(answered));
        assert!(!guard.take_answer(answered), "asked for once");
        assert_eq!(duties(&mut guard, start + secs(60), 1309, true), []);
    }
}

#[test]
fn ip_60_no_echo_without_ipv6_or_when_the_path_is_known_by_other_means() {
    let start = Instant::now();
    for (prove, has_ipv6) in [(true, false), (false, true)] {
        let mut guard = PathGuard::new(prove);
        for seconds in 0..60 {
            let due = duties(&mut guard, start + secs(seconds), 1309, has_ipv6);
            assert!(due.iter().all(|duty| matches!(duty, Duty::SetMtu(_))));
        }
    }
}

#[test]
fn ip_60_another_path_is_proven_anew() {
    let start = Instant::now();
    let mut guard = PathGuard::new(true);
    duties(&mut guard, start, 1309, true);
    assert!(guard.take_answer(1));
    duties(&mut guard, start + secs(10), 1170, true);
    let due = duties(&mut guard, start + secs(12), 1309, true);
    assert!(due.contains(&Duty::SendEcho { sequence: 1 }));
}

#[test]
fn ip_61_a_path_that_stays_too_narrow_for_ipv6_ends_the_tunnel() {
    let start = Instant::now();
    let mut guard = PathGuard::new(true);
    let narrow = max_len(1200, 8, 1);
    for milliseconds in (0..5000).step_by(100) {
        let now = start + Duration::from_millis(milliseconds);
        let due = duties(&mut guard, now, narrow, true);
        assert!(due.iter().all(|duty| matches!(duty, Duty::SetMtu(_))));
    }
    let abort = guard.check(start + secs(5), narrow, true);
    let Some(Duty::Abort(failure)) = abort else {
        panic!("{abort:?}");
    };
    assert_eq!(failure, PathFailure::Narrow { mtu: 1166 });
    assert!(
        failure
            .to_string()
            .contains("1166 bytes, but IPv6 needs 1280")
    );
}

#[test]
fn ip_61_discovery_has_five_seconds_at_the_start_and_after_every_change() {
    let start = Instant::now();
    let mut guard = PathGuard::new(false);
    duties(&mut guard, start, 1167, true);
    duties(&mut guard, start + secs(4), 1309, true);
    assert_eq!(duties(&mut guard, start + secs(60), 1309, true), []);
    duties(&mut guard, start + secs(61), 1167, true);
    assert_eq!(duties(&mut guard, start + secs(65), 1167, true), []);
    assert_eq!(
        guard.check(start + secs(66), 1167, true),
        Some(Duty::Abort(PathFailure::Narrow { mtu: 1166 }))
    );
}

#[test]
fn ip_61_a_tunnel_without_ipv6_goes_on() {
    let start = Instant::now();
    let mut guard = PathGuard::new(true);
    // By the length of the connection ID: 0 to 20 bytes.
    for (cid_len, mtu) in [(0, 1174), (8, 1166), (20, 1154)] {
        let max_len = max_len(1200, cid_len, 1);
        assert_eq!(
            duties(&mut guard, start, max_len, false),
            [Duty::SetMtu(mtu)]
        );
        assert_eq!(duties(&mut guard, start + secs(60), max_len, false), []);
    }
    // With an address of IPv6, the five seconds begin.
    assert_eq!(duties(&mut guard, start + secs(60), 1155, true), []);
    assert!(guard.check(start + secs(65), 1155, true).is_some());
}

#[test]
fn checks_are_rare_once_nothing_happens() {
    let start = Instant::now();
    let mut guard = PathGuard::new(true);
    assert_eq!(guard.next_check(start), secs(1), "nothing is known yet");
    duties(&mut guard, start, 1309, true);
    assert_eq!(
        guard.next_check(start + secs(11)),
        secs(1),
        "an echo is out"
    );
    guard.take_answer(1);
    assert_eq!(guard.next_check(start + secs(9)), secs(1));
    assert_eq!(guard.next_check(start + secs(11)), secs(10));
}
