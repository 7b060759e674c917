//! Our client and what servers answer, proper or not.

use pasque::connection::{ClientError, Connection};
use pasque::testing::TestTunnel;
use pasque::{Request, Response, Tunnel};

use super::SILENCE;
use super::listening::{PROPER, serve};
use super::peer::{Closed, Peer};
use super::wire::{capsule, data, headers, hex};

const MESSAGE_ERROR: u64 = 0x010e;
const REQUEST_CANCELLED: u64 = 0x010c;

/// A server that has been asked for a tunnel and has answered with `bytes`, and what the client
/// makes of that.
async fn answer_tunnel(bytes: &[u8], fin: bool) -> (Peer, Connection, Result<Tunnel, ClientError>) {
    let (mut peer, connection) = serve(PROPER).await;
    let asking = connection.clone();
    let asked = tokio::spawn(async move { asking.connect("echo", "/echo").await });
    peer.head(0).await;
    peer.send(0, bytes, fin).await;
    let outcome = peer.run_until(asked).await;
    (peer, connection, outcome)
}

/// The same for an ordinary request.
async fn answer(bytes: &[u8], fin: bool) -> (Peer, Connection, Result<Response, ClientError>) {
    let (mut peer, connection) = serve(PROPER).await;
    let asking = connection.clone();
    let asked = tokio::spawn(async move { asking.request(Request::get("/file")).await });
    peer.head(0).await;
    peer.send(0, bytes, fin).await;
    let outcome = peer.run_until(asked).await;
    (peer, connection, outcome)
}

/// Checks that the client finds fault with this answer to its tunnel request.
async fn is_malformed_for_a_tunnel(lines: &[(&str, &str)]) {
    let (mut peer, _connection, outcome) = answer_tunnel(&headers(lines), false).await;
    assert!(
        matches!(outcome, Err(ClientError::Malformed(_))),
        "{lines:?}: {outcome:?}"
    );
    assert_eq!(peer.was_aborted(0).await, MESSAGE_ERROR, "{lines:?}");
    assert!(peer.quic.peer_error().is_none(), "the connection goes on");
}

/// Whether a tunnel works: a datagram comes through.
async fn works(peer: &mut Peer, tunnel: Tunnel) {
    let mut tunnel = TestTunnel(tunnel);
    peer.datagram_for(0, b"works");
    assert_eq!(&*tunnel.recv().await, b"works");
}

#[tokio::test]
async fn hdg_23_content_of_a_refusal_is_no_capsule() {
    let refusal = [headers(&[(":status", "404")]), data(&hex("00 03 00 68 69"))].concat();
    let (mut peer, _connection, outcome) = answer_tunnel(&refusal, true).await;
    let Err(ClientError::Refused { status, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(status, 404);
    assert_eq!(peer.was_reset(0).await, REQUEST_CANCELLED);
    peer.run_for(SILENCE).await;
    assert!(peer.datagrams.is_empty());
}

#[tokio::test]
async fn hdg_24_our_tunnel_requests_describe_no_content() {
    let (mut peer, connection) = serve(PROPER).await;
    let mut request = Request::tunnel("echo", "/echo");
    request
        .headers
        .insert("content-length", "0".parse().unwrap());
    request
        .headers
        .insert("content-type", "text/plain".parse().unwrap());
    let (_tunnel, flow) = pasque::tunnel::pair();
    tokio::spawn(async move { connection.open(request, flow).await });
    let head = peer.head(0).await;
    for name in ["content-length", "content-type", "transfer-encoding"] {
        assert_eq!(head.field(name), None);
    }
}

#[tokio::test]
async fn hdg_25_an_accepted_tunnel_describes_no_content() {
    for line in [("content-type", "text/plain"), ("content-length", "0")] {
        is_malformed_for_a_tunnel(&[(":status", "200"), line]).await;
    }
}

#[tokio::test]
async fn hdg_26_a_status_without_content_opens_no_tunnel() {
    for status in ["204", "205", "206"] {
        is_malformed_for_a_tunnel(&[(":status", status)]).await;
    }
}

#[tokio::test]
async fn hdg_30_an_answer_need_not_say_capsules() {
    for said in ["?0", "?1", "nonsense"] {
        let answer = headers(&[(":status", "200"), ("capsule-protocol", said)]);
        let (mut peer, _connection, outcome) = answer_tunnel(&answer, false).await;
        works(&mut peer, outcome.expect("a tunnel")).await;
    }
}

#[tokio::test]
async fn hdg_21_a_capsule_that_breaks_off_aborts_the_tunnel_of_a_client() {
    let accepted = [headers(&[(":status", "200")]), data(&hex("00 05 00 68"))].concat();
    let (mut peer, _connection, outcome) = answer_tunnel(&accepted, true).await;
    TestTunnel(outcome.expect("a tunnel")).ended().await;
    assert_eq!(peer.was_reset(0).await, MESSAGE_ERROR);
}

#[tokio::test]
async fn hdg_36_headers_on_an_open_tunnel_end_the_connection() {
    let accepted = headers(&[(":status", "200")]);
    let (mut peer, _connection, outcome) = answer_tunnel(&accepted, false).await;
    let _tunnel = outcome.expect("a tunnel");
    peer.send(0, &headers(&[("trailer", "1")]), false).await;
    assert_eq!(peer.was_closed().await, Closed::Application(0x0105));
}

#[tokio::test]
async fn xc_15_there_is_no_101_in_http_3() {
    is_malformed_for_a_tunnel(&[(":status", "101")]).await;
    let (mut peer, _connection, outcome) = answer(&headers(&[(":status", "101")]), false).await;
    assert!(
        matches!(outcome, Err(ClientError::Malformed(_))),
        "{outcome:?}"
    );
    assert_eq!(peer.was_stopped(0).await, MESSAGE_ERROR);
}

#[tokio::test]
async fn xc_16_interim_answers_are_passed_over() {
    let interim = [
        headers(&[(":status", "103"), ("link", "</x>")]),
        headers(&[(":status", "100")]),
    ];
    let bytes = [interim.concat(), headers(&[(":status", "200")])].concat();
    let (mut peer, _connection, outcome) = answer_tunnel(&bytes, false).await;
    works(&mut peer, outcome.expect("a tunnel")).await;

    let bytes = [
        interim.concat(),
        headers(&[(":status", "200")]),
        data(b"content"),
    ]
    .concat();
    let (_peer, _connection, outcome) = answer(&bytes, true).await;
    assert_eq!(outcome.unwrap().body.collect(100).await.unwrap(), "content");

    // Nothing after it: there is no answer at all.
    let (_peer, _connection, outcome) = answer(&interim.concat(), true).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn xc_17_what_is_not_2xx_opens_no_tunnel_and_is_not_followed() {
    let answer = headers(&[
        (":status", "302"),
        ("location", "https://localhost/elsewhere"),
        ("proxy-status", "test; error=destination_unavailable"),
    ]);
    let (mut peer, _connection, outcome) = answer_tunnel(&answer, false).await;
    let Err(ClientError::Refused {
        status,
        proxy_status,
        headers,
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(status, 302);
    assert_eq!(
        proxy_status.unwrap().error.as_deref(),
        Some("destination_unavailable")
    );
    assert_eq!(headers["location"], "https://localhost/elsewhere");
    assert_eq!(peer.was_aborted(0).await, REQUEST_CANCELLED);
    peer.run_for(SILENCE).await;
    assert!(peer.frames(4).is_empty(), "a second request");
}

#[tokio::test]
async fn xc_18_any_other_2xx_opens_a_tunnel() {
    for status in ["200", "201", "202", "226", "299"] {
        let answer = headers(&[(":status", status)]);
        let (mut peer, _connection, outcome) = answer_tunnel(&answer, false).await;
        works(&mut peer, outcome.expect(status)).await;
    }
}

#[tokio::test]
async fn h3_03_malformed_answers_are_not_used() {
    let good = (":status", "200");
    for lines in [
        vec![("x", "1"), good],
        vec![good, (":foo", "1")],
        vec![good, (":path", "/")],
        vec![good, ("X", "1")],
        vec![good, ("connection", "close")],
        vec![good, ("x", "a\r\nb")],
        vec![good, good],
        vec![("content-length", "1"), ("content-length", "2")],
    ] {
        is_malformed_for_a_tunnel(&lines).await;
        let (mut peer, _connection, outcome) = answer(&headers(&lines), false).await;
        assert!(
            matches!(outcome, Err(ClientError::Malformed(_))),
            "{lines:?}: {outcome:?}"
        );
        assert_eq!(peer.was_stopped(0).await, MESSAGE_ERROR, "{lines:?}");
    }
}

#[tokio::test]
async fn h3_09_a_file_that_is_shorter_or_longer_than_announced_is_an_error() {
    let head = headers(&[(":status", "200"), ("content-length", "10")]);
    for content in [&b"12345678"[..], b"", b"12345678901"] {
        let bytes = [&head[..], &data(content)].concat();
        let (_peer, _connection, outcome) = answer(&bytes, true).await;
        let collected = outcome.unwrap().body.collect(100).await;
        assert!(collected.is_err(), "{content:?}: {collected:?}");
    }
    let (_peer, _connection, outcome) = answer(&head, true).await;
    assert!(
        outcome.unwrap().body.collect(100).await.is_err(),
        "no content at all"
    );
    let bytes = [&head[..], &data(b"12345"), &data(b"67890")].concat();
    let (_peer, _connection, outcome) = answer(&bytes, true).await;
    assert_eq!(
        outcome.unwrap().body.collect(100).await.unwrap(),
        "1234567890"
    );
}

#[tokio::test]
async fn h3_09_some_answers_announce_content_and_have_none() {
    let head = headers(&[(":status", "304"), ("content-length", "10")]);
    let (_peer, _connection, outcome) = answer(&head, true).await;
    assert_eq!(outcome.unwrap().body.collect(100).await.unwrap(), "");
}

#[tokio::test]
async fn h3_11_a_final_answer_comes_first_and_once() {
    is_malformed_for_a_tunnel(&[("x", "1")]).await;
    for status in ["20", "2000", "abc", ""] {
        is_malformed_for_a_tunnel(&[(":status", status)]).await;
    }
    let (mut peer, connection) = serve(PROPER).await;
    let asked = tokio::spawn(async move { connection.request(Request::get("/file")).await });
    peer.head(0).await;
    peer.send(0, &data(b"content"), false).await;
    assert_eq!(peer.was_closed().await, Closed::Application(0x0105));
    assert!(peer.run_until(asked).await.is_err());

    let twice = [
        headers(&[(":status", "200")]),
        headers(&[(":status", "200")]),
    ]
    .concat();
    let (mut peer, _connection, outcome) = answer(&twice, false).await;
    let mut body = outcome.expect("the first one").body;
    assert_eq!(peer.was_stopped(0).await, MESSAGE_ERROR);
    assert!(
        body.next().await.is_some_and(|chunk| chunk.is_err()),
        "it cannot be whole"
    );
}

#[tokio::test]
async fn h3_11_nothing_follows_the_trailers_of_an_answer() {
    let whole = [
        headers(&[(":status", "200")]),
        data(b"content"),
        headers(&[("trailer", "1")]),
    ];
    let (_peer, _connection, outcome) = answer(&whole.concat(), true).await;
    assert_eq!(outcome.unwrap().body.collect(100).await.unwrap(), "content");
    for more in [data(b"more"), headers(&[("trailer", "1")])] {
        let bytes = [whole.concat(), more].concat();
        let (mut peer, _connection, outcome) = answer(&bytes, false).await;
        assert_eq!(peer.was_closed().await, Closed::Application(0x0105));
        drop(outcome);
    }
}

#[tokio::test]
async fn h3_15_a_file_that_breaks_off_inside_a_frame_is_an_error() {
    let head = headers(&[(":status", "200"), ("content-length", "10")]);
    let bytes = [&head[..], &data(b"1234567890")[..5]].concat();
    let (_peer, _connection, outcome) = answer(&bytes, true).await;
    assert!(outcome.unwrap().body.collect(100).await.is_err());
}

#[tokio::test]
async fn an_answer_that_never_comes_is_an_error() {
    let (_peer, _connection, outcome) = answer(&[], true).await;
    assert!(outcome.is_err());
    let (_peer, _connection, outcome) = answer(&headers(&[(":status", "200")])[..3], true).await;
    assert!(outcome.is_err());
}

#[tokio::test]
async fn a_reset_in_the_middle_is_an_error_after_what_has_come() {
    let bytes = [headers(&[(":status", "200")]), data(b"first")].concat();
    let (mut peer, _connection, outcome) = answer(&bytes, false).await;
    let mut body = outcome.unwrap().body;
    assert_eq!(body.next().await.unwrap().unwrap(), "first");
    peer.reset(0, 0x0102);
    assert!(body.next().await.unwrap().is_err());
}

#[tokio::test]
async fn hdg_14_a_datagram_for_an_ordinary_answer_aborts_it() {
    let bytes = [headers(&[(":status", "200")]), data(b"first")].concat();
    let (mut peer, _connection, outcome) = answer(&bytes, false).await;
    let _body = outcome.unwrap().body;
    peer.datagram_for(0, b"a");
    assert_eq!(peer.was_stopped(0).await, 0x33);
}

#[tokio::test]
async fn hdg_33_a_client_takes_datagram_capsules_too() {
    let bytes = [headers(&[(":status", "200")]), capsule(0x00, b"by capsule")].concat();
    let (mut peer, _connection, outcome) = answer_tunnel(&bytes, false).await;
    let mut tunnel = TestTunnel(outcome.unwrap());
    assert_eq!(&*tunnel.recv().await, b"by capsule");
    peer.datagram_for(0, b"by datagram");
    assert_eq!(&*tunnel.recv().await, b"by datagram");
}
