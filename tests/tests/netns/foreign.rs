//! IP tunnels whose other end is aioquic: what `psq-server` and `psq-client` understand by RFC 9484 is
//! what somebody else understood, too.

use std::net::IpAddr;

use pasque::testing::dns::{Answer, DnsServer};
use pasque_tests::netns::Namespace;
use pasque_tests::{Process, Server, program, repository};
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Handle;

use crate::lab::{addresses, routes, wait};
use crate::probe::{Answer as Echo, Ping};

/// Starts `tests/python/SCRIPT` in `namespace`.
fn python(namespace: &Namespace, script: &str, arguments: &[&str]) -> Process {
    let interpreter = repository().join("target/python/bin/python");
    assert!(interpreter.exists(), "run tests/tools.sh --python");
    let script = repository().join("tests/python").join(script);
    let script = script.to_str().unwrap();
    // -B: nothing is left beside the script.
    let arguments = ["-B", script].into_iter().chain(arguments.iter().copied());
    namespace.start(&interpreter, arguments).unwrap()
}

async fn succeeds(mut process: Process) {
    let status = process.exit().await.unwrap();
    assert!(status.success(), "{status}\n{}", process.output());
}

/// Runs a case of `connect_ip.py` against `psq-server`.
async fn client_case(name: &str) {
    let place = Namespace::new("ip").expect("a namespace: this test needs root");
    // A socket stays where it was made; its task runs here.
    let runtime = Handle::current();
    let names = || runtime.block_on(DnsServer::start(|_| Answer::NXDOMAIN));
    let names = place.enter(names).unwrap();
    let config = json!({
        "name": "tests.example",
        "resolver": names.address(),
        "endpoints": [{
            "path": "ip", "type": "IpEndpoint", "anonymous": true, "ifprefix": "foreign",
            "addresspools": ["10.99.0.1/24", "fd99::1/64"],
            "routes": ["10.99.0.0/24", "10.88.0.0/24", "fd99::/64"],
        }],
    });
    let psq_server = program("psq-server");
    let server = Server::start_in(&place, &psq_server, config, ["-a", "127.0.0.1:4433"]);
    let server = server.await.unwrap();
    let certificate = server.certificate();
    let arguments = [name, "127.0.0.1:4433", certificate.to_str().unwrap()];
    succeeds(python(&place, "connect_ip.py", &arguments)).await;
}

/// `ip_proxy.py` and a `psq-client` that uses it, in a namespace of their own.
struct Foreign {
    proxy: Process,
    client: Process,
    place: Namespace,
}

impl Foreign {
    async fn start(case: &str) -> Self {
        let place = Namespace::new("ip").expect("a namespace: this test needs root");
        let mut proxy = python(&place, "ip_proxy.py", &[case, "127.0.0.1:4433"]);
        proxy.line("listening").await.unwrap();
        let arguments = ["-d", "https://127.0.0.1:4433", "--ignore-cert", "-i"];
        let client = place.start(&program("psq-client"), arguments).unwrap();
        Self {
            proxy,
            client,
            place,
        }
    }

    /// Waits until the proxy says `line`.
    async fn says(&mut self, line: &str) {
        self.proxy.line(line).await.unwrap();
    }

    /// Sends echo requests to the far network until the proxy has said `line`.
    async fn ping_until(&mut self, line: &str) {
        let far = IpAddr::from([10, 88, 0, 2]);
        let answer = Ping::to(far).send_until_replied(&self.place);
        assert!(matches!(answer, Echo::Reply { .. }), "{answer:?}");
        self.says(line).await;
    }

    fn has(&self, interface: &str, wanted: &[&str]) -> bool {
        let wanted: Vec<IpAddr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        addresses(&self.place, interface) == wanted
    }

    fn leads_to(&self, interface: &str, wanted: &[&str]) -> bool {
        routes(&self.place, interface) == wanted
    }

    /// Ends the client, which the proxy has to notice.
    async fn leave(mut self) {
        self.client.signal(Signal::TERM).unwrap();
        assert!(self.client.exit().await.unwrap().success());
        succeeds(self.proxy).await;
    }

    /// Waits until the client has given up, with exit code `code`, which the proxy has to like.
    async fn gives_up(mut self, code: i32) {
        let status = self.client.exit().await.unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.client.output());
        succeeds(self.proxy).await;
    }
}

#[tokio::test]
async fn ip_13_30_37_aioquic_is_assigned_addresses_and_routes() {
    client_case("assign").await;
}

#[tokio::test]
async fn ip_20_25_26_27_aioquic_asks_for_addresses() {
    client_case("request").await;
}

#[tokio::test]
async fn ip_39_51_aioquic_pings_through_its_tunnel() {
    client_case("ping").await;
}

#[tokio::test]
async fn ip_03_aioquic_spells_a_star_in_three_ways() {
    client_case("spellings").await;
}

#[tokio::test]
async fn ip_18_24_32_33_each_malformed_capsule_of_aioquic_aborts_its_tunnel_only() {
    client_case("malformed").await;
}

#[tokio::test]
async fn ip_17_38_capsules_of_aioquic_are_read_though_nobody_uses_them() {
    client_case("unused_capsules").await;
}

#[tokio::test]
async fn ip_41_42_52_bad_packets_of_aioquic_are_dropped_and_a_forged_source_is_answered() {
    client_case("bad_packets").await;
}

#[tokio::test]
async fn ip_04_05_06_07_11_what_aioquic_may_not_ask_for_is_refused() {
    client_case("refusals").await;
}

#[tokio::test]
async fn ip_14_an_address_that_aioquic_had_is_free_once_its_tunnel_ends() {
    client_case("leave").await;
}

#[tokio::test]
async fn ip_19_22_23_34_psq_client_asks_a_foreign_proxy_and_follows_what_it_says() {
    let mut foreign = Foreign::start("assign").await;
    foreign.says("assigned").await;
    let line = foreign.client.line(" up: ").await.unwrap();
    let interface = line.split_whitespace().nth(1).unwrap().to_owned();
    wait("both addresses", || {
        foreign.has(&interface, &["10.99.0.7", "fd99::7"])
    })
    .await;
    wait("both routes", || {
        foreign.leads_to(&interface, &["10.88.0.0/24", "fd88::/112"])
    })
    .await;
    foreign.ping_until("ponged").await;
    foreign.says("replaced").await;
    wait("the other address", || {
        foreign.has(&interface, &["10.99.0.8"])
    })
    .await;
    wait("the other route", || {
        foreign.leads_to(&interface, &["10.89.0.0/24"])
    })
    .await;
    let far = IpAddr::from([10, 89, 0, 2]);
    let answer = Ping::to(far).send_until_replied(&foreign.place);
    assert!(matches!(answer, Echo::Reply { .. }), "{answer:?}");
    foreign.says("withdrawn").await;
    wait("no address", || foreign.has(&interface, &[])).await;
    wait("no route", || foreign.leads_to(&interface, &[])).await;
    foreign.leave().await;
}

#[tokio::test]
async fn ip_21_psq_client_takes_an_assignment_that_answers_no_request() {
    let mut foreign = Foreign::start("unprompted").await;
    foreign.says("assigned").await;
    foreign.ping_until("ponged").await;
    foreign.leave().await;
}

#[tokio::test]
async fn ip_28_29_psq_client_gives_up_when_every_address_is_refused() {
    Foreign::start("refuse").await.gives_up(4).await;
}

#[tokio::test]
async fn ip_22_psq_client_gives_up_when_it_is_assigned_nothing() {
    Foreign::start("silence").await.gives_up(4).await;
}

#[tokio::test]
async fn ip_43_55_psq_client_lets_in_what_is_for_it_and_nothing_else() {
    let mut foreign = Foreign::start("foreign_packets").await;
    foreign.says("assigned").await;
    let line = foreign.client.line(" up: ").await.unwrap();
    let interface = line.split_whitespace().nth(1).unwrap().to_owned();
    foreign
        .place
        .nft(&format!(
            "table ip seen {{
                counter arrived {{}}
                counter foreign {{}}
                counter errors {{}}
                chain input {{
                    type filter hook prerouting priority -300;
                    iifname != \"{interface}\" return
                    ip daddr != 10.99.0.7 counter name foreign
                    ip daddr 10.99.0.7 ip protocol udp counter name arrived
                    ip saddr 192.0.2.254 icmp type destination-unreachable counter name errors
                }}
            }}"
        ))
        .unwrap();
    wait("the address", || foreign.has(&interface, &["10.99.0.7"])).await;
    let far = IpAddr::from([10, 88, 0, 2]);
    assert!(matches!(
        Ping::to(far).send_until_replied(&foreign.place),
        Echo::Reply { .. }
    ));
    foreign.says("sent").await;
    let seen = |name| foreign.place.counter(name).unwrap().packets;
    wait("the last packet", || {
        seen("arrived") > 0 && seen("errors") > 0
    })
    .await;
    assert_eq!(
        (seen("arrived"), seen("errors"), seen("foreign")),
        (1, 1, 0)
    );
    foreign.ping_until("ponged").await;
    foreign.leave().await;
}

/// Capsules of a proxy that no client may take, one of each kind of mistake.
const MALFORMED: [&str; 9] = [
    "assign: version 5",
    "assign: prefix of 33 bits",
    "assign: IPv6 host bits",
    "assign: an ID and no more",
    "request: empty",
    "request: an ID twice",
    "route: start above end",
    "route: IPv6 first",
    "route: any beside one protocol",
];

#[tokio::test]
async fn ip_18_24_32_33_psq_client_aborts_a_tunnel_whose_proxy_is_malformed() {
    for what in MALFORMED {
        Foreign::start(what).await.gives_up(4).await;
    }
}
