//! [`CountingAllocator`]: how a connection learns how much memory quiche has taken for it.
//!
//! What quiche keeps for a peer shows in none of its figures: fragments of streams, each by itself;
//! packets that were sent and are neither acknowledged nor lost, also those that only acknowledge, and of
//! which nobody has to acknowledge any. All of it is memory that is taken while quiche is called. So the
//! engine looks before and after each call how much the calling thread has taken and given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has taken, less those that it has given back.
    static NET: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, for a server's `#[global_allocator]`.
///
/// With it a connection for which quiche comes to hold more than 32 MiB is closed; more than 8 MiB, where
/// four fifths of the budget of memory are used, and more than one, where all of it is. Without it nothing
/// is known of that, and nothing is done.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: pasque_h3::CountingAllocator = pasque_h3::CountingAllocator;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

#[expect(unsafe_code, reason = "an allocator cannot be written without it")]
// SAFETY: everything is the system allocator's doing. Counting allocates nothing: a constant cell
// without a destructor has no state to be made.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller has promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        add(len.wrapping_sub(layout.size()));
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(block, layout, len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(layout.size().wrapping_neg());
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Adds to what the thread has taken. What a failed allocation adds does not matter: the process ends.
fn add(bytes: usize) {
    NET.set(NET.get().wrapping_add_unsigned(bytes));
}

#[cfg(test)]
thread_local! {
    /// What all calls have taken that were counted on this thread.
    pub(crate) static ALL: Cell<isize> = const { Cell::new(0) };
}

/// Memory that some calls have taken and not given back, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Holding(isize);

impl Holding {
    /// Counts what `call` takes and gives back, but for what is [`apart`].
    pub(crate) fn count<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let before = NET.get();
        let made = call();
        let taken = NET.get().wrapping_sub(before);
        self.0 = self.0.saturating_add(taken);
        #[cfg(test)]
        ALL.set(ALL.get() + taken);
        made
    }

    /// Bytes that are held, as far as was counted.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }
}

/// Lets `call` take and give back memory that is not counted: what others have taken and a counted call
/// gives back, or the reverse.
pub(crate) fn apart<T>(call: impl FnOnce() -> T) -> T {
    let before = NET.get();
    let made = call();
    NET.set(before);
    made
}

/// Leaves out `bytes` that a counted call has taken for others.
pub(crate) fn leave_out(bytes: usize) {
    NET.set(NET.get().wrapping_sub_unsigned(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_calls_take_is_counted_until_they_give_it_back() {
        let mut holding = Holding::default();
        let mut bytes = holding.count(|| Vec::<u8>::with_capacity(1000));
        assert_eq!(holding.bytes(), 1000);
        holding.count(|| bytes.reserve_exact(5000));
        assert_eq!(holding.bytes(), 5000);
        // Not a counted call.
        let other = vec![7_u8; 300];
        holding.count(|| drop(apart(|| vec![7_u8; 900])));
        assert_eq!(holding.bytes(), 5000 - 900);
        let mut holding = Holding(5000);
        holding.count(|| apart(|| drop(other)));
        assert_eq!(holding.bytes(), 5000);
        let left_out = holding.count(|| {
            let taken = Vec::<u8>::with_capacity(700);
            leave_out(taken.capacity());
            taken
        });
        assert_eq!((holding.bytes(), left_out.capacity()), (5000, 700));
        holding.count(|| drop(bytes));
        assert_eq!(holding.bytes(), 0);
    }

    #[test]
    fn zeroed_memory_counts_too_and_more_given_back_than_taken_is_nothing() {
        let mut holding = Holding::default();
        let zeroed = holding.count(|| vec![0_u8; 4096]);
        assert_eq!(holding.bytes(), 4096);
        let mut holding = Holding::default();
        holding.count(|| drop(zeroed));
        assert_eq!(holding.bytes(), 0);
    }
}
