//! Heap allocations for each datagram in steady state: of the client's worker, which does all that
//! is done for a datagram at this end, while nothing else runs on its thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pasque_tests::beside;

use crate::load::{self, Direction};
use crate::machine::{numbers, output};
use crate::oneway::CEILING;
use crate::report::{Report, in_turn};
use crate::{Plan, Result};

const LEN: usize = 1200;

/// Datagrams of the exchange in memory.
const EXCHANGED: &str = "20000";

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread: without an atomic, it costs the other
/// figures nothing that could be measured.
struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without it")]
// SAFETY: everything is the system allocator's doing. Counting allocates nothing: a constant cell
// without a destructor has no state to be made.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller has promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(block, layout, len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count() {
    COUNT.set(COUNT.get().wrapping_add(1));
}

/// Allocations and reallocations of the calling thread so far.
pub(crate) fn of_this_thread() -> u64 {
    COUNT.get()
}

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let mut up = || Ok(load::measure(plan, Direction::Up, LEN)?.allocations);
    let mut down = || Ok(load::measure(plan, Direction::Down, LEN)?.allocations);
    let [sent, received] = in_turn(plan.runs, [&mut up, &mut down])?;
    // Nothing in it depends on the load or the clock: once is enough.
    let program = beside(CEILING)?;
    let text = output(program.as_os_str(), ["memory", EXCHANGED])?;
    let numbers = numbers(&text);
    let alone = |name| numbers.get(name).copied().unwrap_or(f64::NAN);
    let unit = "per datagram";
    report.row(format!("{LEN} B, sent"), unit, sent);
    report.beside("quiche alone", [alone("sender_allocations")]);
    report.row(format!("{LEN} B, received"), unit, received);
    report.beside("quiche alone", [alone("receiver_allocations")]);
    report.note("of the client's worker, acknowledgements received and sent included");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_is_counted_on_its_own_thread() {
        let before = of_this_thread();
        let block = std::hint::black_box(Vec::<u8>::with_capacity(100));
        assert_eq!(of_this_thread(), before + 1);
        std::thread::spawn(|| drop(vec![0_u8; 100])).join().unwrap();
        drop(block);
        let other = std::thread::spawn(|| {
            let before = of_this_thread();
            drop(std::hint::black_box(Box::new(7)));
            of_this_thread() - before
        });
        assert_eq!(other.join().unwrap(), 1);
    }
}
