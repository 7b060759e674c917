use super::*;

/// How many tokens are there at `now`.
fn drain(limit: &mut RateLimit, now: Instant) -> usize {
    (0..100).filter(|_| limit.take(now)).count()
}

#[test]
fn udp_47_a_burst_of_ten_and_then_ten_per_second() {
    let begin = Instant::now();
    let mut limit = RateLimit::new(begin);
    assert_eq!(drain(&mut limit, begin), 10);
    assert_eq!(drain(&mut limit, begin + Duration::from_millis(99)), 0);
    assert_eq!(drain(&mut limit, begin + Duration::from_millis(100)), 1);
    assert_eq!(drain(&mut limit, begin + Duration::from_millis(350)), 2);
    assert_eq!(drain(&mut limit, begin + Duration::from_millis(400)), 1);
    assert_eq!(drain(&mut limit, begin + Duration::from_secs(3600)), 10);
}

#[test]
fn udp_47_a_flood_gets_no_more_than_the_rate() {
    let begin = Instant::now();
    let mut limit = RateLimit::new(begin);
    let times = (0..10_000).map(|ms| begin + Duration::from_millis(ms));
    assert_eq!(times.filter(|now| limit.take(*now)).count(), 10 + 99);
}
