//! The addresses of the host that runs the server.

use std::io;
use std::net::{IpAddr, SocketAddr};

use if_addrs::IfAddr;
use ipnetwork::IpNetwork;

/// What belongs to this host: a snapshot, to be taken again when interfaces come or go.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses {
    /// The sockets the server accepts QUIC connections on; an unspecified address stands for all.
    pub listeners: Vec<SocketAddr>,
    /// Every address of every interface, with the length of its subnet's prefix.
    pub interfaces: Vec<IpNetwork>,
    /// Addresses of interfaces that are there for the clients: the server's own in their tunnels.
    pub for_clients: Vec<IpAddr>,
}

impl LocalAddresses {
    /// The interfaces as they are now, beside the given listeners.
    pub fn detect(listeners: Vec<SocketAddr>) -> io::Result<Self> {
        let interfaces = if_addrs::get_if_addrs()?
            .into_iter()
            .map(|interface| {
                let (address, prefix_len) = match interface.addr {
                    IfAddr::V4(v4) => (IpAddr::from(v4.ip), v4.prefixlen),
                    IfAddr::V6(v6) => (IpAddr::from(v6.ip), v6.prefixlen),
                };
                IpNetwork::new(address, prefix_len).map_err(io::Error::other)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            listeners,
            interfaces,
            for_clients: Vec::new(),
        })
    }

    /// Whether `address` is one of an interface, and none that is there for the clients.
    pub(super) fn is_closed(&self, address: IpAddr) -> bool {
        self.is_own(address) && !self.for_clients.contains(&address)
    }

    /// Whether `address` is one of an interface, or the one that a router has in a subnet of it: Linux takes
    /// the subnet-router anycast address (RFC 4291 §2.6.1) for its own while it forwards IPv6, and lists it
    /// nowhere. A prefix of 127 bits has none (RFC 6164 §6).
    fn is_own(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|own| {
            let has_anycast = own.is_ipv6() && own.prefix() < 127;
            own.ip() == address || (has_anycast && own.network() == address)
        })
    }

    /// Whether every host of a subnet this host is on would get a packet to `address`.
    pub(super) fn is_subnet_broadcast(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|own| match own {
            // A prefix of 31 or 32 bits has no broadcast address (RFC 3021 §2.1).
            IpNetwork::V4(own) => own.prefix() < 31 && own.broadcast() == address,
            IpNetwork::V6(_) => false,
        })
    }

    /// Whether a packet to `address` and `port` comes back to the server itself.
    pub(super) fn is_listener(&self, address: IpAddr, port: u16) -> bool {
        self.listeners
            .iter()
            .any(|own| own.port() == port && self.delivers(own.ip().to_canonical(), address))
    }

    /// Whether a socket bound to `bound` gets what is sent to `address`.
    fn delivers(&self, bound: IpAddr, address: IpAddr) -> bool {
        // Linux takes the unspecified address, as a destination, for loopback.
        let here = address.is_loopback() || address.is_unspecified();
        if bound.is_unspecified() {
            // An IPv6 wildcard takes IPv4 as well, an IPv4 wildcard not the other way round.
            return (bound.is_ipv6() || address.is_ipv4()) && (here || self.is_own(address));
        }
        bound == address || (bound.is_loopback() && address.is_unspecified())
    }
}
