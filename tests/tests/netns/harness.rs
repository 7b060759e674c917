//! The measuring instruments themselves, on a network without any tunnel: what they cannot see here,
//! their silence says nothing about elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pasque_tests::netns::{Network, Plan};

use crate::capture::Capture;
use crate::craft::{Header, UDP, udp};
use crate::inject::Injector;
use crate::probe::{Answer, Ping};
use crate::transfer::{Transfer, echo, echo_service, tcp};

fn network() -> Network {
    let plan = Plan {
        routed: true,
        single_packets: false,
    };
    Network::new(1, plan).unwrap()
}

const ROUTER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 9, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd09, 1, 0, 0, 0, 0, 0, 1)),
];
const SERVER: [IpAddr; 2] = [IpAddr::V4(Network::SERVER), IpAddr::V6(Network::SERVER_V6)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_tells_what_came_back() {
    let network = network();
    let client = &network.clients[0];
    for (there, router) in SERVER.into_iter().zip(ROUTER) {
        let ping = Ping::to(there);
        let reply = Answer::Reply { from: there };
        assert_eq!(ping.send(client), reply);
        assert_eq!(ping.whole(1500).send(client), reply);
        let longer = Answer::TooLong { mtu: 1500 };
        assert_eq!(ping.whole(1501).send(client), longer);
        let kind = if there.is_ipv4() { 11 } else { 3 };
        let (from, code, mtu) = (router, 0, 0);
        let expired = Ping {
            hop_limit: 1,
            ..ping
        };
        let expected = Answer::Error {
            from,
            kind,
            code,
            mtu,
        };
        assert_eq!(expired.send(client), expected);
        let silence = Ping {
            patience: Duration::from_millis(100),
            ..Ping::to(there)
        };
        let drop_echo = "table inet t {
            chain input {
                type filter hook input priority 0
                icmp type echo-request drop
                icmpv6 type echo-request drop
            }
        }";
        network.server.nft(drop_echo).unwrap();
        assert_eq!(silence.send(client), Answer::Silence);
        network.server.nft("delete table inet t").unwrap();
    }
    network
        .router
        .ip("route add 10.9.0.2/32 dev s0 mtu 1400\nroute add fd09::2/128 dev s0 mtu 1400")
        .unwrap();
    for ((there, from), (kind, code)) in SERVER.into_iter().zip(ROUTER).zip([(3, 4), (2, 0)]) {
        assert_eq!(
            Ping::to(there).whole(1400).send(client),
            Answer::Reply { from: there }
        );
        for _ in 0..2 {
            // Also the second time, when the client's kernel knows.
            let expected = Answer::Error {
                from,
                kind,
                code,
                mtu: 1400,
            };
            assert_eq!(Ping::to(there).whole(1401).send(client), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_sees_what_is_injected_and_every_hop() {
    let network = network();
    let here = [
        "10.9.1.2".parse().unwrap(),
        "fd09:1::2".parse::<IpAddr>().unwrap(),
    ];
    let injector = Injector::new(&network.clients[0], "eth0");
    for (here, there) in here.into_iter().zip(SERVER) {
        let captures = [&network.clients[0], &network.router, &network.server].map(Capture::start);
        let header = Header {
            traffic_class: 46 << 2 | 3,
            ..Header::new(here, there, UDP)
        };
        injector.send(&udp(header, (1, 2), b"injected"));
        let found = captures[2].wait("the packet", |header, rest| {
            rest.ends_with(b"injected").then_some(header)
        });
        let arrived = Header {
            hop_limit: 63,
            fragment: found.fragment,
            ..header
        };
        assert_eq!(found, arrived);
        let [leaving, between, _] = captures.map(|capture| {
            let packets = capture.packets();
            // The server says that nobody listens, and quotes it.
            let headers = packets.iter().filter_map(|packet| {
                let (header, rest) = Header::parse(packet)?;
                (header.protocol == UDP && rest.ends_with(b"injected")).then_some(header)
            });
            headers.map(|header| header.hop_limit).collect::<Vec<u8>>()
        });
        assert_eq!((&leaving[..], &between[..]), (&[64][..], &[64, 63][..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_arrive_whole_and_notice_when_they_do_not() {
    let network = network();
    let client = &network.clients[0];
    for there in SERVER {
        tcp(client, &network.server, there, 3_000_001);
        let service = echo_service(&network.server, there);
        echo(client, service.address(), &[7; 2000]).await;
        assert!(service.count() > 0);
    }
    let endless = Transfer::start(client, &network.server, SERVER[0], None);
    endless.wait_for(1_000_000);
    endless.finish();
}
