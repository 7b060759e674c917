//! The pool behind [`Packet`](crate::Packet): one free list per thread, so taking a buffer needs no
//! lock and no atomic. A packet made on one thread and dropped on another moves its buffer there.

use std::cell::RefCell;

/// Bytes of one pooled buffer: an Ethernet-sized datagram with its headroom, in a power of two.
const BLOCK: usize = 2048;

/// Free buffers that a thread keeps at most, 4 MiB: two full datagram queues of one busy tunnel.
/// What comes back beyond that is freed.
const MAX_FREE: usize = 2048;

const _: () = assert!(BLOCK * MAX_FREE <= 4 << 20);

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of at least `len` bytes with unspecified content; its length is its capacity for use.
pub(crate) fn take(len: usize) -> Vec<u8> {
    if len > BLOCK {
        return vec![0; len];
    }
    FREE.try_with(|free| free.try_borrow_mut().ok()?.pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| vec![0; BLOCK])
}

/// Keeps `buffer` for reuse if it is one of the pool's.
pub(crate) fn give_back(buffer: Vec<u8>) {
    // Exactly one size is pooled: vectors adopted from elsewhere would shrink the blocks over time.
    if buffer.len() != BLOCK {
        return;
    }
    // A packet dropped while its thread ends finds no pool; its buffer is then freed.
    let _ = FREE.try_with(|free| {
        let Ok(mut free) = free.try_borrow_mut() else {
            return;
        };
        if free.len() < MAX_FREE {
            free.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_reused_and_an_odd_size_is_not_kept() {
        let first = take(100);
        let address = first.as_ptr();
        give_back(first);
        let again = take(1500);
        assert_eq!(again.as_ptr(), address);
        give_back(vec![0; 77]);
        assert_eq!(take(10).len(), BLOCK);
    }
}
