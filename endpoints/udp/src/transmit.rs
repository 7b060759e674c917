//! Batches to a socket: neighbours of one length leave in one system call.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;

use pasque::Packet;

use crate::counters::Counters;
use crate::failure::Failure;
use crate::socket::Sink;

/// The most bytes of one segmented send: what IPv4 and its UDP header leave of 65535.
const MAX_RUN_LEN: usize = 65_507;

thread_local! {
    /// Where a run is put together. Copying 64 KiB costs less than two system calls.
    static RUN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A sink that may have another way to the same target.
pub(crate) trait Route {
    fn sink(&self) -> &dyn Sink;

    /// A datagram sent earlier, or this one, cannot reach the target by the present sink.
    fn unreachable(&mut self, counters: &mut Counters) {
        let _ = counters;
    }
}

/// Sends the UDP payloads in `packets`, in order. What cannot be sent is dropped and counted.
///
/// # Errors
/// The socket is unusable.
pub(crate) fn send_batch(
    mut packets: &[Packet],
    route: &mut impl Route,
    counters: &mut Counters,
) -> io::Result<()> {
    while !packets.is_empty() {
        let (run, rest) = packets.split_at(run_len(packets, route.sink().max_segments()));
        packets = rest;
        if let [packet] = run {
            send_one(packet, route, counters)?;
        } else {
            send_run(run, route, counters)?;
        }
    }
    Ok(())
}

/// How many packets from the first on one send takes: those of the first one's length, and one shorter
/// behind them.
fn run_len(packets: &[Packet], max_segments: usize) -> usize {
    let Some(first) = packets.first() else {
        return 0;
    };
    // An empty datagram has no place in a run: nobody could tell how many there are.
    if first.is_empty() {
        return 1;
    }
    let limit = max_segments.min(MAX_RUN_LEN / first.len());
    let is_equal = |packet: &&Packet| packet.len() == first.len();
    let equal = packets.iter().take(limit).take_while(is_equal).count();
    match packets.get(equal) {
        Some(last) if equal < limit && (1..first.len()).contains(&last.len()) => equal + 1,
        _ => equal.max(1),
    }
}

fn send_one(packet: &Packet, route: &mut impl Route, counters: &mut Counters) -> io::Result<()> {
    match send(packet, None, route, counters) {
        Ok(()) => counters.sent += 1,
        Err(error) => count_lost(error, 1, counters)?,
    }
    Ok(())
}

/// Sends packets of which all but the last have one length.
fn send_run(run: &[Packet], route: &mut impl Route, counters: &mut Counters) -> io::Result<()> {
    let segment_len = run.first().map(|first| first.len());
    let sent = RUN.with_borrow_mut(|contents| {
        contents.clear();
        for packet in run {
            contents.extend_from_slice(packet);
        }
        send(contents, segment_len, route, counters)
    });
    let Err(error) = sent else {
        counters.sent += run.len() as u64;
        return Ok(());
    };
    match Failure::of(&error) {
        // Perhaps only the offload is refused, or only some of the datagrams are too long.
        Failure::TooLong | Failure::Other => {
            for packet in run {
                send_one(packet, route, counters)?;
            }
            Ok(())
        }
        _ => count_lost(error, run.len() as u64, counters),
    }
}

/// Sends, and once more if the first attempt only brought news of an earlier datagram.
fn send(
    contents: &[u8],
    segment_len: Option<usize>,
    route: &mut impl Route,
    counters: &mut Counters,
) -> io::Result<()> {
    match route.sink().send(contents, segment_len) {
        Err(error) if Failure::of(&error) == Failure::Unreachable => {
            counters.unreachable += 1;
            route.unreachable(counters);
            route.sink().send(contents, segment_len)
        }
        result => result,
    }
}

/// Counts `count` datagrams that `error` kept from being sent.
///
/// # Errors
/// `error`, if it is about the socket and not about them.
fn count_lost(error: io::Error, count: u64, counters: &mut Counters) -> io::Result<()> {
    let counter = match Failure::of(&error) {
        Failure::Unreachable => &mut counters.unreachable,
        Failure::TooLong => &mut counters.too_long_outward,
        Failure::NoBuffer => &mut counters.no_buffer,
        Failure::Denied => &mut counters.denied,
        Failure::LinkDown => &mut counters.link_down,
        Failure::Other => &mut counters.failed,
        Failure::Unusable => return Err(error),
    };
    *counter += count;
    Ok(())
}
