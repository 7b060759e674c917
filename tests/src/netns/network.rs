//! [`Network`]: clients, a router, a server and a target, each in a namespace of its own.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Namespace;
use super::tools::run;

/// Clients on the one side, the server's target on the other:
///
/// ```text
/// client 0 ── router ── server ── target
/// client 1 ──┘
/// ```
///
/// | link | client, server or target | router or server |
/// |---|---|---|
/// | client N | `eth0` 10.9.(N+1).2, fd09:(N+1)::2 | `c0`, `c1`, …: .1, ::1 |
/// | server | `eth0` 10.9.0.2, fd09::2 | `s0` 10.9.0.1, fd09::1 |
/// | target | `eth0` 198.51.100.2, 2001:db8:100::2 | `lan` 198.51.100.1, 2001:db8:100::1 |
///
/// Router and server forward. Nobody but the server knows the target's addresses.
#[derive(Debug)]
pub struct Network {
    /// Where clients run.
    pub clients: Vec<Namespace>,
    /// Between them and the server: the place for rules that lose packets.
    pub router: Namespace,
    /// Where the server runs.
    pub server: Namespace,
    /// What is behind the server.
    pub target: Namespace,
}

/// How a [`Network`] is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whether the target answers through the server whatever the address it answers; otherwise it
    /// knows nobody but the server.
    pub routed: bool,
    /// Whether every datagram travels alone. Otherwise the kernel passes bursts on as one packet
    /// (`UDP_SEGMENT`), which rules about lengths mistake for a long one.
    pub single_packets: bool,
}

impl Network {
    /// The server's address on the side of the clients.
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
    /// The same in IPv6.
    pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2);
    /// The server's address on the side of the target.
    pub const LAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    /// The same in IPv6.
    pub const LAN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1);
    /// The target.
    pub const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    /// The same in IPv6.
    pub const TARGET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 2);

    /// The target, in the version of `like`.
    pub fn target_like(like: IpAddr) -> IpAddr {
        match like {
            IpAddr::V4(_) => Self::TARGET.into(),
            IpAddr::V6(_) => Self::TARGET_V6.into(),
        }
    }

    /// A network with so many clients.
    ///
    /// # Errors
    /// When a privilege or the program `ip` is missing; says which.
    pub fn new(clients: usize, plan: Plan) -> io::Result<Self> {
        let network = Self {
            clients: (0..clients)
                .map(|n| Namespace::new(&format!("c{n}")))
                .collect::<io::Result<_>>()?,
            router: Namespace::new("router")?,
            server: Namespace::new("server")?,
            target: Namespace::new("target")?,
        };
        network.link(plan)?;
        for namespace in [&network.router, &network.server] {
            namespace.set("net/ipv4/ip_forward", "1")?;
            namespace.set("net/ipv6/conf/all/forwarding", "1")?;
        }
        network.address(plan)?;
        Ok(network)
    }

    /// Makes the links.
    fn link(&self, plan: Plan) -> io::Result<()> {
        let segments = if plan.single_packets {
            "gso_max_segs 1"
        } else {
            ""
        };
        let mut commands = String::new();
        let mut link = |a: (&Namespace, &str), b: (&Namespace, &str)| {
            // Writing to a string does not fail.
            let _ = writeln!(
                commands,
                "link add {} netns {} {segments} type veth peer name {} netns {} {segments}",
                a.1, a.0.name, b.1, b.0.name
            );
        };
        for (n, client) in self.clients.iter().enumerate() {
            link((client, "eth0"), (&self.router, &format!("c{n}")));
        }
        link((&self.server, "eth0"), (&self.router, "s0"));
        link((&self.target, "eth0"), (&self.server, "lan"));
        run("ip", ["-batch", "-"], &commands).map(drop)
    }

    /// Gives every interface its addresses, and everybody the routes of the table above.
    fn address(&self, plan: Plan) -> io::Result<()> {
        let interface = |name: &str, v4: &str, v6: &str| {
            format!(
                "addr add {v4}/24 dev {name}\naddr add {v6}/64 dev {name}\nlink set {name} up\n"
            )
        };
        let default = |v4: &str, v6: &str| {
            format!("route add default via {v4}\nroute add default via {v6}\n")
        };
        let mut router = interface("s0", "10.9.0.1", "fd09::1");
        for (n, client) in self.clients.iter().enumerate() {
            let (v4, v6) = (format!("10.9.{}", n + 1), format!("fd09:{:x}:", n + 1));
            let commands = interface("eth0", &format!("{v4}.2"), &format!("{v6}:2"))
                + &default(&format!("{v4}.1"), &format!("{v6}:1"));
            client.ip(&commands)?;
            router += &interface(&format!("c{n}"), &format!("{v4}.1"), &format!("{v6}:1"));
        }
        self.router.ip(&router)?;
        let server = interface(
            "eth0",
            &Self::SERVER.to_string(),
            &Self::SERVER_V6.to_string(),
        ) + &interface("lan", &Self::LAN.to_string(), &Self::LAN_V6.to_string())
            + "route add 10.9.0.0/16 via 10.9.0.1\nroute add fd09::/16 via fd09::1\n";
        self.server.ip(&server)?;
        let mut target = interface(
            "eth0",
            &Self::TARGET.to_string(),
            &Self::TARGET_V6.to_string(),
        );
        if plan.routed {
            target += &default(&Self::LAN.to_string(), &Self::LAN_V6.to_string());
        }
        self.target.ip(&target)
    }
}
