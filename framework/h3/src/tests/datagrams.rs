//! HTTP Datagrams: which request they are for, and when they mean nothing.

use std::time::Duration;

use pasque::config::Limits;

use super::endpoints::Mark;
use super::listening::{PROPER, serve};
use super::peer::{Closed, Peer, generous, plain, tunnel};
use super::wire::{capsule, headers, hex};
use super::{SILENCE, eventually, server, server_with};

#[tokio::test]
async fn hdg_03_a_peer_that_announces_no_datagrams_is_sent_none() {
    let server = server().await;
    for control in ["04 00", "04 02 33 00"] {
        let mut client = Peer::client_with(&server, generous(), control).await;
        let id = client.echo().await;
        client.send(id, &capsule(0, b"by capsule"), false).await;
        client
            .until("a capsule", |peer| peer.capsules(id).pop())
            .await;
        client.run_for(SILENCE).await;
        assert!(client.datagrams.is_empty(), "{control}");
    }
}

#[tokio::test]
async fn hdg_03_nothing_is_sent_before_the_settings_have_come() {
    let server = server().await;
    let mut client = Peer::dial(server.network(), server.address(), generous());
    client
        .until("a handshake", |peer| {
            peer.quic.is_established().then_some(())
        })
        .await;
    let id = client.echo().await;
    client.datagram_for(id, b"too early for an answer");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty() && client.content(id).is_empty());
    client.control("04 02 33 01").await;
    client.datagram_for(id, b"now");
    assert_eq!(client.next_datagram(id).await, b"now");
}

#[tokio::test]
async fn hdg_05_the_longest_datagram_fits_and_a_longer_one_is_dropped() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.datagram_for(id, b"!too long");
    client.datagram_for(id, b"!longest");
    client.datagram_for(id, b"after");
    let longest = client.next_datagram(id).await;
    assert!(longest.len() > 1100, "{} bytes", longest.len());
    assert_eq!(client.next_datagram(id).await, b"after");
    assert!(client.content(id).is_empty(), "nothing takes another way");
}

#[tokio::test]
async fn hdg_07_any_form_of_the_stream_id_is_understood() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    client.fetch("/content/1").await;
    let id = client.echo().await;
    assert_eq!(id, 4);
    for prefix in ["01", "40 01", "80 00 00 01", "c0 00 00 00 00 00 00 01"] {
        client.datagram(&[&hex(prefix)[..], b"hi"].concat());
        let echo = client
            .until("an echo", |peer| peer.datagrams.pop_front())
            .await;
        assert_eq!(echo, b"\x01hi", "the shortest form comes back");
    }
}

#[tokio::test]
async fn hdg_08_a_stream_id_above_62_bits_closes_the_connection() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.datagram(&hex("cf ff ff ff ff ff ff ff 61"));
    client.datagram_for(id, b"still here");
    assert_eq!(client.next_datagram(id).await, b"still here");
    client.datagram(&hex("d0 00 00 00 00 00 00 00"));
    assert_eq!(client.was_closed().await, Closed::Application(0x33));

    let (mut peer, connection) = serve(PROPER).await;
    peer.datagram(&hex("d0 00 00 00 00 00 00 00"));
    assert_eq!(peer.was_closed().await, Closed::Application(0x33));
    drop(connection);
}

#[tokio::test]
async fn hdg_09_a_datagram_too_short_for_its_quarter_id_closes_the_connection() {
    let server = server().await;
    for datagram in ["", "40", "80 00 00"] {
        let mut client = Peer::client(&server).await;
        client.datagram(&hex(datagram));
        assert_eq!(
            client.was_closed().await,
            Closed::Application(0x33),
            "{datagram:?}"
        );

        let (mut peer, _connection) = serve(PROPER).await;
        peer.datagram(&hex(datagram));
        assert_eq!(
            peer.was_closed().await,
            Closed::Application(0x33),
            "{datagram:?}"
        );
    }
}

#[tokio::test]
async fn hdg_10_nothing_is_sent_for_a_tunnel_that_has_ended() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    // One turn sees both: what comes after the end is not answered.
    client.datagram_for(id, b"!end");
    client.datagram_for(id, b"last");
    client.finished(id).await;
    assert_eq!(client.next_datagram(id).await, b"last");
    client.datagram_for(id, b"too late");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty());
}

#[tokio::test]
async fn hdg_11_what_comes_after_the_end_is_dropped_in_silence() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.send(id, &[], true).await;
    client.finished(id).await;
    client.datagram_for(id, b"too late");
    let reset = client.echo().await;
    client.reset(reset, 0x010c);
    client.was_reset(reset).await;
    client.datagram_for(reset, b"too late");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty());

    let id = client.echo().await;
    client.datagram_for(id, b"another");
    assert_eq!(client.next_datagram(id).await, b"another");
}

#[tokio::test]
async fn hdg_12_a_datagram_that_overtakes_its_request_is_delivered() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.next_stream();
    client.datagram_for(id, b"early");
    client.run_for(Duration::from_millis(20)).await;
    client
        .send(id, &headers(&tunnel("echo", "/echo")), false)
        .await;
    assert_eq!(client.head(id).await.status(), 200);
    assert_eq!(client.next_datagram(id).await, b"early");
}

#[tokio::test]
async fn hdg_12_no_more_than_16_are_held() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.next_stream();
    for n in 0..17 {
        client.datagram_for(id, &[n]);
    }
    client.run_for(Duration::from_millis(20)).await;
    client
        .send(id, &headers(&tunnel("echo", "/echo")), false)
        .await;
    assert_eq!(client.head(id).await.status(), 200);
    client.datagram_for(id, b"after");
    let mut delivered = Vec::new();
    while delivered.last().is_none_or(|last| last != b"after") {
        delivered.push(client.next_datagram(id).await);
    }
    let expected: Vec<Vec<u8>> = (0..16)
        .map(|n| vec![n])
        .chain([b"after".to_vec()])
        .collect();
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn hdg_12_a_request_that_never_comes_leaves_nothing_behind() {
    let limits = Limits {
        early_datagram: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    let id = client.next_stream();
    for n in 0..16 {
        client.datagram_for(id, &[n]);
    }
    client.run_for(SILENCE).await;
    // Their time is over: they are gone, and there is room for others.
    let other = client.next_stream();
    client.datagram_for(other, b"early");
    for id in [id, other] {
        client
            .send(id, &headers(&tunnel("echo", "/echo")), false)
            .await;
        assert_eq!(client.head(id).await.status(), 200);
    }
    assert_eq!(client.next_datagram(other).await, b"early");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty());
}

#[tokio::test]
async fn hdg_13_a_stream_far_beyond_the_limit_takes_no_room() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for _ in 0..16 {
        client.datagram_for(4 << 40, b"nowhere");
    }
    let id = client.next_stream();
    for n in 0..16 {
        client.datagram_for(id, &[n]);
    }
    client
        .send(id, &headers(&tunnel("echo", "/echo")), false)
        .await;
    for n in 0..16 {
        assert_eq!(client.next_datagram(id).await, [n]);
    }
}

#[tokio::test]
async fn hdg_14_a_datagram_for_a_request_that_knows_none_aborts_it() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    // The client still has something to say, so its datagram is not late (HDG-11).
    let fields = [&plain("POST", "/content/unread")[..], &[("mark", "hdg-14")]].concat();
    let id = client.request(&fields, false).await;
    eventually("the endpoint is at work", || {
        Mark::named("hdg-14").inside() == 1
    })
    .await;
    client.datagram_for(id, b"a");
    assert_eq!(client.was_aborted(id).await, 0x33);
    assert_eq!(
        client.fetch("/content/100").await.1.len(),
        100,
        "other requests go on"
    );
    eventually("the endpoint is told", || {
        Mark::named("hdg-14").inside() == 0
    })
    .await;
}

#[tokio::test]
async fn hdg_15_only_tunnels_have_a_flow() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    // An endpoint that answers a GET with a flow has made a mistake.
    let id = client.get("/faulty/flow").await;
    assert_eq!(client.head(id).await.status(), 500);
    assert_eq!(server.tunnels(), 0);
}

#[tokio::test]
async fn hdg_16_datagrams_for_a_refused_tunnel_are_dropped() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("connect-udp", "/hold/hdg-16-refused").await;
    client.datagram_for(id, b"before");
    Mark::named("hdg-16-refused").open();
    assert_eq!(client.head(id).await.status(), 403);
    client.datagram_for(id, b"after");
    client.finished(id).await;
    let other = client.echo().await;
    client.datagram_for(other, b"alive");
    assert_eq!(client.next_datagram(other).await, b"alive");
}

#[tokio::test]
async fn hdg_16_datagrams_do_not_spoil_a_refusal_that_is_on_its_way() {
    let limits = Limits {
        tunnels_per_connection: 1,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    client.echo().await;
    // Request and datagram arrive together, and the engine refuses without asking an endpoint.
    let id = client.next_stream();
    client
        .quic
        .stream_send(id, &headers(&tunnel("echo", "/echo")), false)
        .unwrap();
    client.datagram_for(id, b"hopeful");
    assert_eq!(client.head(id).await.status(), 503);
    client.finished(id).await;
}

#[tokio::test]
async fn udp_49_datagrams_before_the_answer_are_delivered_in_order_after_it() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("connect-udp", "/hold/udp-49").await;
    eventually("the endpoint is at work", || {
        Mark::named("udp-49").inside() == 1
    })
    .await;
    for payload in [b"one", b"two", b"six"] {
        client.datagram_for(id, payload);
    }
    client.run_for(Duration::from_millis(20)).await;
    assert!(
        client.frames(id).is_empty() && client.datagrams.is_empty(),
        "not before the answer"
    );
    Mark::named("udp-49").open();
    for payload in [b"one", b"two", b"six"] {
        assert_eq!(client.next_datagram(id).await, payload);
    }
    assert_eq!(client.head(id).await.status(), 200);
}
