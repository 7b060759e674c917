use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::ErrorLimiter;

#[test]
fn ip_53_a_hundred_bad_packets_a_second_make_ten_errors_a_second() {
    let start = Instant::now();
    let mut limiter = ErrorLimiter::default();
    for second in 0..5 {
        let admitted = (0..100)
            .map(|n| start + Duration::from_millis(second * 1000 + n * 10))
            .filter(|now| limiter.admit(*now))
            .count();
        assert_eq!(admitted, 10, "second {second}");
    }
}

#[test]
fn ip_53_ten_errors_may_come_at_once() {
    let now = Instant::now();
    let mut limiter = ErrorLimiter::default();
    assert_eq!((0..100).filter(|_| limiter.admit(now)).count(), 10);
    assert!(!limiter.admit(now + Duration::from_millis(999)));
    let later = now + Duration::from_secs(1);
    assert_eq!((0..100).filter(|_| limiter.admit(later)).count(), 10);
}

#[test]
fn ip_53_a_few_errors_are_never_held_back() {
    let start = Instant::now();
    let mut limiter = ErrorLimiter::default();
    assert!((0..1000).all(|n| limiter.admit(start + Duration::from_millis(n * 100))));
}

#[test]
fn ip_53_a_clock_that_goes_back_admits_nothing_more() {
    let now = Instant::now() + Duration::from_secs(10);
    let mut limiter = ErrorLimiter::default();
    assert_eq!((0..100).filter(|_| limiter.admit(now)).count(), 10);
    assert!(!limiter.admit(now - Duration::from_secs(5)));
}

proptest! {
    #[test]
    fn ip_53_no_second_sees_more_than_ten(gaps in prop::collection::vec(0..300_u64, 1..300)) {
        let mut now = Instant::now();
        let mut limiter = ErrorLimiter::default();
        let mut admitted: Vec<Instant> = Vec::new();
        for gap in gaps {
            now += Duration::from_millis(gap);
            let recent = admitted.iter().filter(|at| now - **at < Duration::from_secs(1)).count();
            prop_assert!(recent <= 10);
            // It holds back no more than it must.
            prop_assert_eq!(limiter.admit(now), recent < 10);
            if recent < 10 {
                admitted.push(now);
            }
        }
    }
}
