//! Networks at either end: translated addresses behind the server, a site behind the client.

use std::net::{IpAddr, SocketAddr};

use pasque_tests::netns::{Namespace, Network};
use serde_json::json;

use crate::capture::Capture;
use crate::craft::Header;
use crate::lab::{Lab, Mode, Setup};
use crate::probe::{Answer, Ping};
use crate::transfer::{echo, echo_service, tcp};

crate::in_every_mode!(
    ip_42_46_a_site_behind_the_client_is_reached_and_its_packets_lose_one_hop_each_way,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_reach_the_target_through_address_translation() {
    for mode in [Mode::AUTO_CLIENT, Mode::AUTO_SHARED] {
        let lab = Setup::new(mode).unrouted().start().await;
        let client = lab.client(0, &[]).await;
        for here in client.addresses() {
            // The target does not know the way back.
            let patience = std::time::Duration::from_millis(200);
            let ping = Ping {
                patience,
                ..Ping::to(Network::target_like(here))
            };
            let answer = ping.send(lab.place(0));
            assert!(!matches!(answer, Answer::Reply { .. }), "{answer:?}");
        }
        let masquerade = "table inet nat {
            chain postrouting {
                type nat hook postrouting priority srcnat
                oifname lan masquerade
            }
        }";
        lab.network.server.nft(masquerade).unwrap();
        let seen = Capture::start(lab.target());
        for here in client.addresses() {
            let there = Network::target_like(here);
            assert_eq!(
                Ping::to(there).send(lab.place(0)),
                Answer::Reply { from: there }
            );
            let service = echo_service(lab.target(), there);
            echo(lab.place(0), service.address(), &[7; 1200]).await;
            tcp(lab.place(0), lab.target(), there, 1_000_000);
            let sources: Vec<IpAddr> = seen
                .packets()
                .iter()
                .filter_map(|packet| Some(Header::parse(packet)?.0))
                .filter(|header| header.destination == there)
                .map(|header| header.source)
                .collect();
            assert!(
                !sources.is_empty() && !sources.contains(&here),
                "{sources:?}"
            );
        }
        client.leave().await;
    }
}

/// A host behind client 0, which forwards.
fn site(lab: &Lab) -> Namespace {
    let site = Namespace::new("site").unwrap();
    let client = lab.place(0);
    let link = format!(
        "link add site0 type veth peer name eth0 netns {}",
        site.name()
    );
    client
        .ip(&format!(
            "{link}\naddr add 10.99.0.1/24 dev site0\naddr add fd99::1/64 dev site0\n\
             link set site0 up\n"
        ))
        .unwrap();
    client.set("net/ipv4/ip_forward", "1").unwrap();
    client.set("net/ipv6/conf/all/forwarding", "1").unwrap();
    site.ip(
        "addr add 10.99.0.2/24 dev eth0\naddr add fd99::2/64 dev eth0\nlink set eth0 up\n\
         route add default via 10.99.0.1\nroute add default via fd99::1\n",
    )
    .unwrap();
    site
}

/// The hop limits of what passes from one to the other, wherever it is captured.
fn hop_limits(packets: &[Vec<u8>], from: IpAddr, to: IpAddr) -> Vec<u8> {
    let headers = packets
        .iter()
        .filter_map(|packet| Some(Header::parse(packet)?.0));
    let ours = headers.filter(|header| (header.source, header.destination) == (from, to));
    ours.map(|header| header.hop_limit).collect()
}

async fn ip_42_46_a_site_behind_the_client_is_reached_and_its_packets_lose_one_hop_each_way(
    mode: Mode,
) {
    let networks = json!(["10.99.0.0/24", "fd99::/64"]);
    let lab = Setup::new(mode)
        .endpoint("accept_client_routes", networks)
        .start()
        .await;
    let site = site(&lab);
    let advertise = ["--advertise", "10.99.0.0/24", "--advertise", "fd99::/64"];
    let client = lab.client(0, &advertise).await;
    for host in ["10.99.0.2", "fd99::2"] {
        let host: IpAddr = host.parse().unwrap();
        let there = Network::target_like(host);
        // The server's routes follow the client's advertisement.
        let answer = Ping::to(host).send_until_replied(lab.target());
        assert_eq!(answer, Answer::Reply { from: host });
        let service = echo_service(lab.target(), there);
        let [at_client, at_server, at_target] =
            [lab.place(0), &lab.network.server, lab.target()].map(Capture::start);
        echo(
            &site,
            SocketAddr::new(there, service.address().port()),
            &[7; 46],
        )
        .await;
        let [at_client, at_server, at_target] =
            [at_client, at_server, at_target].map(|seen| seen.packets());
        // From the site to the client, into the tunnel; out of it, to the target.
        assert_eq!(hop_limits(&at_client, host, there)[..2], [64, 63]);
        assert_eq!(hop_limits(&at_server, host, there)[..2], [63, 62]);
        assert_eq!(hop_limits(&at_target, host, there)[0], 62);
        // And back.
        assert_eq!(hop_limits(&at_server, there, host)[..2], [64, 63]);
        assert_eq!(hop_limits(&at_client, there, host)[..2], [63, 62]);
        tcp(&site, lab.target(), there, 1_000_000);
    }
    // Nobody else of that side may use the tunnel: an address that was not accepted.
    client_site_stranger(&lab, &site);
    client.leave().await;
}

/// A source beside the accepted networks does not come out at the server.
fn client_site_stranger(lab: &Lab, site: &Namespace) {
    site.ip("addr add 10.98.0.2/32 dev eth0").unwrap();
    lab.place(0).ip("route add 10.98.0.2/32 dev site0").unwrap();
    let seen = Capture::start(&lab.network.server);
    let stranger: IpAddr = "10.98.0.2".parse().unwrap();
    let packet = crate::craft::udp(
        Header::new(stranger, Network::TARGET.into(), crate::craft::UDP),
        (1, 2),
        b"stranger",
    );
    crate::inject::Injector::new(site, "eth0").send(&packet);
    let there = Network::TARGET;
    assert_eq!(
        Ping::to(there).send(site),
        Answer::Reply { from: there.into() }
    );
    assert!(
        !seen
            .packets()
            .iter()
            .any(|packet| packet.ends_with(b"stranger"))
    );
}
