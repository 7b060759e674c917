//! Echo requests, and what comes back: the answer, an error of somebody on the way, or the refusal of
//! this host to send at all.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use pasque_tests::netns::Namespace;
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu, ipv6_mtu, set_ip_mtu_discover,
    set_ipv6_mtu_discover,
};
use rustix::net::{RecvFlags, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use crate::craft::{Header, echo_rest};

/// How long an answer may take on a busy machine.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// How an echo request is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ping<'a> {
    pub(crate) to: IpAddr,
    /// The length of the whole IP packet. 64 unless said otherwise.
    pub(crate) packet_len: usize,
    pub(crate) hop_limit: u8,
    /// DSCP and ECN.
    pub(crate) traffic_class: u8,
    /// Whether nobody may cut it, whatever was said of the path before: `ping -M probe`.
    pub(crate) whole: bool,
    /// The interface that it must leave by.
    pub(crate) through: Option<&'a str>,
    pub(crate) patience: Duration,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The reply.
    Reply {
        from: IpAddr,
    },
    /// An ICMP error that quotes the request.
    Error {
        from: IpAddr,
        kind: u8,
        code: u8,
        /// The second word of the message: an MTU, where it has one.
        mtu: u32,
    },
    /// The host did not send it: it is longer than this MTU.
    TooLong {
        mtu: u32,
    },
    /// The host did not send it for another reason.
    NotSent(Errno),
    Silence,
}

impl<'a> Ping<'a> {
    pub(crate) fn to(to: impl Into<IpAddr>) -> Self {
        Self {
            to: to.into(),
            packet_len: 64,
            hop_limit: 64,
            traffic_class: 0,
            whole: false,
            through: None,
            patience: ANSWER_TIME,
        }
    }

    /// One that nobody may cut, of `packet_len` bytes.
    pub(crate) fn whole(self, packet_len: usize) -> Self {
        Self {
            packet_len,
            whole: true,
            ..self
        }
    }

    pub(crate) fn through(self, interface: &'a str) -> Self {
        Self {
            through: Some(interface),
            ..self
        }
    }

    /// Sends one from `namespace` and waits for what comes back.
    pub(crate) fn send(self, namespace: &Namespace) -> Answer {
        namespace.enter(|| Ok(self.send_here())).unwrap()
    }

    /// [`send`](Self::send) until there is a reply, or else the last answer.
    pub(crate) fn send_until_replied(self, namespace: &Namespace) -> Answer {
        let start = Instant::now();
        let once = Self {
            patience: Duration::from_millis(500),
            ..self
        };
        loop {
            let answer = once.send(namespace);
            if matches!(answer, Answer::Reply { .. }) || start.elapsed() > 2 * ANSWER_TIME {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn send_here(self) -> Answer {
        static SEQUENCE: AtomicU16 = AtomicU16::new(1);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id() as u16;
        let socket = self.socket();
        let header_len = if self.to.is_ipv4() { 20 } else { 40 };
        let data = vec![0x5a; self.packet_len - header_len - 8];
        let rest = echo_rest(id, sequence, &data);
        let kind = if self.to.is_ipv4() { 8 } else { 128 };
        let mut message = [&[kind, 0, 0, 0], &rest[..]].concat();
        if self.to.is_ipv4() {
            // Of IPv6 the kernel writes it.
            let sum = crate::craft::checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        if let Err(error) = socket.send_to(&message, &self.address().into()) {
            return match Errno::from_io_error(&error) {
                Some(Errno::MSGSIZE) => Answer::TooLong { mtu: self.mtu() },
                Some(errno) => Answer::NotSent(errno),
                None => panic!("{error}"),
            };
        }
        self.receive(&socket, &rest[..4])
    }

    fn receive(self, socket: &Socket, id: &[u8]) -> Answer {
        let deadline = Instant::now() + self.patience;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Answer::Silence;
            }
            socket.set_read_timeout(Some(left)).unwrap();
            let (len, from) = match recv_from(socket, &mut buffer) {
                Ok(received) => received,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Answer::Silence;
                }
                // What an ICMP error makes of a raw socket; the message itself follows.
                Err(_) => continue,
            };
            if let Some(answer) = self.judge(&buffer[..len], from, id) {
                return answer;
            }
        }
    }

    /// What `message` says about the echo request with these bytes of ID and sequence.
    fn judge(self, message: &[u8], from: IpAddr, id: &[u8]) -> Option<Answer> {
        let (reply, header_len) = if self.to.is_ipv4() { (0, 20) } else { (129, 0) };
        // A raw socket of IPv4 hands over the IP header, too.
        let message = message.get(header_len..)?;
        let (head, rest) = message.split_at_checked(4)?;
        if head[0] == reply {
            return rest.starts_with(id).then_some(Answer::Reply { from });
        }
        // Errors: unused or MTU, then the packet that they are about.
        let (mtu, quoted) = rest.split_at_checked(4)?;
        let (header, echo) = Header::parse(quoted)?;
        let ours = header.protocol == crate::craft::icmp_protocol(self.to)
            && echo.get(4..)?.starts_with(id);
        let is_error = if self.to.is_ipv4() {
            matches!(head[0], 3 | 11 | 12)
        } else {
            head[0] < 128
        };
        (ours && is_error).then(|| Answer::Error {
            from,
            kind: head[0],
            code: head[1],
            mtu: u32::from_be_bytes(mtu.try_into().unwrap()),
        })
    }

    fn socket(self) -> Socket {
        let (domain, protocol) = match self.to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        let (hops, class) = (u32::from(self.hop_limit), u32::from(self.traffic_class));
        match self.to {
            IpAddr::V4(_) => {
                socket.set_ttl_v4(hops).unwrap();
                socket.set_tos_v4(class).unwrap();
                let discovery = if self.whole {
                    Ipv4PathMtuDiscovery::PROBE
                } else {
                    Ipv4PathMtuDiscovery::DONT
                };
                set_ip_mtu_discover(&socket, discovery).unwrap();
            }
            IpAddr::V6(_) => {
                socket.set_unicast_hops_v6(hops).unwrap();
                socket.set_multicast_hops_v6(hops).unwrap();
                // This host is a member of many groups, too.
                socket.set_multicast_loop_v6(false).unwrap();
                socket.set_tclass_v6(class).unwrap();
                let discovery = if self.whole {
                    Ipv6PathMtuDiscovery::PROBE
                } else {
                    Ipv6PathMtuDiscovery::DONT
                };
                set_ipv6_mtu_discover(&socket, discovery).unwrap();
            }
        }
        socket.bind_device(self.through.map(str::as_bytes)).unwrap();
        socket
    }

    fn address(self) -> SocketAddr {
        match (self.to, self.through) {
            (IpAddr::V6(to), Some(interface)) => {
                let index = name_to_index(
                    Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap(),
                    interface,
                );
                SocketAddrV6::new(to, 0, 0, index.unwrap()).into()
            }
            (to, _) => (to, 0).into(),
        }
    }

    /// The MTU that the kernel has in mind for the way there.
    fn mtu(self) -> u32 {
        let socket = self.socket();
        socket.connect(&self.address().into()).unwrap();
        match self.to {
            IpAddr::V4(_) => ip_mtu(&socket).unwrap(),
            IpAddr::V6(_) => ipv6_mtu(&socket).unwrap(),
        }
    }
}

fn recv_from(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, IpAddr)> {
    let (len, _, from) = recvfrom(socket, buffer, RecvFlags::empty())?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok((len, from.map_or([0; 4].into(), |from| from.ip())))
}
