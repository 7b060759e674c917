//! What the host is like.

use std::fs;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use pasque::diagnosis::Finding;

use super::firewall::Firewall;
use crate::device;
use crate::link;

/// `RTF_DEFAULT` and `RTF_ADDRCONF` of `linux/ipv6_route.h`: the kernel has taken the route from a
/// router advertisement.
const ADVERTISED: u32 = 0x0001_0000 | 0x0004_0000;

/// The host as it is, as far as it can be seen.
#[derive(Debug)]
pub(super) struct Facts {
    /// Whether an interface could be made, or why not.
    pub(super) device: Result<(), String>,
    pub(super) forwarding_v4: Option<bool>,
    pub(super) forwarding_v6: Option<bool>,
    /// Interfaces with a default route of IPv6 that goes when this host becomes a router itself:
    /// unless it is told otherwise, it hears no other router's advertisements then.
    pub(super) host_only: Vec<String>,
    /// Networks that clients are offered, each with the way there or why there is none.
    pub(super) reached: Vec<(IpNetwork, Result<String, String>)>,
    /// The rules, or why they cannot be read.
    pub(super) firewall: Result<Firewall, String>,
}

impl Facts {
    /// Looks. Nothing is sent and nothing is changed.
    pub(super) async fn gather(destinations: &[(IpNetwork, IpAddr)]) -> Self {
        let mut reached = Vec::with_capacity(destinations.len());
        for (route, address) in destinations {
            reached.push((*route, way_to(*address).await));
        }
        let firewall = tokio::task::spawn_blocking(Firewall::read).await;
        Self {
            device: device::check_access().map_err(|error| error.to_string()),
            forwarding_v4: switch("/proc/sys/net/ipv4/ip_forward"),
            forwarding_v6: switch("/proc/sys/net/ipv6/conf/all/forwarding"),
            host_only: host_only(),
            reached,
            firewall: firewall.unwrap_or_else(|error| Err(error.to_string())),
        }
    }

    pub(super) fn device(&self) -> Finding {
        let subject = "tunnel interfaces";
        match &self.device {
            Ok(()) => Finding::fine(subject, "can be made"),
            Err(error) => Finding::missing(subject, error, None),
        }
    }
}

/// An address in `network` that a route to the network is looked up by.
pub(super) fn sample(network: IpNetwork) -> IpAddr {
    match network {
        // Of everything, addresses for documentation: they take the default route.
        IpNetwork::V4(all) if all.prefix() == 0 => [192, 0, 2, 1].into(),
        IpNetwork::V6(all) if all.prefix() == 0 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        IpNetwork::V4(network) => network.nth(1).unwrap_or(network.network()).into(),
        IpNetwork::V6(network) => network.nth(1).unwrap_or(network.network()).into(),
    }
}

async fn way_to(address: IpAddr) -> Result<String, String> {
    match link::route_to(address).await {
        Ok(route) => Ok(match route.gateway {
            Some(gateway) => format!("by {gateway}"),
            None => "directly".into(),
        }),
        Err(error) => Err(error.to_string()),
    }
}

fn host_only() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let hears_as_router = |name: &str| {
        let mode = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"));
        mode.is_ok_and(|mode| mode.trim() == "2")
    };
    let mut names = advertised(&table);
    names.retain(|name| !hears_as_router(name));
    names
}

/// The interfaces with advertised default routes in `/proc/net/ipv6_route`.
pub(super) fn advertised(table: &str) -> Vec<String> {
    let interface = |line: &str| {
        // Destination, source and next router, each with what belongs to it, three numbers, then:
        let mut columns = line.split_whitespace().skip(8);
        let flags = u32::from_str_radix(columns.next()?, 16).ok()?;
        let name = columns.next()?;
        (flags & ADVERTISED == ADVERTISED).then(|| name.to_owned())
    };
    let mut names: Vec<_> = table.lines().filter_map(interface).collect();
    names.sort();
    names.dedup();
    names
}

fn switch(path: &str) -> Option<bool> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim() != "0")
}
