//! What every user of a tunnel expects, whatever the devices are.

use std::net::{IpAddr, SocketAddr};

use pasque_tests::netns::Network;
use serde_json::json;
use tokio::net::UdpSocket;

use crate::capture::Capture;
use crate::craft::{Header, UDP};
use crate::inject::Injector;
use crate::lab::{Lab, Mode, OWN, OWN_V6, Setup};
use crate::probe::{Answer, Ping};
use crate::transfer::{echo, echo_service, tcp};

crate::in_every_mode!(
    echo_requests_and_datagrams_pass_both_ways,
    tcp_passes_both_ways_unchanged,
    ip_30_69_two_clients_have_addresses_of_their_own_and_do_not_see_each_other,
    ip_69_two_clients_reach_each_other_where_that_is_allowed,
    ip_57_58_a_packet_of_the_mtu_passes_and_one_byte_more_is_answered_with_the_mtu,
    ip_46_47_the_server_is_one_hop_for_both_sides,
    ip_62_a_packet_that_may_be_cut_is_cut_by_the_kernel,
    ip_63_ecn_and_dscp_stay_inside,
    ip_55_packet_too_big_of_a_router_reaches_the_local_stack,
);

const MEGABYTE: usize = 1_000_000;

async fn echo_requests_and_datagrams_pass_both_ways(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    for there in [
        OWN.into(),
        OWN_V6.into(),
        Network::TARGET.into(),
        Network::TARGET_V6.into(),
    ] {
        let answer = Ping::to(there).send(lab.place(0));
        assert_eq!(answer, Answer::Reply { from: there });
    }
    for here in client.addresses() {
        assert_eq!(
            Ping::to(here).send(lab.target()),
            Answer::Reply { from: here }
        );
        let there = Network::target_like(here);
        let at_target = echo_service(lab.target(), there);
        let at_client = echo_service(lab.place(0), here);
        for payload in [&[][..], b"x", &[7; 1200]] {
            echo(lab.place(0), at_target.address(), payload).await;
            echo(lab.target(), at_client.address(), payload).await;
        }
    }
    client.leave().await;
}

async fn tcp_passes_both_ways_unchanged(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    let long = if mode == Mode::AUTO_CLIENT { 200 } else { 20 };
    for (here, megabytes) in client.addresses().into_iter().zip([long, 5]) {
        let there = Network::target_like(here);
        tcp(lab.place(0), lab.target(), there, megabytes * MEGABYTE);
        tcp(lab.target(), lab.place(0), here, megabytes * MEGABYTE);
    }
    client.leave().await;
}

/// The source that the target sees of a datagram from client `n`.
async fn source_at_target(lab: &Lab, n: usize, seen: &Capture, to: SocketAddr) -> IpAddr {
    let payload = format!("from client {n} to {to}");
    echo(lab.place(n), to, payload.as_bytes()).await;
    seen.wait("the datagram", |header, rest| {
        let ours = header.destination == to.ip() && rest.ends_with(payload.as_bytes());
        ours.then_some(header.source)
    })
}

async fn ip_30_69_two_clients_have_addresses_of_their_own_and_do_not_see_each_other(mode: Mode) {
    let lab = Lab::start(mode).await;
    let clients = [lab.client(0, &[]).await, lab.client(1, &[]).await];
    let [first, second] = [clients[0].addresses(), clients[1].addresses()];
    let services = [Network::TARGET.into(), Network::TARGET_V6.into()]
        .map(|there| echo_service(lab.target(), there));
    for version in 0..2 {
        assert_ne!(first[version], second[version]);
        let seen = Capture::start(lab.target());
        let to = services[version].address();
        for (n, addresses) in [first, second].iter().enumerate() {
            assert_eq!(
                source_at_target(&lab, n, &seen, to).await,
                addresses[version]
            );
        }
        // Neither gets anything that the other sends.
        let heard = Capture::start(lab.place(1));
        let answer = Ping::to(second[version]).send(lab.place(0));
        assert!(!matches!(answer, Answer::Reply { .. }), "{answer:?}");
        echo(lab.place(1), to, b"the end").await;
        let from_first = |packet: &Vec<u8>| {
            Header::parse(packet).is_some_and(|(header, _)| header.source == first[version])
        };
        assert!(!heard.packets().iter().any(from_first));
    }
    for client in clients {
        client.leave().await;
    }
}

async fn ip_69_two_clients_reach_each_other_where_that_is_allowed(mode: Mode) {
    let lab = Setup::new(mode)
        .endpoint("client_to_client", json!(true))
        .start()
        .await;
    let clients = [lab.client(0, &[]).await, lab.client(1, &[]).await];
    for there in clients[1].addresses() {
        assert_eq!(
            Ping::to(there).send(lab.place(0)),
            Answer::Reply { from: there }
        );
        // The server is between them.
        let expired = Ping {
            hop_limit: 1,
            ..Ping::to(there)
        }
        .send(lab.place(0));
        let kind = if there.is_ipv4() { 11 } else { 3 };
        let Answer::Error {
            from,
            kind: found,
            code: 0,
            ..
        } = expired
        else {
            panic!("{expired:?}");
        };
        assert!(
            from == IpAddr::from(OWN) || from == IpAddr::from(OWN_V6),
            "{from}"
        );
        assert_eq!(found, kind);
        let at_second = echo_service(lab.place(1), there);
        echo(lab.place(0), at_second.address(), &[7; 1200]).await;
    }
    tcp(
        lab.place(0),
        lab.place(1),
        clients[1].addresses()[0],
        MEGABYTE,
    );
}

async fn ip_57_58_a_packet_of_the_mtu_passes_and_one_byte_more_is_answered_with_the_mtu(
    mode: Mode,
) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    let mtu = client.mtu(lab.place(0));
    for here in client.addresses() {
        let there = Network::target_like(here);
        let exact = Ping::to(there).whole(mtu as usize);
        assert_eq!(exact.send(lab.place(0)), Answer::Reply { from: there });
        // At the client it is the interface that knows.
        let longer = Ping::to(there).whole(mtu as usize + 1);
        assert_eq!(longer.send(lab.place(0)), Answer::TooLong { mtu });
        // Somebody behind the server is told by the server.
        let exact = Ping::to(here).whole(mtu as usize);
        assert_eq!(exact.send(lab.target()), Answer::Reply { from: here });
        let (from, kind, code): (IpAddr, _, _) = match here {
            IpAddr::V4(_) => (Network::LAN.into(), 3, 4),
            IpAddr::V6(_) => (Network::LAN_V6.into(), 2, 0),
        };
        for packet_len in [mtu + 1, 1500] {
            let longer = Ping::to(here).whole(packet_len as usize);
            assert_eq!(
                longer.send(lab.target()),
                Answer::Error {
                    from,
                    kind,
                    code,
                    mtu
                }
            );
        }
    }
    client.leave().await;
}

/// The hop limits of a datagram wherever it passes an interface of that capture.
fn hop_limits(seen: &Capture, payload: &[u8]) -> Vec<u8> {
    let packets = seen.packets();
    let headers = packets.iter().filter_map(|packet| {
        let (header, rest) = Header::parse(packet)?;
        (header.protocol == UDP && rest.ends_with(payload)).then_some(header.hop_limit)
    });
    headers.collect()
}

async fn ip_46_47_the_server_is_one_hop_for_both_sides(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    for here in client.addresses() {
        let there = Network::target_like(here);
        let kind = if here.is_ipv4() { 11 } else { 3 };
        for (from, to, near) in [
            (
                lab.place(0),
                there,
                if here.is_ipv4() {
                    OWN.into()
                } else {
                    IpAddr::from(OWN_V6)
                },
            ),
            (lab.target(), here, lan_like(here)),
        ] {
            let expired = Ping {
                hop_limit: 1,
                ..Ping::to(to)
            }
            .send(from);
            assert_eq!(
                expired,
                Answer::Error {
                    from: near,
                    kind,
                    code: 0,
                    mtu: 0
                }
            );
            let answered = Ping {
                hop_limit: 2,
                ..Ping::to(to)
            }
            .send(from);
            assert_eq!(answered, Answer::Reply { from: to });
        }
        // What leaves a host with 64 has 64 inside the tunnel, and 63 behind the server.
        for (from, to, at, len) in [
            (lab.place(0), there, lab.target(), 46),
            (lab.target(), here, lab.place(0), 47),
        ] {
            let service = echo_service(at, to);
            let captures = [from, &lab.network.server, at].map(Capture::start);
            let payload = vec![0xa5; len];
            echo(from, service.address(), &payload).await;
            let [leaving, between, arriving] = captures.map(|seen| hop_limits(&seen, &payload));
            // There and back; an attempt may have been repeated.
            assert_eq!(leaving[..2], [64, 63]);
            assert_eq!(arriving[..2], [63, 64]);
            assert_eq!(between[..4], [64, 63, 64, 63]);
        }
    }
}

fn lan_like(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Network::LAN.into(),
        IpAddr::V6(_) => Network::LAN_V6.into(),
    }
}

async fn ip_62_a_packet_that_may_be_cut_is_cut_by_the_kernel(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    let mtu = client.mtu(lab.place(0)) as usize;
    for here in client.addresses() {
        let there = Network::target_like(here);
        let at_target = echo_service(lab.target(), there);
        let at_client = echo_service(lab.place(0), here);
        let seen = Capture::start(&lab.network.server);
        echo(lab.place(0), at_target.address(), &[7; 2000]).await;
        let inside = |packet: &Vec<u8>| {
            Header::parse(packet).is_some_and(|(header, _)| header.source == here)
        };
        let packets = seen.packets();
        let lens: Vec<usize> = packets
            .iter()
            .filter(|packet| inside(packet))
            .map(Vec::len)
            .collect();
        // In and out of the server, in two parts.
        assert!(
            lens.len() >= 4 && lens.iter().all(|&len| len <= mtu),
            "{lens:?}"
        );
        echo(lab.target(), at_client.address(), &[7; 2000]).await;
    }
}

async fn ip_63_ecn_and_dscp_stay_inside(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    let outside = Capture::start(&lab.network.router);
    let injector = Injector::new(lab.place(0), &client.interface);
    for here in client.addresses() {
        let there = Network::target_like(here);
        // Expedited forwarding with each of ECT(0), ECT(1) and CE; and the lowest effort alone.
        for traffic_class in [46 << 2 | 2, 46 << 2 | 1, 46 << 2 | 3, 1 << 2] {
            let seen = Capture::start(lab.target());
            let header = Header {
                traffic_class,
                ..Header::new(here, there, UDP)
            };
            injector.send(&crate::craft::udp(header, (4000, 63), &[traffic_class]));
            let found = seen.wait("the datagram", |header, rest| {
                (header.source == here && rest.starts_with(&4000_u16.to_be_bytes()))
                    .then_some(header.traffic_class)
            });
            assert_eq!(found, traffic_class);
            let ping = Ping {
                traffic_class,
                ..Ping::to(here)
            };
            let seen = Capture::start(lab.place(0));
            assert_eq!(ping.send(lab.target()), Answer::Reply { from: here });
            // Not what the target says about the datagram, to which nobody there listens.
            let found = seen.wait("the echo request", |header, message| {
                let ours = header.source == there && header.destination == here;
                (ours && matches!(message[0], 8 | 128)).then_some(header.traffic_class)
            });
            assert_eq!(found, traffic_class);
        }
    }
    let server = IpAddr::from(Network::SERVER);
    let mut count = 0;
    for packet in outside.packets() {
        let (header, _) = Header::parse(&packet).unwrap();
        if header.protocol == UDP && [header.source, header.destination].contains(&server) {
            assert_eq!(header.traffic_class >> 2, 0, "outer DSCP");
            count += 1;
        }
    }
    assert!(count > 16, "{count} outer packets");
}

async fn ip_55_packet_too_big_of_a_router_reaches_the_local_stack(mode: Mode) {
    let lab = Lab::start(mode).await;
    let client = lab.client(0, &[]).await;
    for here in client.addresses() {
        let there = Network::target_like(here);
        // A router beyond the server that is neither proxy nor target.
        let (router, kind, code): (IpAddr, _, _) = match here {
            IpAddr::V4(_) => ("192.0.2.254".parse().unwrap(), 3, 4),
            IpAddr::V6(_) => ("2001:db8:fe::254".parse().unwrap(), 2, 0),
        };
        let service = echo_service(lab.target(), there);
        let seen = Capture::start(lab.target());
        let any: IpAddr = if here.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = lab.place(0).udp((any, 0)).unwrap();
        socket.connect(service.address()).unwrap();
        // Connected, it tells what the kernel believes of the path.
        let path_mtu = || match here {
            IpAddr::V4(_) => rustix::net::sockopt::ip_mtu(&socket).unwrap(),
            IpAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(&socket).unwrap(),
        };
        let before = path_mtu();
        socket.send(&[7; 1340]).unwrap();
        let quoted = seen.wait("the datagram", |header, rest| {
            let ours = header.source == here && rest.ends_with(&[7; 1340]);
            ours.then(|| header.packet(rest))
        });
        let mut rest = 1300_u32.to_be_bytes().to_vec();
        rest.extend(&quoted[..if here.is_ipv4() { 28 } else { 1232 }]);
        let header = Header::new(router, here, 0);
        Injector::new(lab.target(), "eth0").send(&crate::craft::icmp(header, kind, code, &rest));
        crate::lab::wait("what the router said", || path_mtu() == 1300).await;
        assert!(before > 1300, "{before}");
        drop(UdpSocket::from_std(socket).unwrap());
    }
}
