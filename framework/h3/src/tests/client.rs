//! Our client: what it sends, what it waits for, and what it tells its user.

use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use pasque::connection::{ClientError, CloseReason, Connection};
use pasque::testing::TestTunnel;
use pasque::{Body, Credentials, Request, Response, Tunnel};
use tokio::task::JoinHandle;

use super::listening::{Listening, PROPER, serve, trusting};
use super::peer::{Closed, Peer, generous};
use super::wire::{GOAWAY, HEADERS, capsule, data, frame, headers};
use super::{SILENCE, eventually, server};
use crate::client::ClientConfig;
use crate::testing::Conditions;
use crate::tls::Trust;

/// Lets the client ask for a tunnel, on a task of its own.
fn connect(connection: &Connection) -> JoinHandle<Result<Tunnel, ClientError>> {
    let connection = connection.clone();
    tokio::spawn(async move { connection.connect("echo", "/echo").await })
}

/// Lets the client ask for something, on a task of its own.
fn get(connection: &Connection) -> JoinHandle<Result<Response, ClientError>> {
    let connection = connection.clone();
    tokio::spawn(async move { connection.request(Request::get("/file")).await })
}

/// Opens a tunnel on stream `id`, which is the next.
async fn open(peer: &mut Peer, connection: &Connection, id: u64) -> TestTunnel {
    let asked = connect(connection);
    peer.head(id).await;
    peer.send(id, &headers(&[(":status", "200")]), false).await;
    TestTunnel(peer.run_until(asked).await.expect("a tunnel"))
}

/// Whether the other end has sent a request.
fn has_asked(peer: &Peer) -> bool {
    peer.streams
        .iter()
        .any(|(id, incoming)| id % 4 == 0 && !incoming.bytes.is_empty())
}

#[tokio::test]
async fn xc_03_no_tunnel_is_asked_of_a_server_that_offers_none() {
    for control in ["04 02 33 01", "04 04 08 00 33 01"] {
        let (mut peer, connection) = serve(control).await;
        let error = peer.run_until(connect(&connection)).await.unwrap_err();
        assert!(matches!(error, ClientError::NoExtendedConnect), "{error}");
        assert!(
            error
                .to_string()
                .contains("SETTINGS_ENABLE_CONNECT_PROTOCOL"),
            "{error}"
        );
        peer.run_for(SILENCE).await;
        assert!(!has_asked(&peer));
    }
}

#[tokio::test]
async fn xc_03_a_tunnel_request_waits_for_the_settings() {
    let listening = Listening::new();
    let connecting = listening.dial("localhost", trusting());
    let mut peer = listening.accept().await;
    let connection = peer.run_until(connecting).await.unwrap();
    let asked = connect(&connection);
    peer.run_for(SILENCE).await;
    assert!(!has_asked(&peer), "it asked before it knew");
    peer.control(PROPER).await;
    peer.head(0).await;
    peer.send(0, &headers(&[(":status", "200")]), false).await;
    peer.run_until(asked).await.expect("a tunnel");
}

#[tokio::test]
async fn every_request_shows_the_credentials_unless_it_has_its_own() {
    let listening = Listening::new();
    let config = ClientConfig {
        credentials: Some(Credentials::bearer("hunter2").unwrap()),
        ..trusting()
    };
    let connecting = listening.dial("localhost", config);
    let mut peer = listening.accept().await;
    let connection = peer.run_until(connecting).await.unwrap();
    peer.control(PROPER).await;
    let _asked = get(&connection);
    let shown = peer.head(0).await;
    assert_eq!(shown.field("authorization"), Some("Bearer hunter2"));
    let _asked = connect(&connection);
    let shown = peer.head(4).await;
    assert_eq!(shown.field("authorization"), Some("Bearer hunter2"));
    let mut request = Request::get("/file");
    let own = HeaderValue::from_static("Basic YTpi");
    request.headers.insert("authorization", own);
    let own = connection.clone();
    let _asked = tokio::spawn(async move { own.request(request).await });
    let shown = peer.head(8).await;
    assert_eq!(shown.field("authorization"), Some("Basic YTpi"));
}

#[tokio::test]
async fn xc_04_a_tunnel_request_has_five_parts_and_says_capsules() {
    let (mut peer, connection) = serve(PROPER).await;
    let _asked = connect(&connection);
    let mut fields = peer.head(0).await.fields;
    let capsules = fields.pop();
    fields.sort();
    let expected = [
        (":authority", "localhost"),
        (":method", "CONNECT"),
        (":path", "/echo"),
        (":protocol", "echo"),
        (":scheme", "https"),
    ];
    assert_eq!(fields, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(
        capsules,
        Some(("capsule-protocol".to_owned(), "?1".to_owned()))
    );
}

#[tokio::test]
async fn xc_11_a_tunnel_stays_open_until_its_user_ends_it() {
    let (mut peer, connection) = serve(PROPER).await;
    let tunnel = open(&mut peer, &connection, 0).await;
    peer.run_for(SILENCE).await;
    assert!(!peer.stream(0).fin);
    drop(tunnel);
    peer.finished(0).await;
}

#[tokio::test]
async fn xc_14_a_tunnel_request_is_cancelled_by_dropping_it() {
    let (mut peer, connection) = serve(PROPER).await;
    let asked = connect(&connection);
    peer.head(0).await;
    asked.abort();
    assert_eq!(peer.was_aborted(0).await, 0x010c);
}

#[tokio::test]
async fn xc_14_so_is_one_that_is_not_answered_in_time() {
    let config = ClientConfig {
        response_timeout: Duration::from_millis(200),
        ..trusting()
    };
    let (mut peer, connection) = Listening::new().serve(PROPER, config).await;
    let (tunnel, plain) = (connect(&connection), get(&connection));
    let error = peer.run_until(tunnel).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout), "{error}");
    assert_eq!(peer.was_aborted(0).await, 0x010c);
    assert!(matches!(
        peer.run_until(plain).await,
        Err(ClientError::Timeout)
    ));
    // The request was complete: there is nothing left to reset.
    peer.was_stopped(4).await;
}

#[tokio::test]
async fn hdg_10_a_tunnel_that_was_dropped_sends_nothing_more() {
    let (mut peer, connection) = serve(PROPER).await;
    let tunnel = open(&mut peer, &connection, 0).await;
    tunnel.send(b"last");
    drop(tunnel);
    assert_eq!(peer.next_datagram(0).await, b"last");
    peer.finished(0).await;
    peer.run_for(SILENCE).await;
    assert!(peer.datagrams.is_empty());
}

#[tokio::test]
async fn hdg_34_our_client_works_by_capsules_too() {
    let (mut peer, connection) = serve("04 02 08 01").await;
    let mut tunnel = open(&mut peer, &connection, 0).await;
    tunnel.send(b"to the server");
    let sent = peer.until("a capsule", |peer| peer.capsules(0).pop()).await;
    assert_eq!(sent, (0x00, b"to the server".to_vec()));
    peer.send(0, &capsule(0x00, b"to the client"), false).await;
    assert_eq!(&*tunnel.recv().await, b"to the client");
    assert!(peer.datagrams.is_empty());
}

#[tokio::test]
async fn hdg_12_a_datagram_that_overtakes_its_answer_is_delivered() {
    let (mut peer, connection) = serve(PROPER).await;
    let asked = connect(&connection);
    peer.head(0).await;
    peer.datagram_for(0, b"early");
    peer.run_for(Duration::from_millis(20)).await;
    peer.send(0, &headers(&[(":status", "200")]), false).await;
    let mut tunnel = TestTunnel(peer.run_until(asked).await.unwrap());
    assert_eq!(&*tunnel.recv().await, b"early");
}

#[tokio::test]
async fn h3_01_the_certificate_is_for_the_host_that_was_asked_for() {
    for (host, is_good) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("elsewhere.example", false),
    ] {
        let listening = Listening::new();
        let trust = Trust::CaFile(listening.certificate());
        let connecting = listening.dial(
            host,
            ClientConfig {
                trust,
                ..ClientConfig::default()
            },
        );
        let mut peer = listening.accept().await;
        match peer.run_until(connecting).await {
            Ok(_connection) => assert!(is_good, "{host}"),
            Err(ClientError::Tls(reason)) => assert!(!is_good, "{host}: {reason}"),
            Err(other) => panic!("{host}: {other}"),
        }
    }
}

#[tokio::test]
async fn h3_01_the_one_protocol_is_h3() {
    let mut listening = Listening::new();
    listening
        .config
        .set_application_protos(&[b"hq-interop", b"h3-29"])
        .unwrap();
    let connecting = listening.dial("localhost", trusting());
    let mut peer = listening.accept().await;
    let error = peer.run_until(connecting).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls(_)), "{error}");

    let server = server().await;
    let mut config = generous();
    config
        .set_application_protos(&[b"hq-interop", b"h3-29"])
        .unwrap();
    let mut peer = Peer::dial(server.network(), server.address(), config);
    // no_application_protocol (RFC 7301 §3.2).
    assert_eq!(peer.was_closed().await, Closed::Transport(0x100 + 120));
}

#[tokio::test]
async fn h3_17_an_answer_that_came_early_is_kept() {
    let (mut peer, connection) = serve(PROPER).await;
    let mut request = Request::new(http::Method::POST, "/upload");
    request.body = Body::stream(futures_util::stream::repeat_with(|| {
        Ok(vec![0; 1000].into())
    }));
    let asked = tokio::spawn(async move {
        let response = connection.request(request).await?;
        let status = response.status;
        Ok::<_, ClientError>((status, response.body.collect(100).await?, connection))
    });
    peer.head(0).await;
    let answer = [headers(&[(":status", "413")]), data(b"too large")].concat();
    peer.send(0, &answer, true).await;
    peer.stop(0, 0x0100);
    let (status, content, _connection) = peer.run_until(asked).await.unwrap();
    assert_eq!(
        (status, &content[..]),
        (StatusCode::PAYLOAD_TOO_LARGE, &b"too large"[..])
    );
}

#[tokio::test]
async fn h3_20_nothing_is_started_after_a_goaway() {
    let (mut peer, connection) = serve(PROPER).await;
    let mut tunnel = open(&mut peer, &connection, 0).await;
    let unanswered = get(&connection);
    peer.head(4).await;
    peer.send(3, &frame(GOAWAY, &[4]), false).await;
    let closed = |result: Result<Response, ClientError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, ClientError::Closed(CloseReason::Peer)),
            "{error}"
        );
    };
    closed(peer.run_until(unanswered).await);
    closed(peer.run_until(get(&connection)).await);
    assert!(peer.frames(8).is_empty(), "a request after GOAWAY");
    peer.datagram_for(0, b"what is open goes on");
    peer.run_for(Duration::from_millis(20)).await;
    assert_eq!(&*tunnel.recv().await, b"what is open goes on");
}

#[tokio::test]
async fn h3_23_an_unknown_code_is_a_plain_end() {
    let (mut peer, connection) = serve(PROPER).await;
    let mut tunnel = open(&mut peer, &connection, 0).await;
    peer.reset(0, 0x5f);
    peer.stop(0, 0x5f);
    tunnel.ended().await;
    open(&mut peer, &connection, 4).await;

    peer.quic.close(true, 0x5f, b"").unwrap();
    peer.flush();
    assert_eq!(connection.closed().await, CloseReason::Peer);
}

#[tokio::test]
async fn a_known_code_is_told_to_the_user() {
    let (mut peer, connection) = serve(PROPER).await;
    peer.quic.close(true, 0x0107, b"enough").unwrap();
    peer.flush();
    assert_eq!(
        connection.closed().await,
        CloseReason::PeerError(0x0107, "enough".into())
    );
}

#[tokio::test]
async fn the_end_of_a_tunnel_is_told_to_whoever_waits_for_it() {
    let server = server().await;
    let connection = server.connection().await.unwrap();
    let mut ends = Vec::new();
    for order in [b"!end", &b"!fail"[..]] {
        let (tunnel, flow) = pasque::tunnel::pair();
        let opened = connection
            .open(Request::tunnel("echo", "/echo"), flow)
            .await
            .unwrap();
        assert_eq!(opened.status, StatusCode::OK);
        tunnel.send(order);
        ends.push(opened.ended().await);
    }
    assert!(matches!(ends[0], Ok(())), "{ends:?}");
    assert!(
        matches!(ends[1], Err(ClientError::Reset(0x0102))),
        "{ends:?}"
    );

    let (_tunnel, flow) = pasque::tunnel::pair();
    let opened = connection
        .open(Request::tunnel("echo", "/echo"), flow)
        .await
        .unwrap();
    connection.close();
    let end = opened.ended().await;
    assert!(
        matches!(end, Err(ClientError::Closed(CloseReason::Local))),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_client_notices_a_dead_server_within_ten_seconds() {
    let server = server().await;
    let client = server.connect("echo", "/echo").await.unwrap();
    server.network().set_conditions(Conditions {
        mtu: 0,
        ..Conditions::default()
    });
    let start = Instant::now();
    let reason = client.connection.closed().await;
    assert_eq!(reason, CloseReason::TimedOut);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable() {
    let server = server().await;
    server.network().set_conditions(Conditions {
        mtu: 0,
        ..Conditions::default()
    });
    let config = ClientConfig {
        connect_timeout: Duration::from_millis(300),
        ..trusting()
    };
    let address = server.address();
    let outcome = crate::testing::dial(server.network(), address, "localhost", &config).await;
    let error = outcome.map(drop).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn closing_does_not_wait_and_the_server_learns_of_it() {
    let server = server().await;
    let client = server.connect("echo", "/echo").await.unwrap();
    assert_eq!((server.connections(), server.tunnels()), (1, 1));
    drop(client);
    eventually("the connection is gone", || server.connections() == 0).await;
    assert_eq!(server.tunnels(), 0);

    let (mut peer, connection) = serve(PROPER).await;
    connection.close();
    assert_eq!(peer.was_closed().await, Closed::Application(0x0100));
    assert_eq!(connection.closed().await, CloseReason::Local);
    let error = connection.request(Request::get("/")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Closed(CloseReason::Local)),
        "{error}"
    );
}

#[tokio::test]
async fn h3_05_what_belongs_to_http_1_is_left_out_of_requests() {
    let (mut peer, connection) = serve(PROPER).await;
    let mut request = Request::tunnel("Connect-UDP", "/x");
    request.headers.insert("X-Extra", "1".parse().unwrap());
    request
        .headers
        .insert("connection", "close".parse().unwrap());
    request.headers.insert("host", "elsewhere".parse().unwrap());
    let (_tunnel, flow) = pasque::tunnel::pair();
    tokio::spawn(async move { connection.open(request, flow).await });
    let head = peer.head(0).await;
    assert_eq!(head.field(":protocol"), Some("connect-udp"));
    assert_eq!(head.field("x-extra"), Some("1"));
    assert_eq!((head.field("connection"), head.field("host")), (None, None));
    let sections = peer
        .frames(0)
        .iter()
        .filter(|frame| frame.kind == HEADERS)
        .count();
    assert_eq!(sections, 1);
}

#[tokio::test]
async fn a_connection_knows_where_its_packets_go() {
    let server = server().await;
    let (first, own) = server.connect_from().await.unwrap();
    let (second, _) = server.connect_from().await.unwrap();
    let place = first.peer_addr().expect("a network carries it");
    assert_ne!(place, own);
    assert_eq!(second.peer_addr(), Some(place));
}
