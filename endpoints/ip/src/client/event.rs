//! [`IpTunnelEvent`]: what becomes of a tunnel.

use std::fmt;

use ipnetwork::IpNetwork;

use super::choice::Families;

/// Something that has changed about a tunnel's interface. `Display` gives a line without the
/// interface's name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpTunnelEvent {
    /// It has its first addresses: packets may go.
    Up {
        /// What the server has assigned.
        addresses: Vec<IpNetwork>,
        /// The longest packet, in bytes.
        mtu: u32,
    },
    /// The server has assigned others.
    Addresses(Vec<IpNetwork>),
    /// These destinations lead into the tunnel now.
    Routes(Vec<IpNetwork>),
    /// This is the longest packet now, in bytes.
    Mtu(u32),
    /// Something on this host is in the way, so that not all is as it should be. It is tried again.
    Incomplete(String),
    /// A default route is wanted that the server does not offer for these versions of IP: their
    /// packets take the way that they took without the tunnel.
    NoDefault(Families),
}

impl fmt::Display for IpTunnelEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { addresses, mtu } => write!(f, "up: {} mtu {mtu}", List(addresses)),
            Self::Addresses(addresses) => write!(f, "addresses {}", List(addresses)),
            Self::Routes(routes) => write!(f, "routes {}", List(routes)),
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::Incomplete(error) => f.write_str(error),
            Self::NoDefault(Families { v4: true, v6: true }) => {
                f.write_str("the server offers no default route")
            }
            Self::NoDefault(Families { v6: true, .. }) => {
                f.write_str("the server offers no default route for IPv6")
            }
            Self::NoDefault(Families { v4: true, .. }) => {
                f.write_str("the server offers no default route for IPv4")
            }
            Self::NoDefault(_) => f.write_str("the server offers all default routes"),
        }
    }
}

/// Prefixes with spaces between them.
struct List<'a>(&'a [IpNetwork]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0 else {
            return f.write_str("none");
        };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|prefix| write!(f, " {prefix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let prefixes = |text: &str| -> Vec<IpNetwork> {
            text.split(' ').map(|part| part.parse().unwrap()).collect()
        };
        let both = "10.76.0.2/32 fd76:212:dead::2/128";
        let up = IpTunnelEvent::Up {
            addresses: prefixes(both),
            mtu: 1400,
        };
        assert_eq!(up.to_string(), format!("up: {both} mtu 1400"));
        let routes = IpTunnelEvent::Routes(prefixes("10.76.0.0/24"));
        assert_eq!(routes.to_string(), "routes 10.76.0.0/24");
        let none = IpTunnelEvent::Addresses(Vec::new());
        assert_eq!(none.to_string(), "addresses none");
        assert_eq!(IpTunnelEvent::Mtu(1308).to_string(), "mtu 1308");
    }
}
