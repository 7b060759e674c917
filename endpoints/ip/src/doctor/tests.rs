use std::net::IpAddr;

use pasque::diagnosis::Verdict;
use serde_json::{Value, json};

use super::firewall::Firewall;
use super::*;

fn plan() -> Plan {
    Plan {
        pools: networks(&["10.76.0.0/24", "fd76:212:dead::/64"]),
        routes: networks(&["0.0.0.0/0", "10.76.0.0/24", "fd76:212:dead::/64"]),
        interfaces: "tun-s-i*".into(),
    }
}

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A host that has everything but rules.
fn facts(rules: &[Value]) -> Facts {
    let way = Ok("by 192.0.2.254".to_owned());
    Facts {
        device: Ok(()),
        forwarding_v4: Some(true),
        forwarding_v6: Some(true),
        host_only: Vec::new(),
        reached: vec![("0.0.0.0/0".parse().unwrap(), way)],
        firewall: Firewall::parse(&json!({ "nftables": rules }).to_string()),
    }
}

fn chain(family: &str, kind: &str, hook: &str, policy: &str) -> Value {
    json!({ "chain": { "family": family, "table": "t", "name": hook, "handle": 1,
        "type": kind, "hook": hook, "prio": 0, "policy": policy } })
}

fn rule(family: &str, expr: Value) -> Value {
    rule_in("c", family, expr)
}

fn rule_in(chain: &str, family: &str, expr: Value) -> Value {
    json!({ "rule": { "family": family, "table": "t", "chain": chain, "handle": 2, "expr": expr } })
}

fn condition(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

fn from(network: &str) -> Value {
    let (address, len) = network.split_once('/').unwrap();
    let len: u8 = len.parse().unwrap();
    let left = json!({ "payload": { "protocol": "ip", "field": "saddr" } });
    condition(left, json!({ "prefix": { "addr": address, "len": len } }))
}

fn interface(key: &str, name: &str) -> Value {
    condition(json!({ "meta": { "key": key } }), json!(name))
}

fn missing(facts: &Facts) -> Vec<String> {
    let findings = plan().examine(facts).into_iter();
    findings
        .filter(Finding::is_missing)
        .map(|finding| finding.subject)
        .collect()
}

#[test]
fn a_private_pool_needs_its_addresses_translated() {
    let postrouting = || chain("ip", "nat", "postrouting", "accept");
    assert_eq!(missing(&facts(&[])), ["the way back to 10.76.0.0/24"]);

    let masquerade = || json!({ "masquerade": null });
    for enough in [
        json!([from("10.76.0.0/24"), masquerade()]),
        json!([from("10.0.0.0/8"), masquerade()]),
        json!([masquerade()]),
        json!([{ "counter": {} }, { "xt": { "type": "target", "name": "MASQUERADE" } }]),
        json!([from("10.76.0.0/24"), { "snat": { "addr": "192.0.2.1" } }]),
    ] {
        let facts = facts(&[postrouting(), rule("ip", enough.clone())]);
        assert_eq!(missing(&facts), <[&str; 0]>::default(), "{enough}");
    }
    for not_enough in [
        json!([from("10.76.0.0/25"), masquerade()]),
        json!([from("10.77.0.0/24"), masquerade()]),
        json!([from("10.76.0.0/24"), { "accept": null }]),
    ] {
        let facts = facts(&[postrouting(), rule("ip", not_enough.clone())]);
        assert_eq!(
            missing(&facts),
            ["the way back to 10.76.0.0/24"],
            "{not_enough}"
        );
    }
    // The same rule where nothing calls it, or for the other IP version.
    let elsewhere = [
        chain("ip", "nat", "prerouting", "accept"),
        rule("ip", json!([masquerade()])),
    ];
    assert_eq!(missing(&facts(&elsewhere)).len(), 1);
    let v6 = [
        chain("ip6", "nat", "postrouting", "accept"),
        rule("ip6", json!([masquerade()])),
    ];
    assert_eq!(missing(&facts(&v6)).len(), 1);
}

#[test]
fn a_filter_that_drops_by_default_needs_rules_for_both_directions() {
    let nat = [
        chain("ip", "nat", "postrouting", "accept"),
        rule("ip", json!([{ "masquerade": null }])),
    ];
    let with = |rules: &[Value]| {
        let forward = chain("inet", "filter", "forward", "drop");
        let mut all = nat.to_vec();
        all.push(forward);
        all.extend_from_slice(rules);
        missing(&facts(&all))
    };
    let accept = || json!({ "accept": null });
    let replies = rule(
        "inet",
        json!([
            condition(
                json!({ "ct": { "key": "state" } }),
                json!(["established", "related"])
            ),
            accept()
        ]),
    );
    let out = rule("inet", json!([interface("iifname", "tun-s-i*"), accept()]));
    let other = rule("inet", json!([interface("iifname", "wg0"), accept()]));
    let filter = ["IPv4 filter inet t forward"];
    assert_eq!(with(&[]), filter);
    assert_eq!(with(std::slice::from_ref(&replies)), filter);
    assert_eq!(
        with(std::slice::from_ref(&out)),
        filter,
        "answers would be dropped"
    );
    assert_eq!(with(&[replies.clone(), other]), filter);
    assert_eq!(with(&[replies, out]), <[&str; 0]>::default());
}

#[test]
fn a_filter_that_ends_in_a_rule_for_all_the_rest_is_closed_as_well() {
    let refuse =
        json!([{ "counter": {} }, { "reject": { "type": "icmpx", "expr": "admin-prohibited" } }]);
    let out = json!([interface("iifname", "tun-s-i*"), { "accept": null }]);
    let with = |rules: &[Value]| {
        let nat = [
            chain("ip", "nat", "postrouting", "accept"),
            rule("ip", json!([{ "masquerade": null }])),
            chain("inet", "filter", "forward", "accept"),
        ];
        missing(&facts(&[&nat[..], rules].concat()))
    };
    let open = <[&str; 0]>::default();
    let closed = ["IPv4 filter inet t forward"];
    assert_eq!(with(&[]), open);
    assert_eq!(with(&[rule_in("forward", "inet", refuse.clone())]), closed);
    assert_eq!(
        with(&[rule_in("forward", "inet", json!([{ "drop": null }]))]),
        closed
    );
    // In a chain that nothing may call, or for some only.
    assert_eq!(with(&[rule_in("other", "inet", refuse.clone())]), open);
    let some = json!([{ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": "invalid" } },
        { "drop": null }]);
    assert_eq!(with(&[rule_in("forward", "inet", some)]), open);
    // With rules for both directions in front of it.
    let back = json!([interface("oifname", "tun-s-i*"), { "accept": null }]);
    let rules = [out, back, refuse].map(|expr| rule_in("forward", "inet", expr));
    assert_eq!(with(&rules), open);
}

#[test]
fn forwarding_that_is_off_and_a_destination_without_a_route_are_missing() {
    let mut facts = facts(&[]);
    facts.forwarding_v4 = Some(false);
    facts.forwarding_v6 = Some(false);
    facts.reached[0].1 = Err("Network is unreachable".into());
    facts.device = Err("no /dev/net/tun".into());
    // Nobody is offered anything over IPv6 beyond the pool itself.
    assert_eq!(
        missing(&facts),
        [
            "tunnel interfaces",
            "IPv4 forwarding",
            "the way to 0.0.0.0/0",
            "the way back to 10.76.0.0/24"
        ]
    );
    let findings = plan().examine(&facts);
    assert!(findings.iter().any(|finding| {
        finding
            .to_string()
            .ends_with("\n         sysctl -w net.ipv4.ip_forward=1")
    }));
}

#[test]
fn a_default_route_that_routers_advertise_outlasts_forwarding() {
    let table = "\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fe80000000000000cce13cfffe295eb6 00000400 00000001 00000000 00450003   eth0.7\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        20010db9000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
    assert_eq!(facts::advertised(table), ["eth0.7"]);

    let mut facts = facts(&[]);
    facts.forwarding_v6 = Some(false);
    facts.host_only = vec!["eth0.7".into()];
    facts
        .reached
        .push(("::/0".parse().unwrap(), Ok("directly".into())));
    let findings = plan().examine(&facts);
    let command = "sysctl -w net.ipv6.conf.eth0/7.accept_ra=2 net.ipv6.conf.all.forwarding=1";
    assert!(
        findings
            .iter()
            .any(|finding| finding.to_string().ends_with(command))
    );
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_fine() {
    let mut facts = facts(&[]);
    facts.firewall = Err("the program nft is missing".into());
    facts.forwarding_v4 = None;
    let findings = plan().examine(&facts);
    let unknown = |finding: &&Finding| matches!(finding.verdict, Verdict::Unknown { .. });
    assert_eq!(findings.iter().filter(unknown).count(), 2);
    assert_eq!(missing(&facts), <[&str; 0]>::default());
    assert!(Firewall::parse("{}").is_err());
}

#[test]
fn a_public_pool_is_the_networks_matter() {
    let plan = Plan {
        pools: networks(&["203.0.114.0/24"]),
        routes: networks(&["0.0.0.0/0"]),
        interfaces: "vpn".into(),
    };
    let findings = plan.examine(&facts(&[]));
    assert!(!findings.iter().any(Finding::is_missing));
}

#[test]
fn of_everything_an_address_stands_for_the_default_route() {
    let sample = |text: &str| facts::sample(text.parse().unwrap());
    assert_eq!(sample("0.0.0.0/0"), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(sample("10.1.0.0/16"), IpAddr::from([10, 1, 0, 1]));
    assert_eq!(sample("10.1.2.3/32"), IpAddr::from([10, 1, 2, 3]));
    let destinations = plan().destinations();
    assert_eq!(destinations.len(), 1, "{destinations:?}");
}
