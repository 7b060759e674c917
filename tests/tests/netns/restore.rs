//! What the client does to its host, and that it takes all of it back.

use std::time::{Duration, Instant};

use pasque_tests::netns::{Namespace, Network};
use pasque_tests::{PATIENCE, program};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::{Client, Mode, Setup, calm, wait};
use crate::probe::{Answer, Ping};
use crate::transfer::{Transfer, echo, echo_service, tcp};

/// How the client says that there is no connection.
const NO_CONNECTION: i32 = 3;

/// How the client says that the connection is lost.
const LOST: i32 = 5;

/// Everything that a client could have changed: interfaces, addresses, all routing tables, rules.
fn host(place: &Namespace) -> Vec<Vec<Value>> {
    let show = [
        "link show",
        "address show",
        "-4 route show table all",
        "-6 route show table all",
        "-4 rule show",
        "-6 rule show",
    ];
    show.map(|arguments| place.show(arguments).unwrap())
        .to_vec()
}

/// What is in one of two lists of [`host`] and not in the other.
fn difference(before: &[Vec<Value>], after: &[Vec<Value>]) -> Vec<String> {
    let only_in = |some: &[Vec<Value>], others: &[Vec<Value>]| -> Vec<String> {
        let lists = some.iter().zip(others);
        let lost = lists.flat_map(|(some, others)| some.iter().filter(|one| !others.contains(one)));
        lost.map(Value::to_string).collect()
    };
    let (gone, new) = (only_in(before, after), only_in(after, before));
    let gone = gone.iter().map(|one| format!("gone: {one}"));
    gone.chain(new.iter().map(|one| format!("new: {one}")))
        .collect()
}

#[track_caller]
fn assert_unchanged(place: &Namespace, before: &[Vec<Value>], when: &str) {
    let changes = difference(before, &host(place));
    assert!(changes.is_empty(), "{when}: {changes:#?}");
}

/// A server that offers the whole Internet, in which the target is reached.
pub(crate) fn full_tunnel() -> Setup {
    Setup::new(Mode::AUTO_CLIENT)
        .endpoint("routes", json!(["0.0.0.0/0", "::/0"]))
        .endpoint("allow", json!(["198.51.100.0/24", "2001:db8:100::/64"]))
}

/// The interface by which `place` sends packets to `there`.
pub(crate) fn way(place: &Namespace, there: impl std::fmt::Display) -> String {
    let routes = place.show(&format!("route get {there}")).unwrap();
    routes[0]["dev"].as_str().unwrap().to_owned()
}

/// Counts whatever leaves by the physical interface, but to the server, whose own route leads there, and
/// to the link itself.
pub(crate) fn count_leaks(place: &Namespace) {
    let rules = "table inet leak {
        counter of_tcp {}
        counter of_udp {}
        counter of_echo {}
        counter of_error {}
        counter of_icmp {}
        counter other {}
        chain output {
            type filter hook output priority 0
            oifname eth0 ip daddr { 10.9.0.2, 224.0.0.0/24 } accept
            oifname eth0 ip6 daddr { fe80::/10, ff02::/16 } accept
            oifname eth0 icmpv6 type { 133, 134, 135, 136, 143 } accept
            oifname eth0 meta l4proto tcp counter name of_tcp accept
            oifname eth0 meta l4proto udp counter name of_udp accept
            oifname eth0 icmp type { echo-request, echo-reply } counter name of_echo accept
            oifname eth0 icmpv6 type { echo-request, echo-reply } counter name of_echo accept
            oifname eth0 icmp type { destination-unreachable, time-exceeded } counter name of_error accept
            oifname eth0 icmpv6 type { 1, 2, 3, 4 } counter name of_error accept
            oifname eth0 meta l4proto { icmp, icmpv6 } counter name of_icmp accept
            oifname eth0 counter name other
        }
    }";
    place.nft(rules).unwrap();
}

/// Nothing has left beside the tunnel since [`count_leaks`].
#[track_caller]
pub(crate) fn assert_no_leaks(place: &Namespace) {
    for kind in [
        "of_tcp", "of_udp", "of_echo", "of_error", "of_icmp", "other",
    ] {
        let packets = place.counter(kind).unwrap().packets;
        assert_eq!(packets, 0, "packets {kind} beside the tunnel");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_68_a_default_route_through_the_tunnel_does_not_swallow_the_tunnel() {
    // The traffic goes on for twice as long as the connection may be silent.
    let lab = full_tunnel()
        .config("limits", json!({ "idle_timeout_ms": 5000 }))
        .start()
        .await;
    let place = lab.place(0);
    let client = lab.client(0, &["--default-route"]).await;
    // From here on: before there is a route into the tunnel, what the host sends takes the other one.
    count_leaks(place);
    assert_eq!(way(place, Network::TARGET), client.interface);
    assert_eq!(way(place, Network::TARGET_V6), client.interface);
    assert_eq!(way(place, "9.9.9.9"), client.interface);
    assert_eq!(way(place, Network::SERVER), "eth0");
    let start = Instant::now();
    let up = Transfer::start(place, lab.target(), Network::TARGET.into(), None);
    let down = Transfer::start(lab.target(), place, client.v6.unwrap().into(), None);
    while start.elapsed() < Duration::from_secs(11) {
        up.wait_for(100_000);
        down.wait_for(100_000);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    up.finish();
    down.finish();
    assert_eq!(way(place, Network::SERVER), "eth0");
    assert_no_leaks(place);
    client.leave().await;
    assert_eq!(way(place, Network::TARGET), "eth0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_68_72_the_way_to_a_server_of_ipv6_stays_outside_too() {
    let lab = full_tunnel().start().await;
    let place = lab.place(0);
    calm(place).await;
    let before = host(place);
    let server = Network::SERVER_V6.into();
    let client = Client::new(lab.launch_to(server, 0, &["--default-route"])).await;
    lab.settle(0, &client).await;
    assert_eq!(way(place, Network::TARGET), client.interface);
    assert_eq!(way(place, Network::TARGET_V6), client.interface);
    assert_eq!(way(place, server), "eth0");
    for here in client.addresses() {
        tcp(place, lab.target(), Network::target_like(here), 5_000_000);
        tcp(lab.target(), place, here, 5_000_000);
    }
    client.leave().await;
    assert_unchanged(place, &before, "left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_72_everything_is_as_before_whichever_way_the_client_ends() {
    let mut lab = full_tunnel().start().await;
    calm(lab.place(0)).await;
    let before = host(lab.place(0));
    // As its user ends it, with and without a default route.
    for arguments in [
        &[][..],
        &["--default-route"],
        &["--route", "203.0.113.0/24"],
    ] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let mut client = lab.client(0, arguments).await;
            assert_ne!(host(lab.place(0)), before);
            client.process.signal(signal).unwrap();
            let status = client.process.exit().await.unwrap();
            assert_eq!(status.code(), Some(0), "{}", client.process.output());
            assert_unchanged(lab.place(0), &before, &format!("{arguments:?} {signal:?}"));
        }
    }
    // Nothing stays of a tunnel to a server that is not there.
    calm(lab.place(1)).await;
    let elsewhere = host(lab.place(1));
    let nowhere = [
        "-d",
        "https://10.9.0.2:444",
        "--ignore-cert",
        "--timeout",
        "1",
        "-i",
    ];
    let mut client = lab.place(1).start(&program("psq-client"), nowhere).unwrap();
    let status = client.exit().await.unwrap();
    assert_eq!(status.code(), Some(NO_CONNECTION), "{}", client.output());
    assert_unchanged(lab.place(1), &elsewhere, "unreachable");
    // Killed, it leaves a route to the server at most; the next one takes that away, even if it
    // needs none itself.
    for next in [&["--default-route"][..], &[]] {
        let mut client = lab.client(0, &["--default-route"]).await;
        let interface = client.interface.clone();
        client.process.signal(Signal::KILL).unwrap();
        client.process.exit().await.unwrap();
        wait("the interface to go", || {
            let links = lab.place(0).show("link show").unwrap();
            !links
                .iter()
                .any(|link| link["ifname"] == interface.as_str())
        })
        .await;
        let left = difference(&before, &host(lab.place(0)));
        let is_pin = |change: &String| change.contains("\"dst\":\"10.9.0.2\"");
        assert!(left.len() <= 1 && left.iter().all(is_pin), "{left:#?}");
        lab.client(0, next).await.leave().await;
        assert_unchanged(lab.place(0), &before, &format!("killed, then {next:?}"));
    }
    // A route to the server that the user has made is the user's.
    let users = "10.9.0.2/32 via 10.9.1.1";
    lab.place(0).ip(&format!("route add {users}")).unwrap();
    let with_route = host(lab.place(0));
    lab.client(0, &["--default-route"]).await.leave().await;
    assert_unchanged(lab.place(0), &with_route, "a route of the user's");
    lab.place(0).ip(&format!("route del {users}")).unwrap();
    // The server is gone.
    let mut client = lab.client(0, &["--default-route", "--no-reconnect"]).await;
    lab.server.process().terminate().await.unwrap();
    let status = client.process.exit().await.unwrap();
    assert_eq!(status.code(), Some(LOST), "{}", client.process.output());
    assert_unchanged(lab.place(0), &before, "the server is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tunnels_of_one_host_do_not_take_each_others_routes() {
    let lab = full_tunnel().start().await;
    calm(lab.place(0)).await;
    let before = host(lab.place(0));
    let first = lab.client(0, &["--default-route"]).await;
    let second = lab.client(0, &["--route", "203.0.113.0/24"]).await;
    assert_ne!(first.interface, second.interface);
    assert_eq!(way(lab.place(0), "203.0.113.9"), second.interface);
    let there = Network::TARGET;
    first.leave().await;
    assert_eq!(way(lab.place(0), there), "eth0");
    let answer = Ping::to(there)
        .through(&second.interface)
        .send(lab.place(0));
    assert_eq!(answer, Answer::Reply { from: there.into() });
    second.leave().await;
    assert_unchanged(lab.place(0), &before, "both have left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_and_a_tunnel_share_a_connection() {
    let udp = json!({ "path": "udp", "type": "UdpEndpoint", "anonymous": true,
        "allow": ["198.51.100.0/24"] });
    let lab = Setup::new(Mode::AUTO_CLIENT).beside(udp).start().await;
    let service = echo_service(lab.target(), Network::TARGET.into());
    let forward = format!("127.0.0.1:5000={}", service.address());
    let mut client: Client = lab.client(0, &["-u", &forward]).await;
    client.process.line("forwarding").await.unwrap();
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 5000));
    echo(lab.place(0), local, b"through the forward").await;
    echo(lab.place(0), service.address(), b"through the tunnel").await;
    let ended = tokio::time::timeout(PATIENCE, client.leave()).await;
    ended.expect("both end");
}
