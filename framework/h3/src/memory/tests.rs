use super::*;

const BUDGET: u64 = 100 << 20;

/// The step at `percent` of the budget.
fn at(memory: &Memory, percent: u64) -> Step {
    memory.judge(BUDGET / 100 * percent, BUDGET)
}

#[test]
fn each_step_begins_at_its_share_and_ends_some_way_below() {
    let memory = Memory::default();
    for (percent, step) in [
        (79, Step::None),
        (80, Step::Connections),
        (89, Step::Connections),
        (90, Step::Idle),
        (94, Step::Idle),
        (95, Step::Tunnels),
        (99, Step::Tunnels),
        (100, Step::Heavy),
        (1000, Step::Heavy),
        (95, Step::Heavy),
        (94, Step::Tunnels),
        (90, Step::Tunnels),
        (89, Step::Idle),
        (85, Step::Idle),
        (84, Step::Connections),
        (75, Step::Connections),
        (74, Step::None),
        (79, Step::None),
        (95, Step::Tunnels),
        (10, Step::None),
    ] {
        assert_eq!(at(&memory, percent), step, "{percent} %");
        assert_eq!(memory.step(), step);
    }
}

#[test]
fn what_keeps_a_step_is_asked_back_as_what_begins_one() {
    let memory = Memory::default();
    let is_short = |memory: &Memory, percent| memory.is_short(BUDGET / 100 * percent, BUDGET);
    assert!(!is_short(&memory, 77) && is_short(&memory, 80));
    at(&memory, 84);
    assert!(is_short(&memory, 77) && !is_short(&memory, 74));
}

#[test]
fn what_is_refused_is_counted() {
    let memory = Memory::default();
    assert!(!memory.refuses_connection() && !memory.refuses_tunnel());
    at(&memory, 90);
    assert!(memory.refuses_connection() && !memory.refuses_tunnel());
    at(&memory, 95);
    assert!(memory.refuses_connection() && memory.refuses_tunnel());
    assert_eq!(memory.refused_connections.load(Ordering::Relaxed), 2);
    assert_eq!(memory.refused_tunnels.load(Ordering::Relaxed), 1);
}

#[test]
fn the_memory_of_this_process_is_known_and_looked_at_once_a_second() {
    let before = held().unwrap();
    let taken = vec![1_u8; 64 << 20];
    let after = held().unwrap();
    assert!(after - before > 60 << 20, "{before} {after}");
    let in_use_before = in_use();
    drop(taken);
    let freed = in_use_before - in_use();
    assert!(freed > 60 << 20, "{freed}");

    let (memory, now) = (Memory::default(), Instant::now());
    let mut gauge = Gauge::new(now);
    assert_eq!(gauge.look(&memory, 1 << 50, now), Some(Step::None));
    assert_eq!(gauge.look(&memory, 1, now), None);
    let later = now + INTERVAL;
    assert_eq!(gauge.look(&memory, 1, later), Some(Step::Heavy));
}

#[cfg(target_env = "gnu")]
#[test]
fn what_one_turn_frees_is_there_for_the_next() {
    fn faults() -> u64 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        // Field 10 of proc_pid_stat(5); this is the third on.
        fields.split(' ').nth(7).unwrap().parse().unwrap()
    }
    // Some 340 pages, for each of which the kernel would be asked again.
    let turn = || drop(Vec::from_iter((0..1000).map(|_| vec![1_u8; 1400])));
    // As every worker does.
    drop(crate::server::spawn("nobody", || Err(std::io::Error::other("a test"))).unwrap());
    // A thread has a heap of its own.
    let thread = std::thread::spawn(move || {
        turn();
        let before = faults();
        (0..10).for_each(|_| turn());
        faults() - before
    });
    let asked = thread.join().unwrap();
    assert!(asked < 340, "{asked}");
}
