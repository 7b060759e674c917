//! Buffers for super-packets: one free list per thread.

use std::cell::RefCell;

use super::{IPV6_HEADER_LEN, MAX_PACKET_LEN, VirtioHeader};

/// What one read takes at most, in bytes: a virtio header and the longest payload of IPv6 with its
/// header. The kernel's super-packets are not longer unless it is told to make them so.
pub(in crate::device) const READ_LEN: usize = VirtioHeader::LEN + IPV6_HEADER_LEN + MAX_PACKET_LEN;

/// Free buffers that a thread keeps at most: 4 MiB, most of what one download makes wait.
const MAX_FREE: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`READ_LEN`] bytes with unspecified content.
pub(in crate::device) fn take() -> Vec<u8> {
    let pooled = FREE.try_with(|free| free.try_borrow_mut().ok()?.pop());
    let mut buffer = pooled.ok().flatten().unwrap_or_default();
    buffer.resize(READ_LEN, 0);
    buffer
}

/// Keeps `buffer` for reuse if it is one of these.
pub(in crate::device) fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() < READ_LEN {
        return;
    }
    // What is dropped while its thread ends finds no list; it is then freed.
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
    fn a_buffer_is_reused_and_a_small_one_is_not_kept() {
        let mut first = take();
        let address = first.as_ptr();
        first.truncate(9);
        give_back(first);
        give_back(vec![0; 99]);
        let again = take();
        assert_eq!((again.as_ptr(), again.len()), (address, READ_LEN));
    }
}
