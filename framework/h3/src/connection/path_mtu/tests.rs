use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const FULL: usize = 1452;
const STEP: Duration = Duration::from_millis(50);

/// A path in numbers: what is sent on it is lost or not, and told a round trip later.
struct Link {
    path: PathMtu,
    now: Instant,
    /// The longest packet that passes.
    mtu: usize,
    /// The share of packets that are lost, whatever their length.
    loss: f64,
    rtt: Duration,
    is_up: bool,
    allows_probes: bool,
    random: StdRng,
    traffic: Traffic,
    /// Losses and bytes that arrived, which are not known yet.
    under_way: VecDeque<(Instant, Tally, u64)>,
    probe: Option<(Instant, usize, Verdict)>,
    probes: usize,
    doubts: usize,
}

impl Link {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let now = Instant::now();
        let mut path = PathMtu::new(BASE);
        path.set_ceiling(FULL, now);
        Self {
            path,
            now,
            mtu: FULL,
            loss: 0.0,
            rtt: Duration::from_millis(100),
            is_up: true,
            allows_probes: true,
            random: StdRng::seed_from_u64(seed),
            traffic: Traffic::default(),
            under_way: VecDeque::new(),
            probe: None,
            probes: 0,
            doubts: 0,
        }
    }

    fn loses(&mut self, len: usize) -> bool {
        !self.is_up || len > self.mtu || self.random.random_bool(self.loss)
    }

    /// Lets 50 ms pass, in which `long` packets of the full length are sent and `short` ones.
    fn step(&mut self, long: usize, short: usize) {
        let (mut sent, mut lost, mut acked) = (self.traffic, Tally::default(), 0);
        let full = match self.path.is_doubted() {
            true => BASE,
            false => self.path.size(),
        };
        let lens = std::iter::repeat_n(full, long);
        for len in lens.chain(std::iter::repeat_n(100, short)) {
            match len > BASE {
                true => sent.long.add(len),
                false => sent.short.add(len),
            }
            match self.loses(len) {
                true => lost.add(len),
                false => acked += len as u64,
            }
        }
        self.traffic = sent;
        self.under_way.push_back((self.now + self.rtt, lost, acked));
        self.now += STEP;
        if !self.is_up {
            // Nothing is acknowledged, so nothing is known to be lost.
            return;
        }
        while let Some((_, lost, acked)) = self.under_way.pop_front_if(|(at, ..)| *at <= self.now) {
            self.traffic.lost.packets += lost.packets;
            self.traffic.lost.bytes += lost.bytes;
            self.traffic.acked += acked;
        }
        self.judge();
        self.path.on_time(self.now);
        let was_doubted = self.path.is_doubted();
        self.path.note(self.traffic, self.now);
        self.doubts += usize::from(self.path.is_doubted() && !was_doubted);
        self.probe();
    }

    fn judge(&mut self) {
        if let Some((_, size, verdict)) = self.probe.take_if(|(at, ..)| *at <= self.now)
            && self.path.wanted() == Some(size)
        {
            self.path.judge(verdict, self.now);
        }
    }

    fn probe(&mut self) {
        let Some(size) = self.path.wanted().filter(|_| self.probe.is_none()) else {
            return;
        };
        let (after, verdict) = match (self.allows_probes, self.loses(size)) {
            (false, _) => (Duration::from_secs(1), Verdict::Impossible),
            (true, true) => (self.rtt * 2, Verdict::Lost),
            (true, false) => (self.rtt, Verdict::Came),
        };
        self.probes += 1;
        self.probe = Some((self.now + after, size, verdict));
    }

    /// Runs with this traffic until the size is `size`, and returns how long that took.
    fn until(&mut self, size: usize, long: usize, short: usize) -> Duration {
        let start = self.now;
        while self.path.size() != size || self.path.wanted().is_some() {
            assert!(
                self.now - start < Duration::from_secs(1000),
                "never {size}: {:?}",
                self.path
            );
            self.step(long, short);
        }
        self.now - start
    }

    fn run(&mut self, time: Duration, long: usize, short: usize) {
        let end = self.now + time;
        while self.now < end {
            self.step(long, short);
        }
    }
}

#[test]
fn threat_42_a_path_that_has_become_narrow_is_noticed_and_its_size_found() {
    for (mtu, size) in [(1451, 1440), (1400, 1400), (1330, 1320), (1231, 1200)] {
        for (long, short, at_most) in [(100, 0, 3), (10, 10, 3), (1, 200, 4)] {
            let mut link = Link::new(1);
            link.run(Duration::from_secs(30), long, short);
            link.mtu = mtu;
            let took = link.until(size, long, short);
            println!("{mtu}: {took:?}");
            assert!(took < Duration::from_secs(at_most), "{mtu}: {took:?}");
        }
    }
}

#[test]
fn threat_42_a_few_long_packets_among_many_short_ones_are_enough() {
    // As of a download inside the tunnel, where now and then something is sent the other way.
    let mut link = Link::new(2);
    link.loss = 0.01;
    link.run(Duration::from_secs(30), 0, 50);
    link.mtu = 1330;
    let start = link.now;
    while link.path.size() == FULL {
        link.step(1, 25);
        link.run(Duration::from_millis(450), 0, 250);
    }
    let took = link.now - start;
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn threat_42_five_percent_of_loss_for_hours_lower_nothing() {
    for seed in 0..20 {
        let mut link = Link::new(seed);
        link.loss = 0.05;
        for _ in 0..360 {
            // Twenty seconds of each: bulk, a conversation, and next to nothing.
            let long = [0, 1, 1, 3, 30, 300][link.random.random_range(0..6)];
            let short = [0, 1, 10, 100][link.random.random_range(0..4)];
            for _ in 0..400 {
                let now = link.random.random_range(0..=long);
                link.step(now, short);
                assert_eq!(link.path.size(), FULL, "seed {seed}: {:?}", link.path);
            }
        }
        println!("{} doubts in two hours", link.doubts);
        assert!(link.doubts < 100);
    }
}

#[test]
fn threat_42_an_outage_is_not_a_narrow_path() {
    let mut link = Link::new(3);
    for outage in [1, 2, 5, 10, 60] {
        link.run(Duration::from_secs(10), 20, 20);
        link.is_up = false;
        link.run(Duration::from_secs(outage), 1, 1);
        link.is_up = true;
        link.run(Duration::from_secs(10), 20, 20);
        assert_eq!(link.path.size(), FULL, "after {outage} s");
    }
}

#[test]
fn threat_42_losses_in_bursts_lower_nothing() {
    let mut link = Link::new(4);
    for _ in 0..1000 {
        link.loss = 0.9;
        link.run(Duration::from_millis(150), 20, 20);
        link.loss = 0.0;
        link.run(Duration::from_millis(850), 20, 20);
        assert_eq!(link.path.size(), FULL, "{:?}", link.path);
    }
}

#[test]
fn a_path_that_carries_more_again_is_used_again() {
    let mut link = Link::new(5);
    link.mtu = 1300;
    link.until(1280, 10, 10);
    // A little more, then all of it.
    for (mtu, size) in [(1380, 1360), (FULL, FULL)] {
        link.mtu = mtu;
        let before = link.path.size();
        link.run(RAISE - Duration::from_secs(1), 10, 10);
        assert_eq!(link.path.size(), before);
        assert!(link.until(size, 10, 10) < Duration::from_secs(3));
    }
    assert_eq!(link.path.deadline(), None, "there is no more to be had");
    assert_eq!(link.path.cap(), usize::MAX);
}

#[test]
fn a_path_that_stays_narrow_is_asked_ever_more_seldom() {
    let mut link = Link::new(6);
    link.mtu = 1300;
    link.until(1280, 10, 10);
    let mut probes = link.probes;
    // Two each after 1, 3, 7, 15, 31 times of the first pause, then every 24.
    for (times, at_most) in [(15, 8), (40, 4), (96, 8)] {
        link.run(RAISE * times, 10, 10);
        assert_eq!(link.path.size(), 1280);
        let sent = link.probes - std::mem::replace(&mut probes, link.probes);
        assert!((2..=at_most).contains(&sent), "{sent} in {times} times");
    }
}

#[test]
fn a_peer_that_allows_no_probes_is_believed_after_some_time() {
    let mut link = Link::new(7);
    link.allows_probes = false;
    link.mtu = 1330;
    let took = link.until(BASE, 10, 10);
    assert!(took < Duration::from_secs(10), "{took:?}");

    let mut link = Link::new(8);
    link.allows_probes = false;
    link.loss = 0.05;
    for _ in 0..1000 {
        link.run(Duration::from_secs(1), 10, 10);
        assert_eq!(link.path.size(), FULL);
    }
}

#[test]
fn another_port_keeps_the_size_and_another_host_does_not() {
    let mut link = Link::new(9);
    link.mtu = 1370;
    link.until(1360, 10, 10);
    link.path.move_to(FULL, true, link.now);
    assert_eq!((link.path.size(), link.path.wanted()), (1360, None));

    link.path.move_to(FULL, false, link.now);
    assert_eq!((link.path.size(), link.path.wanted()), (BASE, Some(1232)));
    link.mtu = 1400;
    assert!(link.until(1400, 10, 10) < Duration::from_secs(2));
}

#[test]
fn what_quiche_finds_is_the_limit() {
    let now = Instant::now();
    let mut path = PathMtu::new(BASE);
    assert_eq!((path.size(), path.cap()), (BASE, usize::MAX));
    path.set_ceiling(1390, now);
    assert_eq!((path.size(), path.cap()), (1390, usize::MAX));
    // A size between two steps is tried when it is all that is left.
    path.move_to(1390, false, now);
    for size in [1232, 1280, 1320, 1360, 1390] {
        assert_eq!(path.wanted(), Some(size));
        path.judge(Verdict::Came, now);
    }
    assert_eq!((path.size(), path.wanted()), (1390, None));
    assert_eq!(path.deadline(), None);
}
