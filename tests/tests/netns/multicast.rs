//! What belongs to one link only, and a tunnel is no link.

use std::net::{IpAddr, Ipv6Addr};

use pasque_tests::PATIENCE;
use pasque_tests::netns::{Namespace, Network};
use serde_json::json;

use crate::capture::Capture;
use crate::craft::{Header, ICMPV6, UDP, echo_request, echo_rest, icmp, udp};
use crate::inject::Injector;
use crate::lab::{Client, Lab, Mode, OWN, OWN_V6, PREFIX, Setup};
use crate::probe::{Answer, Ping};
use crate::tunnel::RawTunnel;

crate::in_every_mode!(
    ip_49_nothing_link_local_comes_out_at_the_other_end,
    ip_66_neighbour_discovery_is_dropped_in_silence,
);

/// The name of the server's interface for `client`.
fn server_interface(lab: &Lab, client: &Client) -> String {
    let to = client.addresses()[0];
    let routes = lab.network.server.show(&format!("route get {to}")).unwrap();
    routes[0]["dev"].as_str().unwrap().to_owned()
}

/// Ways for what no host would send into a tunnel.
fn open_routes(place: &Namespace, interface: &str) {
    for to in ["169.254.0.0/16", "224.0.0.0/24", "fe80::/64"] {
        place
            .ip(&format!("route add {to} dev {interface}"))
            .unwrap();
    }
}

/// Packets with a link-local source, destination or both, that `here` could send to `there`.
fn link_local(here: [IpAddr; 2], there: [IpAddr; 2]) -> Vec<Vec<u8>> {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let pairs = [
        (address("169.254.7.7"), there[0]),
        (here[0], address("169.254.7.7")),
        (address("169.254.7.7"), address("169.254.8.8")),
        (here[0], address("224.0.0.5")),
        (here[0], address("224.0.0.251")),
        (address("fe80::7"), there[1]),
        (here[1], address("fe80::8")),
        (address("fe80::7"), address("fe80::8")),
        (here[1], address("ff02::5")),
        (here[1], address("ff02::fb")),
    ];
    let packets = pairs.map(|(from, to)| udp(Header::new(from, to, UDP), (49, 49), b"link-local"));
    packets.to_vec()
}

/// How many of `packets` are those of [`link_local`].
fn count_link_local(packets: &[Vec<u8>]) -> usize {
    let ours = packets
        .iter()
        .filter(|packet| packet.ends_with(b"link-local"));
    ours.count()
}

async fn ip_49_nothing_link_local_comes_out_at_the_other_end(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    let far = server_interface(&lab, &client);
    assert!(far.starts_with(PREFIX));
    open_routes(lab.place(0), &client.interface);
    open_routes(&lab.network.server, &far);
    let target = [Network::TARGET.into(), Network::TARGET_V6.into()];

    let server = Capture::start(&lab.network.server);
    let behind = Capture::start(lab.target());
    let near = Capture::start(lab.place(0));
    let injector = Injector::new(lab.place(0), &client.interface);
    let packets = link_local(client.addresses(), target);
    packets.iter().for_each(|packet| injector.send(packet));
    // What was sent before it has passed or will never.
    assert_eq!(
        Ping::to(OWN).send(lab.place(0)),
        Answer::Reply { from: OWN.into() }
    );
    assert_eq!(count_link_local(&near.packets()), packets.len());
    assert_eq!(count_link_local(&server.packets()), 0);
    assert_eq!(count_link_local(&behind.packets()), 0);

    let injector = Injector::new(&lab.network.server, &far);
    let packets = link_local([OWN.into(), OWN_V6.into()], client.addresses());
    packets.iter().for_each(|packet| injector.send(packet));
    let here = client.addresses()[0];
    assert_eq!(
        Ping::to(here).send(lab.target()),
        Answer::Reply { from: here }
    );
    assert_eq!(count_link_local(&server.packets()), packets.len());
    assert_eq!(count_link_local(&near.packets()), 0);
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_51_an_echo_request_to_all_nodes_is_answered() {
    for mode in [Mode::AUTO_CLIENT, Mode::AUTO_SHARED] {
        // What a host's kernel sends to its link stays there: this client has no kernel.
        let probe = json!(false);
        let lab = Setup::new(mode).endpoint("mtu_probe", probe).start().await;
        let connection = lab.connect(0);
        let mut tunnel = RawTunnel::open(&connection, "%2A", "%2A").await.unwrap();
        let here = tunnel.addresses().await[1];
        let server = Capture::start(&lab.network.server);
        let request = echo_request(Header::new(here, ALL_NODES.into(), ICMPV6), 51, 1, b"all");
        tunnel.send(&request);
        let answer = tunnel.recv(PATIENCE).await.expect("an answer");
        let (header, message) = Header::parse(&answer).unwrap();
        assert_eq!((header.source, header.destination), (OWN_V6.into(), here));
        assert_eq!(
            (message[0], &message[4..]),
            (129, &echo_rest(51, 1, b"all")[..])
        );
        // By the server itself, not by the host that it runs on.
        assert!(!server.packets().contains(&request));
    }
}

/// Router solicitation, router advertisement, neighbour solicitation, neighbour advertisement and
/// redirect.
const NEIGHBOUR_DISCOVERY: [u8; 5] = [133, 134, 135, 136, 137];

async fn ip_66_neighbour_discovery_is_dropped_in_silence(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    let here = client.addresses()[1];
    let injector = Injector::new(lab.place(0), &client.interface);
    let near = Capture::start(lab.place(0));
    let server = Capture::start(&lab.network.server);
    for kind in NEIGHBOUR_DISCOVERY {
        // To a group of the link, and to an address that is routed.
        for to in ["ff02::2".parse().unwrap(), IpAddr::from(OWN_V6)] {
            let header = Header {
                hop_limit: 255,
                ..Header::new(here, to, ICMPV6)
            };
            injector.send(&icmp(header, kind, 0, &[0; 20]));
        }
    }
    assert_eq!(
        Ping::to(OWN_V6).send(lab.place(0)),
        Answer::Reply {
            from: OWN_V6.into()
        }
    );
    let kinds = |capture: &Capture| -> Vec<u8> {
        let packets = capture.packets();
        let tunnelled = packets.iter().filter_map(|packet| {
            let (header, rest) = Header::parse(packet)?;
            let ours = [header.source, header.destination].contains(&here);
            (ours && header.protocol == ICMPV6).then(|| rest[0])
        });
        tunnelled.collect()
    };
    // At the client: what was sent, and the echo. No error, no advertisement.
    let mut expected: Vec<u8> = NEIGHBOUR_DISCOVERY
        .iter()
        .flat_map(|&kind| [kind, kind])
        .collect();
    expected.extend([128, 129]);
    assert_eq!(kinds(&near), expected);
    assert_eq!(kinds(&server), [128, 129]);
}
