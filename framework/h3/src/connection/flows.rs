//! The flows of a connection's tunnels: asking them for what they have to send, and ending them.

use std::task::Poll;

use pasque::{Error, Packet, Result, StreamError};

use super::content::{Outgoing, Recv};
use super::tunnel::{self, Tunnel};
use super::{Connection, TurnCx};

impl Connection {
    /// Asks flows that had more to send than there was room for, each in its turn. Returns whether
    /// some still have.
    pub(super) fn serve_hungry(&mut self) -> bool {
        for _ in 0..self.hungry.len() {
            if !tunnel::has_room(&self.http) {
                break;
            }
            let Some(id) = self.hungry.pop_front() else {
                break;
            };
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_hungry = false;
            }
            self.poll_flow(id);
        }
        self.has_events || !self.woken.is_empty() || !self.unread.is_empty() || self.has_hungry()
    }

    /// Whether a flow with more to send can be asked now: also after packets were sent, which made room.
    pub(crate) fn has_hungry(&self) -> bool {
        !self.hungry.is_empty() && tunnel::has_room(&self.http)
    }

    /// Asks hungry flows again once what they had put out is sent, so that a send need not leave with
    /// the little that was left. Returns whether there may be more to send.
    pub(crate) fn refill(&mut self) -> bool {
        if self.was_closing || !self.has_hungry() {
            return false;
        }
        self.serve_hungry();
        // Also the end of a tunnel is something to send.
        true
    }

    pub(super) fn poll_flow(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(tunnel) = &mut stream.tunnel else {
            return;
        };
        if !tunnel::has_room(&self.http) {
            self.make_hungry(id);
            return;
        }
        match tunnel.poll(&self.http) {
            Poll::Ready(Ok(())) => {
                // What it put out with its last breath still goes.
                self.after_flow(id, Ok(()));
                self.finish_tunnel(id);
            }
            Poll::Ready(Err(error)) => self.fail(id, &error),
            Poll::Pending => {
                let was_filled = tunnel.is_filled();
                self.after_flow(id, Ok(()));
                // As capsules what it has put out has gone already, unless there was no credit for them.
                let has_more = was_filled && !self.stalled.contains(&id);
                if has_more || !tunnel::has_room(&self.http) {
                    self.make_hungry(id);
                }
            }
        }
    }

    pub(super) fn make_hungry(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.is_hungry, true)
        {
            self.hungry.push_back(id);
        }
    }

    /// After any call of a flow: moves what it has put out, or ends it.
    pub(super) fn after_flow(&mut self, id: u64, result: Result<()>) {
        if let Err(error) = result {
            return self.fail(id, &error);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(tunnel) = &mut stream.tunnel else {
            return;
        };
        match tunnel.flush(id, &mut self.http) {
            Ok(true) => {
                self.stalled.insert(id);
            }
            Ok(false) => {
                self.stalled.remove(&id);
            }
            Err(code) => {
                let error = Error::internal("the peer does not take capsules");
                self.fail(id, &error.with_stream_error(code));
            }
        }
    }

    /// Ends a tunnel in order: everything is released, and the stream says FIN.
    pub(super) fn finish_tunnel(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(tunnel) = stream.tunnel.take() else {
            return;
        };
        let dropped = tunnel.dropped();
        let rest = tunnel.into_waiting_capsules();
        if let Some(ended) = stream.ended.take() {
            let _ = ended.send(Ok(()));
        }
        if !matches!(stream.recv, Recv::Over) {
            stream.recv = Recv::Over;
            self.http.stop(id, StreamError::NoError.code());
        }
        stream.send = Outgoing::last(rest);
        self.tunnel_closed(dropped);
        self.send_content(id);
    }

    /// Moves `flow` into the connection: its tunnel is open from now on.
    pub(super) fn install(&mut self, id: u64, flow: Box<dyn pasque::Flow>, cx: &mut TurnCx<'_>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.send = Outgoing::Tunnel;
        if matches!(stream.recv, Recv::Held) {
            stream.recv = Recv::Tunnel;
        }
        stream.tunnel = Some(Tunnel::new(id, flow, stream.waker.waker()));
        for packet in self.early.take(id) {
            self.on_datagram_for(id, packet);
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(tunnel) = &mut stream.tunnel
        {
            let delivered = tunnel.deliver(&self.http);
            self.after_flow(id, delivered);
        }
        self.read_content(id, cx);
        // The first poll is what registers its wakers.
        self.poll_flow(id);
        if let Some(stream) = self.streams.get(&id)
            && matches!(stream.recv, Recv::Over)
        {
            // The peer had nothing more to say when it was answered.
            self.finish_tunnel(id);
        }
    }

    pub(super) fn on_datagram_for(&mut self, id: u64, packet: Packet) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(tunnel) = &mut stream.tunnel
            && let Err(error) = tunnel.take(packet, &self.http)
        {
            self.fail(id, &error);
        }
    }
}
