//! [`Firewall`]: the host's packet filter, as `nft -j list ruleset` prints it.
//!
//! This is no simulation: a rule counts when it names the tunnels' interfaces or addresses, or
//! names none. What else it asks for is taken as given.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::Value;

use super::covers;

/// Chains and rules, of all tables.
#[derive(Debug, Default)]
pub(super) struct Firewall {
    chains: Vec<Chain>,
    rules: Vec<Rule>,
}

/// A chain; one that the kernel calls has a hook.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Chain {
    family: String,
    table: String,
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    hook: Option<String>,
    policy: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    family: String,
    table: String,
    chain: String,
    #[serde(default)]
    expr: Vec<Value>,
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Value>,
}

impl Chain {
    /// Family, table and name, as in a command.
    pub(super) fn place(&self) -> String {
        format!("{} {} {}", self.family, self.table, self.name)
    }

    fn is_at(&self, kind: &str, hook: &str) -> bool {
        self.kind.as_deref() == Some(kind) && self.hook.as_deref() == Some(hook)
    }

    fn is_of(&self, is_v6: bool) -> bool {
        is_of(&self.family, is_v6)
    }

    /// Whether the rule stands in this very chain.
    fn holds(&self, rule: &Rule) -> bool {
        self.has(rule) && self.name == rule.chain
    }

    fn has(&self, rule: &Rule) -> bool {
        // Chains of a table call one another: a rule anywhere in it counts.
        (&self.family, &self.table) == (&rule.family, &rule.table)
    }
}

impl Firewall {
    /// Asks the program `nft`.
    pub(super) fn read() -> Result<Self, String> {
        // The older interface of the kernel, which nft does not show.
        let legacy = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
        let is_used = |path: &&str| fs::read_to_string(path).is_ok_and(|names| !names.is_empty());
        if legacy.iter().any(is_used) {
            return Err("rules of iptables-legacy are in use, which are not looked at".into());
        }
        let output = Command::new("nft")
            .args(["-j", "list", "ruleset"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    "the program nft, of the package nftables, is missing".into()
                }
                _ => format!("nft: {error}"),
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it failed").to_owned();
            return Err(format!("nft: {said}"));
        }
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads what `nft -j list ruleset` prints.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let listing: Listing =
            serde_json::from_str(json).map_err(|error| format!("nft: {error}"))?;
        let mut firewall = Self::default();
        for mut object in listing.nftables {
            let mut take = |key: &str| object.get_mut(key).map(Value::take);
            if let Some(chain) = take("chain") {
                let chain = serde_json::from_value(chain);
                firewall
                    .chains
                    .push(chain.map_err(|error| format!("nft: {error}"))?);
            } else if let Some(rule) = take("rule") {
                let rule = serde_json::from_value(rule);
                firewall
                    .rules
                    .push(rule.map_err(|error| format!("nft: {error}"))?);
            }
        }
        Ok(firewall)
    }

    /// Whether what comes from `pool` leaves with another source address.
    pub(super) fn translates(&self, pool: IpNetwork) -> bool {
        let is_translation =
            |rule: &Rule| rule.does(&["masquerade", "snat"]) || rule.calls(&["MASQUERADE", "SNAT"]);
        let postrouting = self
            .chains
            .iter()
            .filter(|chain| chain.is_at("nat", "postrouting") && chain.is_of(pool.is_ipv6()));
        self.rules_of(postrouting)
            .any(|rule| is_translation(rule) && rule.admits("", "saddr", "", pool))
    }

    /// Where forwarded packets of one IP version are dropped unless a rule takes them.
    pub(super) fn closed_forward_chains(&self, is_v6: bool) -> impl Iterator<Item = &Chain> {
        self.chains.iter().filter(move |chain| {
            let mut rules = self.rules.iter().filter(|rule| chain.holds(rule));
            chain.is_at("filter", "forward")
                && chain.is_of(is_v6)
                && (chain.policy.as_deref() == Some("drop") || rules.any(Rule::closes))
        })
    }

    /// Whether a rule of the chain's table takes what comes from the tunnels.
    pub(super) fn lets_out(&self, chain: &Chain, interfaces: &str, pool: IpNetwork) -> bool {
        self.rules_of([chain]).any(|rule| {
            rule.does(&["accept"])
                && !rule.is_about_replies()
                && rule.admits("iifname", "saddr", interfaces, pool)
                && !rule.is_about("oifname", "daddr", interfaces, pool)
        })
    }

    /// Whether a rule of the chain's table takes the answers.
    pub(super) fn lets_in(&self, chain: &Chain, interfaces: &str, pool: IpNetwork) -> bool {
        self.rules_of([chain]).any(|rule| {
            rule.does(&["accept"])
                && rule.admits("oifname", "daddr", interfaces, pool)
                && !rule.is_about("iifname", "saddr", interfaces, pool)
        })
    }

    fn rules_of<'a>(
        &'a self,
        chains: impl IntoIterator<Item = &'a Chain>,
    ) -> impl Iterator<Item = &'a Rule> {
        let chains: Vec<_> = chains.into_iter().collect();
        self.rules
            .iter()
            .filter(move |rule| chains.iter().any(|chain| chain.has(rule)))
    }
}

impl Rule {
    /// Whether it ends in one of these verdicts or statements.
    fn does(&self, statements: &[&str]) -> bool {
        let is_one = |name: &&str| self.expr.iter().any(|part| part.get(name).is_some());
        statements.iter().any(is_one)
    }

    /// Whether it lets nothing pass that comes to it.
    fn closes(&self) -> bool {
        let passes_by = ["counter", "log", "drop", "reject"];
        let is_plain = |part: &Value| passes_by.iter().any(|name| part.get(name).is_some());
        self.does(&["drop", "reject"]) && self.expr.iter().all(is_plain)
    }

    /// Whether it calls one of these targets of iptables.
    fn calls(&self, targets: &[&str]) -> bool {
        let mut names = self
            .expr
            .iter()
            .filter_map(|part| part.get("xt")?.get("name")?.as_str());
        names.any(|name| targets.contains(&name))
    }

    fn matches(&self) -> impl Iterator<Item = (&Value, &Value)> {
        let matches = self.expr.iter().filter_map(|part| part.get("match"));
        matches.filter_map(|part| Some((part.get("left")?, part.get("right")?)))
    }

    /// Whether it takes only what belongs to a connection that is there already.
    fn is_about_replies(&self) -> bool {
        self.matches().any(|(left, right)| {
            left.pointer("/ct/key").and_then(Value::as_str) == Some("state")
                && !strings(right).any(|state| state == "new")
        })
    }

    /// Whether its conditions on an interface and an address, if it has them, are met by the
    /// tunnels at that end.
    fn admits(&self, name: &str, field: &str, interfaces: &str, pool: IpNetwork) -> bool {
        self.conditions(name, field, interfaces, pool)
            .all(|is_met| is_met)
    }

    /// Whether it has such a condition: it is about the tunnels at that end.
    fn is_about(&self, name: &str, field: &str, interfaces: &str, pool: IpNetwork) -> bool {
        self.conditions(name, field, interfaces, pool)
            .any(|is_met| is_met)
    }

    /// For each condition on the interface called `name` and on the address `field`: whether the
    /// tunnels meet it.
    fn conditions(
        &self,
        name: &str,
        field: &str,
        interfaces: &str,
        pool: IpNetwork,
    ) -> impl Iterator<Item = bool> {
        let sample = interfaces.replace('*', "0");
        let is_named = move |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => sample.starts_with(start),
            None => sample == pattern || interfaces == pattern,
        };
        let key = |left: &Value, at: &str, wanted: &str| {
            left.pointer(at).and_then(Value::as_str) == Some(wanted)
        };
        self.matches().filter_map(move |(left, right)| {
            if key(left, "/meta/key", name) {
                Some(strings(right).any(&is_named))
            } else if key(left, "/payload/field", field) {
                Some(networks(right).iter().any(|network| covers(*network, pool)))
            } else {
                None
            }
        })
    }
}

fn is_of(family: &str, is_v6: bool) -> bool {
    family == "inet" || family == if is_v6 { "ip6" } else { "ip" }
}

/// A value, or the members of a set or list.
fn members(value: &Value) -> Vec<&Value> {
    match value.get("set").unwrap_or(value) {
        Value::Array(members) => members.iter().collect(),
        one => vec![one],
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    members(value).into_iter().filter_map(Value::as_str)
}

fn networks(value: &Value) -> Vec<IpNetwork> {
    let network = |member: &Value| match member.get("prefix") {
        Some(prefix) => {
            let address = prefix.get("addr")?.as_str()?.parse().ok()?;
            let len = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
            IpNetwork::new(address, len).ok()
        }
        None => member.as_str()?.parse().ok(),
    };
    members(value).into_iter().filter_map(network).collect()
}
