//! Packets that leave with the request for their tunnel (RFC 9484 §7.1).

use std::net::IpAddr;
use std::time::Duration;

use pasque::Request;
use pasque_ip::client::{IpTunnel, IpTunnelEvent, IpTunnelOptions};
use pasque_ip::device::DeviceKind;
use pasque_tests::PATIENCE;
use pasque_tests::netns::Network;
use tokio::time::timeout;

use crate::capture::Capture;
use crate::craft::{Header, UDP, udp};
use crate::lab::{Lab, Mode, OWN};
use crate::probe::{Answer, Ping};
use crate::tunnel::RawTunnel;

/// Long enough for a packet to get there.
const SILENCE: Duration = Duration::from_secs(1);

/// Whether a packet reaches the target before the client has heard of its tunnel, and that it does
/// afterwards in any case.
async fn arrives_before_the_answer(lab: &Lab, starts_early: bool) -> bool {
    let connection = lab.connect(0);
    // Once, so that the client knows which address will be its own.
    let mut former = RawTunnel::open(&connection, "%2A", "%2A").await.unwrap();
    let addresses = former.addresses().await;
    let own = addresses.into_iter().find(IpAddr::is_ipv4).unwrap();
    drop(former);
    let router = &lab.network.router;
    router
        .nft(
            "table inet deaf {
                chain forward {
                    type filter hook forward priority 0
                    ip saddr 10.9.0.2 drop
                }
            }",
        )
        .unwrap();
    let capture = Capture::start(lab.target());
    let header = Header::new(own, Network::TARGET.into(), UDP);
    let packet = udp(header, (1, 2), b"early");
    let mut request = Request::tunnel("connect-ip", "/ip/%2A/%2A/");
    request.starts_early = starts_early;
    let asking = connection.clone();
    let asked =
        tokio::spawn(async move { RawTunnel::ask(&asking, request, &[packet]).await.unwrap() });
    let is_early = |capture: &Capture| {
        let packets = capture.packets();
        packets.iter().any(|packet| packet.ends_with(b"early"))
    };
    tokio::time::sleep(SILENCE).await;
    let was_early = is_early(&capture);
    router.nft("delete table inet deaf").unwrap();
    let mut tunnel = timeout(PATIENCE, asked).await.unwrap().unwrap();
    if !was_early {
        capture.wait("the packet", |_, rest| {
            rest.ends_with(b"early").then_some(())
        });
    }
    // It did the tunnel no harm, and the address is the one that it was from.
    assert!(tunnel.addresses().await.contains(&own));
    was_early
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_67_packets_wait_for_the_answer_unless_they_are_to_leave_early() {
    for mode in [Mode::AUTO_CLIENT, Mode::AUTO_SHARED] {
        let lab = Lab::start(mode).await;
        assert!(!arrives_before_the_answer(&lab, false).await);
        assert!(arrives_before_the_answer(&lab, true).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_67_a_tunnel_that_starts_early_comes_up_like_any_other() {
    let lab = Lab::start(Mode::AUTO_CLIENT).await;
    let connection = lab.connect(0);
    let mut request = Request::tunnel("connect-ip", "/ip/%2A/%2A/");
    assert!(!request.starts_early, "off unless asked for");
    request.starts_early = true;
    let use_it = || async {
        let mut options = IpTunnelOptions::default();
        options.device = DeviceKind::Plain;
        let mut tunnel = IpTunnel::prepare(options).await.unwrap();
        tunnel.open(&connection, request).await.unwrap();
        let event = timeout(PATIENCE, tunnel.next_event()).await.unwrap();
        assert!(matches!(event, Ok(IpTunnelEvent::Up { .. })), "{event:?}");
        let answer = Ping::to(OWN)
            .through(tunnel.name())
            .send_until_replied(lab.place(0));
        assert_eq!(answer, Answer::Reply { from: OWN.into() });
        tunnel.close().await.unwrap();
    };
    lab.place(0).block_on(use_it).unwrap();
}
