//! Extended CONNECT at the server: who gets a tunnel, and how tunnels end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pasque::Request;
use pasque::config::Limits;
use pasque::testing::TestTunnel;

use super::endpoints::{FLOOD, Mark};
use super::peer::{Peer, plain, tunnel};
use super::wire::{capsule, headers};
use super::{SILENCE, SITE, eventually, server, server_with};
use crate::settings::DATAGRAM_WATERMARK;
use crate::socket::{Received, Socket};
use crate::testing::{Conditions, TestServer};

#[tokio::test]
async fn xc_06_the_authority_is_never_a_target() {
    let server = server().await;
    let mut bystander = Socket::Memory(server.network().socket());
    let address: SocketAddr = bystander.local_addr();
    let mut client = Peer::client(&server).await;
    let authority = address.to_string();
    let mut fields = tunnel("echo", "/echo");
    fields[3].1 = &authority;
    let id = client.request(&fields, false).await;
    assert_eq!(client.head(id).await.status(), 200);
    client.datagram_for(id, b"to the endpoint");
    assert_eq!(client.next_datagram(id).await, b"to the endpoint");
    assert!(
        bystander.try_recv(&mut Received::new()).is_err(),
        "it was sent something"
    );
}

#[tokio::test]
async fn xc_07_an_unknown_protocol_is_answered_501_and_does_no_harm() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("websocket", "/echo").await;
    assert_eq!(client.head(id).await.status(), 501);
    client.finished(id).await;
    let id = client.echo().await;
    client.datagram_for(id, b"next");
    assert_eq!(client.next_datagram(id).await, b"next");
}

#[tokio::test]
async fn xc_08_a_known_protocol_in_the_wrong_place_is_refused() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("connect-ip", "/hold/xc-08").await;
    assert_eq!(client.head(id).await.status(), 501);
    let id = client.connect("connect-udp", "/content/1").await;
    let head = client.head(id).await;
    assert_eq!(
        (head.status(), head.field("allow")),
        (405, Some("GET, HEAD, POST"))
    );
}

#[tokio::test]
async fn xc_09_the_protocol_is_matched_without_regard_to_case() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("ECHO", "/echo").await;
    assert_eq!(client.head(id).await.status(), 200);
}

#[tokio::test]
async fn xc_10_tcp_proxying_is_not_offered() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let fields = [(":method", "CONNECT"), (":authority", "target.example:443")];
    let id = client.request(&fields, false).await;
    assert_eq!(client.head(id).await.status(), 501);
}

#[tokio::test]
async fn xc_12_the_clients_fin_ends_the_tunnel_in_order() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    assert_eq!(server.tunnels(), 1);
    client.send(id, &[], true).await;
    client.finished(id).await;
    eventually("the flow is released", || server.tunnels() == 0).await;
    assert_eq!(client.stream(id).reset, None);
}

#[tokio::test]
async fn xc_12_a_fin_that_comes_with_or_before_the_answer_counts() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.request(&tunnel("echo", "/echo"), true).await;
    client.finished(id).await;

    let id = client.connect("connect-udp", "/hold/xc-12").await;
    eventually("the endpoint is at work", || {
        Mark::named("xc-12").inside() == 1
    })
    .await;
    client.send(id, &capsule(0x00, b"only word"), true).await;
    client.run_for(Duration::from_millis(20)).await;
    Mark::named("xc-12").open();
    assert_eq!(client.next_datagram(id).await, b"only word");
    client.finished(id).await;
    eventually("the flows are released", || server.tunnels() == 0).await;
}

#[tokio::test]
async fn xc_13_a_reset_or_a_stop_ends_the_tunnel_at_once() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let (reset, stopped) = (client.echo().await, client.echo().await);
    client.reset(reset, 0x010c);
    assert_eq!(client.was_reset(reset).await, 0x010c);
    client.stop(stopped, 0x010c);
    client.was_stopped(stopped).await;
    eventually("the flows are released", || server.tunnels() == 0).await;
    assert_eq!(client.fetch("/content/1").await.0, 200);
}

#[tokio::test]
async fn h3_23_an_unknown_code_of_a_reset_is_as_good_as_any() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.reset(id, 0x5f);
    client.was_reset(id).await;
    eventually("the flow is released", || server.tunnels() == 0).await;
    assert_eq!(client.fetch("/content/1").await.0, 200);
}

#[tokio::test]
async fn hdg_24_the_answer_to_a_tunnel_request_describes_no_content() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for path in ["/echo", "/faulty/described"] {
        let id = client.connect("echo", path).await;
        let head = client.head(id).await;
        assert_eq!(head.status(), 200, "{path}");
        for name in ["content-length", "content-type", "transfer-encoding"] {
            assert_eq!(head.field(name), None, "{path}");
        }
    }
}

#[tokio::test]
async fn hdg_25_a_tunnel_request_that_describes_content_is_malformed() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for line in [("content-length", "0"), ("content-type", "text/plain")] {
        let fields = [&tunnel("echo", "/echo")[..], &[line]].concat();
        let id = client.request(&fields, false).await;
        assert_eq!(client.was_aborted(id).await, 0x010e, "{line:?}");
    }
    assert_eq!(server.tunnels(), 0);
}

#[tokio::test]
async fn hdg_26_no_status_without_content_answers_a_tunnel_request() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for fault in ["no-content", "content"] {
        let id = client.connect("echo", &format!("/faulty/{fault}")).await;
        assert_eq!(client.head(id).await.status(), 500, "{fault}");
    }
    assert_eq!(server.tunnels(), 0);
}

#[tokio::test]
async fn hdg_27_the_answer_to_a_tunnel_request_says_capsules() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("echo", "/echo").await;
    assert_eq!(client.head(id).await.field("capsule-protocol"), Some("?1"));
}

#[tokio::test]
async fn hdg_28_no_other_answer_says_capsules() {
    let limits = Limits {
        tunnels_per_connection: 1,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    let refused = "/hold/hdg-28-refused";
    Mark::named("hdg-28-refused").open();
    let mut bad_scheme = tunnel("echo", "/echo");
    bad_scheme[2].1 = "http";
    let cases = [
        (400, bad_scheme.to_vec()),
        (403, tunnel("connect-udp", refused).to_vec()),
        (404, tunnel("echo", "/nowhere").to_vec()),
        (405, plain("GET", "/echo").to_vec()),
        (500, tunnel("echo", "/faulty/panic").to_vec()),
        (501, tunnel("websocket", "/echo").to_vec()),
        (200, plain("GET", "/faulty/content").to_vec()),
        (200, plain("GET", "/content/1").to_vec()),
    ];
    for (status, fields) in cases {
        let id = client.request(&fields, false).await;
        let head = client.head(id).await;
        assert_eq!(
            (head.status(), head.field("capsule-protocol")),
            (status, None),
            "{fields:?}"
        );
        client.finished(id).await;
    }
    client.echo().await;
    let id = client.connect("echo", "/echo").await;
    let head = client.head(id).await;
    assert_eq!((head.status(), head.field("capsule-protocol")), (503, None));
}

#[tokio::test]
async fn hdg_30_a_request_need_not_say_capsules() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for said in ["?1", "?0", "nonsense"] {
        let fields = [&tunnel("echo", "/echo")[..], &[("capsule-protocol", said)]].concat();
        let id = client.request(&fields, false).await;
        assert_eq!(client.head(id).await.status(), 200, "{said}");
    }
    client.echo().await;
}

#[tokio::test]
async fn h3_29_tunnels_above_the_limit_are_refused_and_the_others_unharmed() {
    let limits = Limits {
        tunnels_per_connection: 2,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    let open = [
        client.echo().await,
        client.connect("connect-udp", "/hold/h3-29").await,
    ];
    let id = client.connect("echo", "/echo").await;
    let head = client.head(id).await;
    assert_eq!(head.status(), 503);
    assert!(head.field("retry-after").is_some());
    assert_eq!(
        head.field("proxy-status"),
        Some("pasque;error=connection_limit_reached")
    );

    Mark::named("h3-29").open();
    for id in open {
        client.datagram_for(id, b"unharmed");
        assert_eq!(client.next_datagram(id).await, b"unharmed");
    }
    client.send(open[0], &[], true).await;
    client.finished(open[0]).await;
    client.echo().await;
}

#[tokio::test]
async fn a_flow_that_panics_ends_its_tunnel_only() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let (bad, good) = (client.echo().await, client.echo().await);
    client.datagram_for(bad, b"!panic");
    assert_eq!(client.was_aborted(bad).await, 0x0102);
    client.datagram_for(good, b"unharmed");
    assert_eq!(client.next_datagram(good).await, b"unharmed");
    eventually("its flow is released", || server.tunnels() == 1).await;
}

#[tokio::test]
async fn datagrams_reach_the_tunnel_that_they_are_for() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(client.echo().await);
    }
    for round in 0..5 {
        for &id in &ids {
            client.datagram_for(id, format!("{id}.{round}").as_bytes());
        }
    }
    let mut missing: std::collections::BTreeSet<(u64, u64)> = ids
        .iter()
        .flat_map(|&id| (0..5).map(move |round| (id, round)))
        .collect();
    while !missing.is_empty() {
        let datagram = client
            .until("an echo", |peer| peer.datagrams.pop_front())
            .await;
        let (quarter, len) = pasque::wire::varint::decode(&datagram).unwrap();
        let text = String::from_utf8(datagram[len..].to_vec()).unwrap();
        let (id, round) = text.split_once('.').unwrap();
        assert_eq!(id.parse(), Ok(quarter * 4));
        assert!(
            missing.remove(&(quarter * 4, round.parse().unwrap())),
            "{text} came twice"
        );
    }
}

#[tokio::test]
async fn a_tunnel_that_was_refused_leaves_the_stream_closed() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.next_stream();
    client
        .send(id, &headers(&tunnel("echo", "/nowhere")), false)
        .await;
    assert_eq!(client.head(id).await.status(), 404);
    client.finished(id).await;
    assert_eq!(client.was_stopped(id).await, 0x0100);
    client.run_for(SILENCE).await;
    assert_eq!(client.stream(id).reset, None);
}

#[tokio::test]
async fn a_source_is_asked_as_often_as_the_path_takes_more() {
    let round_trip = Duration::from_millis(200);
    let conditions = Conditions {
        latency: round_trip / 2,
        ..Conditions::default()
    };
    let server = TestServer::start(&SITE, conditions, Limits::default()).await;
    let connection = server.connection().await.unwrap();
    let request = Request::tunnel("gauge", "/gauge");
    let mut tunnel = TestTunnel::open(&connection, request).await.unwrap();
    tunnel.send(b"!flood");
    let start = Instant::now();
    for _ in 0..FLOOD {
        while tunnel.recv().await.len() != 1000 {}
    }
    // The window doubles from round trip to round trip. A batch for each would take many more.
    let took = start.elapsed();
    let by_batches = round_trip * (FLOOD / DATAGRAM_WATERMARK) as u32;
    assert!(took < by_batches * 2 / 3, "{took:?}");
}

#[tokio::test]
async fn what_is_delivered_at_once_fits_into_one_send_to_a_target() {
    let server = server().await;
    let connection = server.connection().await.unwrap();
    let request = Request::tunnel("gauge", "/gauge");
    let mut tunnel = TestTunnel::open(&connection, request).await.unwrap();
    let mut longest = 0;
    // The window opens from round to round.
    for _ in 0..20 {
        let datagram = [b'#'; 1100];
        (0..200).for_each(|_| tunnel.send(&datagram));
        let mut left = 200 * datagram.len();
        while left > 0 {
            let answer = tunnel.recv().await;
            let weight = str::from_utf8(&answer)
                .ok()
                .and_then(|text| text.strip_prefix('#'));
            let weight = weight.map_or(0, |weight| weight.parse().unwrap());
            longest = longest.max(weight);
            left -= weight;
        }
    }
    // 59 of them, where 64 would be too many.
    assert_eq!(longest, 59 * 1100);
}
