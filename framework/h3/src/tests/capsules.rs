//! Capsules on a tunnel's stream.

use pasque::config::Limits;

use super::endpoints::{BEAT, ECHO_CAPSULE, FLOOD, pattern};
use super::peer::{Closed, Peer, generous};
use super::wire::{HEADERS, capsule, data, frame, headers, hex};
use super::{SILENCE, SITE, eventually, server};
use crate::testing::{Conditions, TestServer};

/// A client that is not sent datagrams, and its tunnel: answers come as capsules.
async fn by_capsules(server: &TestServer) -> (Peer, u64) {
    let mut client = Peer::client_with(server, generous(), "04 00").await;
    let id = client.echo().await;
    (client, id)
}

#[tokio::test]
async fn hdg_18_unknown_capsules_are_passed_over() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    let stream = hex("17 03 61 62 63  40 40 00  00 03 00 68 69");
    client.send(id, &data(&stream), false).await;
    assert_eq!(client.next_datagram(id).await, b"\0hi");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty() && client.content(id).is_empty());
    client.datagram_for(id, b"open");
    assert_eq!(client.next_datagram(id).await, b"open");
}

#[tokio::test]
async fn hdg_19_an_unknown_capsule_longer_than_every_window_passes() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    let mut stream = frame(0x17, &vec![0x61; 8 << 20]);
    stream.extend(frame(0x00, b"after"));
    for part in stream.chunks(100_000) {
        client.send(id, &data(part), false).await;
    }
    assert_eq!(client.next_datagram(id).await, b"after");
}

#[tokio::test]
async fn hdg_20_a_capsule_that_its_flow_finds_malformed_aborts_the_stream() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let (bad, good) = (client.echo().await, client.echo().await);
    client
        .send(bad, &capsule(ECHO_CAPSULE, b"!malformed"), false)
        .await;
    assert_eq!(client.was_aborted(bad).await, 0x010e);
    client.datagram_for(good, b"others go on");
    assert_eq!(client.next_datagram(good).await, b"others go on");
}

#[tokio::test]
async fn hdg_21_the_stream_ends_between_capsules() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for inside in ["00 05 00 68", "40", "00", "40 00 40"] {
        let id = client.echo().await;
        client.send(id, &data(&hex(inside)), true).await;
        assert_eq!(client.was_reset(id).await, 0x010e, "{inside}");
    }
    let id = client.echo().await;
    client.send(id, &data(&hex("00 03 00 68 69")), true).await;
    assert_eq!(client.next_datagram(id).await, b"\0hi");
    client.finished(id).await;
    eventually("all tunnels are gone", || server.tunnels() == 0).await;
}

#[tokio::test]
async fn hdg_22_a_bad_capsule_gives_one_code_in_both_directions() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    // A known type that announces more than anybody keeps.
    let header = [
        &[0x40 | (ECHO_CAPSULE >> 8) as u8, ECHO_CAPSULE as u8][..],
        &hex("80 01 00 01"),
    ];
    client.send(id, &data(&header.concat()), false).await;
    assert_eq!(client.was_aborted(id).await, 0x010e);
    eventually("the tunnel is gone", || server.tunnels() == 0).await;
}

#[tokio::test]
async fn hdg_32_a_capsule_longer_than_the_window_arrives_whole() {
    let small = |config: &mut quiche::Config| {
        config.set_initial_max_stream_data_bidi_remote(4096);
        config.set_max_stream_window(4096);
    };
    let limits = Limits::default();
    let server = TestServer::tweaked(&SITE, Conditions::default(), limits, small).await;
    let (mut client, id) = by_capsules(&server).await;
    assert_eq!(
        client
            .quic
            .peer_transport_params()
            .unwrap()
            .initial_max_stream_data_bidi_remote,
        4096
    );
    let payload: Vec<u8> = (0..60 << 10).map(|n: u32| (n ^ n >> 8) as u8).collect();
    client.send(id, &capsule(0x00, &payload), false).await;
    let echo = client
        .until("the capsule", |peer| peer.capsules(id).pop())
        .await;
    assert!(echo == (0x00, payload));
}

#[tokio::test]
async fn hdg_33_a_datagram_capsule_means_the_same_as_a_datagram() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.datagram_for(id, b"by datagram");
    assert_eq!(client.next_datagram(id).await, b"by datagram");
    client.send(id, &capsule(0x00, b"by capsule"), false).await;
    assert_eq!(client.next_datagram(id).await, b"by capsule");
    client
        .send(id, &data(&hex("40 00 40 03 00 68 69")), false)
        .await;
    assert_eq!(client.next_datagram(id).await, b"\0hi");
}

#[tokio::test]
async fn hdg_34_without_datagrams_the_tunnel_works_by_capsules() {
    let server = server().await;
    let (mut client, id) = by_capsules(&server).await;
    for payload in [&b"one"[..], b"", &[7; 1500]] {
        client.send(id, &capsule(0x00, payload), false).await;
    }
    let capsules = client
        .until("three capsules", |p| {
            Some(p.capsules(id)).filter(|c| c.len() == 3)
        })
        .await;
    let expected = [b"one".to_vec(), vec![], vec![7; 1500]].map(|payload| (0x00, payload));
    assert_eq!(capsules, expected);
}

#[tokio::test]
async fn hdg_34_a_source_with_much_to_send_sends_it_all_by_capsules() {
    let server = server().await;
    let mut client = Peer::client_with(&server, generous(), "04 00").await;
    let id = client.connect("gauge", "/gauge").await;
    client.send(id, &capsule(0x00, b"!flood"), false).await;
    // The first one tells the longest datagram.
    let all = client.until("the flood", |p| {
        Some(p.capsules(id)).filter(|all| all.len() > FLOOD)
    });
    let all = all.await;
    assert_eq!(all.len(), FLOOD + 1);
    assert!(
        all[1..]
            .iter()
            .all(|(kind, value)| *kind == 0 && value.len() == 1000)
    );
}

#[tokio::test]
async fn the_smallest_capsules_in_numbers_hold_nobody_up() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let beat = BEAT.with(std::sync::Arc::clone);
    let ticking = tokio::spawn({
        let beat = beat.clone();
        async move {
            loop {
                beat.ticks
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let count = 100_000;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let id = client.connect("metronome", "/metronome").await;
        // Everything in one DATA frame, of which the server has much before it looks.
        client
            .send(id, &data(&[0x00, 0x00].repeat(count / 4)), false)
            .await;
        ids.push(id);
    }
    let taken = || beat.taken.load(std::sync::atomic::Ordering::Relaxed);
    client
        .until("all of them", |_peer| (taken() == count).then_some(()))
        .await;
    ticking.abort();
    // A turn's and what one read brings beyond that, of the few turns that there are between two ticks. All of
    // them had come before the server looked.
    let most = beat.most.load(std::sync::atomic::Ordering::Relaxed);
    assert!((256..=3072).contains(&most), "{most}");
    // Others, and the end of the stream, come after as ever.
    client.send(ids[0], &[], true).await;
    client.finished(ids[0]).await;
}

#[tokio::test]
async fn hdg_35_what_is_too_long_for_a_datagram_takes_no_other_way() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.datagram_for(id, b"!too long");
    // Comes in as a capsule, and would have to leave as a datagram.
    client.send(id, &capsule(0x00, &[7; 2000]), false).await;
    client.datagram_for(id, b"after");
    assert_eq!(client.next_datagram(id).await, b"after");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty() && client.content(id).is_empty());
}

#[tokio::test]
async fn hdg_36_only_data_follows_on_a_tunnels_stream() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client
        .send(id, &frame(0x21, b"reserved types are ignored"), false)
        .await;
    client.datagram_for(id, b"open");
    assert_eq!(client.next_datagram(id).await, b"open");
    client.send(id, &headers(&[("trailer", "1")]), false).await;
    assert_eq!(client.was_closed().await, Closed::Application(0x0105));

    // SETTINGS, GOAWAY and CANCEL_PUSH belong elsewhere.
    for other in ["04 00", "07 01 00", "03 01 00"] {
        let mut client = Peer::client(&server).await;
        let id = client.echo().await;
        client.send(id, &hex(other), false).await;
        assert_eq!(
            client.was_closed().await,
            Closed::Application(0x0105),
            "{other}"
        );
    }
}

#[tokio::test]
async fn hdg_36_headers_after_capsules_end_the_connection_too() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.send(id, &capsule(0x00, b"first"), false).await;
    assert_eq!(client.next_datagram(id).await, b"first");
    let last = [capsule(0x00, b"last"), headers(&[("trailer", "1")])].concat();
    client.send(id, &last, false).await;
    assert_eq!(client.was_closed().await, Closed::Application(0x0105));
}

#[tokio::test]
async fn hdg_37_a_peer_that_reads_no_capsules_loses_its_tunnel() {
    let server = server().await;
    let mut config = generous();
    config.set_initial_max_stream_data_bidi_local(1000);
    config.set_max_stream_window(1000);
    let mut client = Peer::client_with(&server, config, "04 02 33 01").await;
    let (id, other) = (
        client.connect("speaker", "/speaker/10000/100").await,
        client.echo().await,
    );
    assert_eq!(client.was_aborted(id).await, 0x0107);
    client.datagram_for(other, b"others go on");
    assert_eq!(client.next_datagram(other).await, b"others go on");
    eventually("its tunnel is gone", || server.tunnels() == 1).await;
}

#[tokio::test]
async fn capsules_wait_for_credit_and_all_arrive() {
    let server = server().await;
    let mut config = generous();
    config.set_initial_max_stream_data_bidi_local(1000);
    config.set_max_stream_window(1000);
    let mut client = Peer::client_with(&server, config, "04 02 33 01").await;
    let id = client.connect("speaker", "/speaker/100/1000").await;
    let capsules = client
        .until("100 capsules", |p| {
            Some(p.capsules(id)).filter(|all| all.len() == 100)
        })
        .await;
    for (n, (kind, value)) in capsules.into_iter().enumerate() {
        assert_eq!(kind, ECHO_CAPSULE);
        assert_eq!(value, pattern(n, 1000));
    }
}

#[tokio::test]
async fn what_a_flow_says_last_arrives_before_the_end() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client
        .send(id, &capsule(ECHO_CAPSULE, b"last words"), true)
        .await;
    client.finished(id).await;
    assert_eq!(
        client.capsules(id),
        [(ECHO_CAPSULE, b"last words".to_vec())]
    );
}

#[tokio::test]
async fn ps_07_a_tunnels_stream_has_one_header_section() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let (failed, ended) = (client.echo().await, client.echo().await);
    client.datagram_for(failed, b"!fail");
    assert_eq!(client.was_aborted(failed).await, 0x0102);
    client.datagram_for(ended, b"!end");
    client.finished(ended).await;
    for id in [failed, ended] {
        let sections = client
            .frames(id)
            .iter()
            .filter(|f| f.kind == HEADERS)
            .count();
        assert_eq!(sections, 1, "stream {id}");
    }
}
