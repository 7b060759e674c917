//! Packets of a tunnel under congestion control.

use std::time::Duration;

use pasque_tests::netns::Network;

use crate::lab::{Lab, Mode, Setup};

/// Packets that a program sends at once, many more than any first congestion window has (RFC 9002 §7.2).
const BURST: usize = 4000;

/// Packets that leave for the few that may, with what asks for a sign of life.
const FEW: u64 = 400;

/// Sends [`BURST`] packets into the tunnel of client `n`, and tells how many have passed the router since.
async fn burst(lab: &Lab, n: usize) -> u64 {
    let _client = lab.client(n, &[]).await;
    let name = format!("sent{n}");
    let deaf = match n {
        0 => "ip daddr 10.9.1.2 drop",
        _ => "",
    };
    let rules = format!(
        "table inet burst{n} {{
            counter {name} {{}}
            chain forward {{
                type filter hook forward priority 0
                {deaf}
                ip saddr 10.9.{}.2 udp dport 443 counter name {name}
            }}
        }}",
        n + 1
    );
    lab.network.router.nft(&rules).unwrap();
    let socket = lab.place(n).udp(([0; 4], 0)).unwrap();
    for sent in 1..=BURST {
        // A full queue of the interface is no error of the test.
        let _ = socket.send_to(&[7; 1000], (Network::TARGET, 9));
        if sent.is_multiple_of(50) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    lab.network.router.counter(&name).unwrap().packets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_64_packets_wait_for_the_acknowledgement_of_those_before() {
    let lab = Setup::new(Mode::AUTO_CLIENT)
        .ipv4_only()
        .single_packets()
        .start()
        .await;
    // Client 0 hears nothing of the server any more, client 1 does.
    let unacknowledged = burst(&lab, 0).await;
    assert!(unacknowledged < FEW, "{unacknowledged} have left");
    let acknowledged = burst(&lab, 1).await;
    assert!(acknowledged > 4 * FEW, "{acknowledged} have left");
}
