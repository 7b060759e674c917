//! What both ends announce, and what they make of the other's control stream.

use std::time::Duration;

use pasque::config::Limits;
use pasque::connection::CloseReason;

use super::listening::{Listening, PROPER, serve, trusting};
use super::peer::{Closed, Peer, generous, plain};
use super::wire::{GOAWAY, data, frame, headers, hex};
use super::{server, server_with};

const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;

fn value(settings: &[(u64, u64)], id: u64) -> Option<u64> {
    settings
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, value)| *value)
}

/// How the server ends the connection of a client whose control stream holds `control`.
async fn verdict_on(control: &str) -> Closed {
    let server = server().await;
    Peer::client_with(&server, generous(), control)
        .await
        .was_closed()
        .await
}

/// How our client ends the connection to a server whose control stream holds `control`.
async fn client_verdict_on(control: &str) -> Closed {
    let (mut peer, connection) = serve(control).await;
    let closed = peer.was_closed().await;
    let reason = connection.closed().await;
    assert!(matches!(reason, CloseReason::LocalError(..)), "{reason}");
    closed
}

#[tokio::test]
async fn hdg_01_both_ends_announce_datagrams() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    assert_eq!(value(&client.settings().await, H3_DATAGRAM), Some(1));

    let (mut peer, _connection) = serve(PROPER).await;
    assert_eq!(value(&peer.settings().await, H3_DATAGRAM), Some(1));
}

#[tokio::test]
async fn hdg_01_a_server_without_tunnels_announces_them_too() {
    let content = r#"{ "path": "/content/{what}", "type": "Content" }"#;
    let server = crate::testing::TestServer::from_json(content).await;
    let mut client = Peer::client(&server).await;
    assert_eq!(value(&client.settings().await, H3_DATAGRAM), Some(1));
}

#[tokio::test]
async fn hdg_02_datagram_support_is_0_or_1() {
    assert_eq!(verdict_on("04 02 33 02").await, Closed::Application(0x0109));
    assert_eq!(
        client_verdict_on("04 04 08 01 33 02").await,
        Closed::Application(0x0109)
    );
}

#[tokio::test]
async fn hdg_04_datagrams_without_the_transport_parameter_end_the_connection() {
    let server = server().await;
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
    config
        .set_application_protos(quiche::h3::APPLICATION_PROTOCOL)
        .unwrap();
    config.verify_peer(false);
    config.set_initial_max_data(1 << 20);
    config.set_initial_max_stream_data_uni(1 << 20);
    config.set_initial_max_streams_uni(8);
    let mut peer = Peer::client_with(&server, config, "04 02 33 01").await;
    assert_eq!(peer.was_closed().await, Closed::Application(0x0109));
}

#[tokio::test]
async fn hdg_06_early_data_is_not_offered() {
    let server = server().await;
    let config = || {
        let mut config = generous();
        config.enable_early_data();
        config
    };
    let mut first = Peer::client_with(&server, config(), "04 02 33 01").await;
    let session = first
        .until("a ticket", |p| p.quic.session().map(<[u8]>::to_vec))
        .await;

    let mut again = Peer::dial(server.network(), server.address(), config());
    again.quic.set_session(&session).unwrap();
    let is_resumed = again
        .until("a handshake", |peer| {
            assert!(
                !peer.quic.is_in_early_data(),
                "the ticket offers early data"
            );
            peer.quic.is_established().then(|| peer.quic.is_resumed())
        })
        .await;
    assert!(is_resumed, "the ticket was good for a resumption");
}

#[tokio::test]
async fn xc_01_only_the_server_announces_extended_connect() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    assert_eq!(
        value(&client.settings().await, ENABLE_CONNECT_PROTOCOL),
        Some(1)
    );

    let (mut peer, _connection) = serve(PROPER).await;
    assert!(value(&peer.settings().await, ENABLE_CONNECT_PROTOCOL).unwrap_or(0) == 0);
}

#[tokio::test]
async fn xc_02_extended_connect_is_0_or_1() {
    assert_eq!(verdict_on("04 02 08 02").await, Closed::Application(0x0109));
    assert_eq!(
        client_verdict_on("04 02 08 02").await,
        Closed::Application(0x0109)
    );
}

#[tokio::test]
async fn h3_13_the_control_stream_starts_with_settings_and_has_them_once() {
    // GOAWAY first.
    assert_eq!(verdict_on("07 01 00").await, Closed::Application(0x010a));
    assert_eq!(
        client_verdict_on("07 01 00").await,
        Closed::Application(0x010a)
    );
    assert_eq!(verdict_on("04 00 04 00").await, Closed::Application(0x0105));
    assert_eq!(
        client_verdict_on("04 02 08 01 04 00").await,
        Closed::Application(0x0105)
    );
}

#[tokio::test]
async fn h3_13_there_is_one_control_stream_and_no_push_stream() {
    let server = server().await;
    for second in ["00 04 00", "01 00"] {
        let mut client = Peer::client(&server).await;
        client.send(6, &hex(second), false).await;
        assert_eq!(
            client.was_closed().await,
            Closed::Application(0x0103),
            "{second}"
        );

        let (mut peer, _connection) = serve(PROPER).await;
        peer.send(7, &hex(second), false).await;
        let expected = match second {
            "01 00" => [Closed::Application(0x0103), Closed::Application(0x0108)],
            _ => [Closed::Application(0x0103), Closed::Application(0x0103)],
        };
        // A client that never allowed a push may as well object to its ID (RFC 9114 §4.6).
        assert!(expected.contains(&peer.was_closed().await), "{second}");
    }
}

#[tokio::test]
async fn h3_13_critical_streams_stay_open() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    client.send(2, &[], true).await;
    assert_eq!(client.was_closed().await, Closed::Application(0x0104));
    // The streams of QPACK are critical, too.
    let mut client = Peer::client(&server).await;
    client.send(6, &[0x02], true).await;
    assert_eq!(client.was_closed().await, Closed::Application(0x0104));

    let (mut peer, _connection) = serve(PROPER).await;
    peer.send(3, &[], true).await;
    assert_eq!(peer.was_closed().await, Closed::Application(0x0104));
}

#[tokio::test]
async fn h3_14_settings_of_http_2_end_the_connection() {
    for id in ["00", "02", "03", "04", "05"] {
        let control = format!("04 02 {id} 00");
        assert_eq!(
            verdict_on(&control).await,
            Closed::Application(0x0109),
            "{control}"
        );
    }
    assert_eq!(
        client_verdict_on("04 02 02 00").await,
        Closed::Application(0x0109)
    );
}

#[tokio::test]
async fn h3_14_what_is_unknown_is_ignored() {
    let server = server().await;
    // A reserved setting, then a reserved frame with content.
    let mut client = Peer::client_with(&server, generous(), "04 04 21 2a 33 01 21 02 61 62").await;
    // A unidirectional stream of a reserved type.
    client.send(6, &hex("40 40 61 62 63"), false).await;
    let id = client.echo().await;
    client
        .send(
            id,
            &[frame(0x21, b"ignored"), frame(0x40, &[])].concat(),
            false,
        )
        .await;
    client.datagram_for(id, b"still here");
    assert_eq!(client.next_datagram(id).await, b"still here");

    let (mut peer, connection) = serve("04 06 08 01 21 2a 33 01 21 02 61 62").await;
    peer.send(7, &hex("40 40 61 62 63"), false).await;
    let asked = tokio::spawn(async move { connection.connect("echo", "/echo").await });
    let head = headers(&[(":status", "200")]);
    peer.head(0).await;
    peer.send(0, &[head, frame(0x21, b"ignored")].concat(), false)
        .await;
    peer.run_until(asked).await.expect("a tunnel");
}

#[tokio::test]
async fn h3_21_the_peer_may_open_enough_streams() {
    let server = server().await;
    let client = Peer::client(&server).await;
    let parameters = client.quic.peer_transport_params().unwrap();
    assert!(parameters.initial_max_streams_uni >= 3);
    assert!(parameters.initial_max_stream_data_uni >= 1024);
    assert!(parameters.initial_max_streams_bidi >= 100);

    let (peer, _connection) = serve(PROPER).await;
    let parameters = peer.quic.peer_transport_params().unwrap();
    assert!(parameters.initial_max_streams_uni >= 3);
    assert!(parameters.initial_max_stream_data_uni >= 1024);
}

#[tokio::test]
async fn h3_21_credit_for_streams_comes_back() {
    let limits = Limits {
        requests_per_connection: 2,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    for _ in 0..10 {
        assert_eq!(client.fetch("/content/10").await.0, 200);
        client
            .until("credit", |p| {
                (p.quic.peer_streams_left_bidi() > 0).then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn h3_22_the_limit_on_header_sections_is_announced_and_kept() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let announced = value(&client.settings().await, MAX_FIELD_SECTION_SIZE);
    assert_eq!(announced, Some(16 << 10));

    let long = "x".repeat(64 << 10);
    let fields = [&plain("GET", "/content/1")[..], &[("x", long.as_str())]].concat();
    let id = client.next_stream();
    // The server may close before it has seen all of it.
    client.send_some(id, &headers(&fields)).await;
    assert_eq!(client.was_closed().await, Closed::Application(0x0107));
    assert_eq!(
        Peer::client(&server).await.fetch("/content/1").await.0,
        200,
        "the server lives"
    );
}

#[tokio::test]
async fn h3_20_a_goaway_that_takes_back_a_promise_ends_the_connection() {
    let (mut peer, connection) = serve(PROPER).await;
    peer.send(
        3,
        &[frame(GOAWAY, &[4]), frame(GOAWAY, &[8])].concat(),
        false,
    )
    .await;
    assert_eq!(peer.was_closed().await, Closed::Application(0x0108));
    assert!(matches!(
        connection.closed().await,
        CloseReason::LocalError(0x0108, _)
    ));
}

#[tokio::test]
async fn h3_12_a_control_stream_carries_no_content() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    client.send(2, &data(b"content"), false).await;
    assert_eq!(client.was_closed().await, Closed::Application(0x0105));
}

#[tokio::test]
async fn h3_24_servers_leave_silent_connections_alone() {
    let server = server().await;
    let mut config = generous();
    config.set_max_idle_timeout(1000);
    let mut client = Peer::client_with(&server, config, "04 02 33 01").await;
    client
        .until("the idle timeout", |peer| {
            peer.quic.is_timed_out().then_some(())
        })
        .await;
}

#[tokio::test]
async fn h3_24_a_client_keeps_its_connection_alive_whatever_the_server_allows() {
    let mut listening = Listening::new();
    listening.config.set_max_idle_timeout(1500);
    let (mut peer, connection) = listening.serve(PROPER, trusting()).await;
    peer.run_for(Duration::from_secs(4)).await;
    assert!(
        !peer.quic.is_closed() && peer.quic.peer_error().is_none(),
        "{peer:?}"
    );
    let asked = tokio::spawn(async move { connection.connect("echo", "/echo").await });
    peer.head(0).await;
    peer.send(0, &headers(&[(":status", "200")]), false).await;
    peer.run_until(asked).await.expect("a tunnel");
}
