//! What IP tunnels need of the host, for `psq-server doctor`: looked at, never changed.
//!
//! Three things stand between a tunnel that is up and one that reaches something, and all are the
//! host's: forwarding, a way back for the packets (a route to the pool, or address translation),
//! and filter rules that let them through.

mod facts;
mod firewall;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use pasque::diagnosis::Finding;
use pasque::policy::EgressPolicy;

use self::facts::Facts;
use self::firewall::Chain;

/// What of an endpoint's configuration matters to the host.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The networks that clients get addresses from, host bits zero.
    pub(crate) pools: Vec<IpNetwork>,
    /// What clients are offered.
    pub(crate) routes: Vec<IpNetwork>,
    /// The names of the interfaces, as a firewall writes them: `tun-s-i*`, or one name.
    pub(crate) interfaces: String,
}

/// Looks at the host that this runs on.
pub(crate) async fn examine(plan: &Plan) -> Vec<Finding> {
    plan.examine(&Facts::gather(&plan.destinations()).await)
}

/// One IP version of a plan.
struct Family<'a> {
    plan: &'a Plan,
    is_v6: bool,
    pools: Vec<IpNetwork>,
}

impl Plan {
    /// An address of each network beyond the pools that clients are offered.
    fn destinations(&self) -> Vec<(IpNetwork, IpAddr)> {
        let beyond = self
            .routes
            .iter()
            .filter(|route| !self.is_of_pools(**route));
        beyond
            .map(|route| (*route, facts::sample(*route)))
            .collect()
    }

    fn is_of_pools(&self, route: IpNetwork) -> bool {
        self.pools.iter().any(|pool| covers(*pool, route))
    }

    fn examine(&self, facts: &Facts) -> Vec<Finding> {
        let mut findings = vec![facts.device()];
        for is_v6 in [false, true] {
            let of_family = |network: &&IpNetwork| network.is_ipv6() == is_v6;
            let pools: Vec<_> = self.pools.iter().filter(of_family).copied().collect();
            let has_destinations = facts
                .reached
                .iter()
                .any(|(route, _)| route.is_ipv6() == is_v6);
            if pools.is_empty() || !has_destinations {
                continue;
            }
            let family = Family {
                plan: self,
                is_v6,
                pools,
            };
            findings.push(family.forwarding(facts));
            findings.extend(family.destinations(facts));
            findings.extend(family.way_back(facts));
            findings.extend(family.filters(facts));
        }
        findings
    }
}

impl Family<'_> {
    fn name(&self) -> &'static str {
        if self.is_v6 { "IPv6" } else { "IPv4" }
    }

    fn forwarding(&self, facts: &Facts) -> Finding {
        let subject = format!("{} forwarding", self.name());
        let (state, key, host_only) = match self.is_v6 {
            false => (facts.forwarding_v4, "net.ipv4.ip_forward", &[][..]),
            true => (
                facts.forwarding_v6,
                "net.ipv6.conf.all.forwarding",
                &facts.host_only[..],
            ),
        };
        match state {
            Some(true) => Finding::fine(subject, format!("{key} is on")),
            Some(false) => {
                let found = format!("{key} is off: nothing that a client sends goes further");
                // A dot of a name is a slash in a key. It has to be done first.
                let hear = |name: &String| {
                    format!("net.ipv6.conf.{}.accept_ra=2 ", name.replace('.', "/"))
                };
                let first: String = host_only.iter().map(hear).collect();
                Finding::missing(subject, found, Some(format!("sysctl -w {first}{key}=1")))
            }
            None => Finding::unknown(subject, format!("{key} cannot be read")),
        }
    }

    /// Whether this host itself knows the way to what it offers.
    fn destinations(&self, facts: &Facts) -> Vec<Finding> {
        let of_family = facts
            .reached
            .iter()
            .filter(|(route, _)| route.is_ipv6() == self.is_v6);
        let finding = |(route, way): &(IpNetwork, Result<String, String>)| {
            let subject = format!("the way to {route}");
            match way {
                Ok(way) => Finding::fine(subject, way),
                Err(error) => Finding::missing(
                    subject,
                    format!("{error}: clients are offered what this host does not reach"),
                    None,
                ),
            }
        };
        of_family.map(finding).collect()
    }

    /// Whether answers find back: to a private pool only by address translation.
    fn way_back(&self, facts: &Facts) -> Vec<Finding> {
        let subject = |pool: &IpNetwork| format!("the way back to {pool}");
        let firewall = match &facts.firewall {
            Ok(firewall) => firewall,
            Err(error) => {
                let unknown = |pool| Finding::unknown(subject(pool), error);
                return self.pools.iter().map(unknown).collect();
            }
        };
        let finding = |pool: &IpNetwork| {
            if firewall.translates(*pool) {
                return Finding::fine(subject(pool), "its addresses are translated");
            }
            let command = self.translation();
            if is_private(*pool) {
                let found = "a private range, and no rule translates it: answers do not come back";
                Finding::missing(subject(pool), found, Some(command))
            } else {
                let found = "not translated: the network has to route it to this host";
                Finding::unknown(subject(pool), found)
            }
        };
        self.pools.iter().map(finding).collect()
    }

    fn translation(&self) -> String {
        let family = if self.is_v6 { "ip6" } else { "ip" };
        let pools: Vec<_> = self.pools.iter().map(IpNetwork::to_string).collect();
        let pools = match &pools[..] {
            [one] => one.clone(),
            several => format!("{{ {} }}", several.join(", ")),
        };
        let interfaces = &self.plan.interfaces;
        format!(
            "nft 'table {family} pasque {{ chain postrouting {{ type nat hook postrouting priority \
             srcnat; {family} saddr {pools} oifname != \"{interfaces}\" masquerade; }}; }}'"
        )
    }

    /// Whether every filter that drops by default has an exception.
    fn filters(&self, facts: &Facts) -> Vec<Finding> {
        // Said once already, about the way back.
        let Ok(firewall) = &facts.firewall else {
            return Vec::new();
        };
        let closed = firewall.closed_forward_chains(self.is_v6);
        let finding = |chain: &Chain| {
            let subject = format!("{} filter {}", self.name(), chain.place());
            let opened = self.pools.iter().all(|pool| {
                firewall.lets_out(chain, &self.plan.interfaces, *pool)
                    && firewall.lets_in(chain, &self.plan.interfaces, *pool)
            });
            if opened {
                return Finding::fine(subject, "drops by default, and lets the tunnels through");
            }
            let (place, interfaces) = (chain.place(), &self.plan.interfaces);
            Finding::missing(
                subject,
                "drops by default, and has no rule for the tunnels",
                Some(format!(
                    "nft 'insert rule {place} iifname \"{interfaces}\" accept; \
                     insert rule {place} oifname \"{interfaces}\" ct state established,related accept'"
                )),
            )
        };
        closed.map(finding).collect()
    }
}

/// Whether nobody on the internet routes the pool.
fn is_private(pool: IpNetwork) -> bool {
    let address = std::net::SocketAddr::new(facts::sample(pool), 0);
    EgressPolicy::default().check(address).is_err()
}

/// Whether `inner` is a part of `outer`.
fn covers(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.ip())
}
