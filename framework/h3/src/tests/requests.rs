//! Ordinary requests: routing, content in both directions, and endpoints that fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use pasque::config::{EndpointConfig, Limits};
use pasque::{Body, Mount, Request, Router};

use super::endpoints::{CHUNK, Mark, pattern};
use super::peer::{Peer, generous, plain};
use super::wire::{data, headers};
use super::{SITE, eventually, server};
use crate::testing::{Conditions, TestServer};

fn router(endpoints: &[&str]) -> Router {
    let mounts: Vec<Mount> = endpoints
        .iter()
        .map(|json| EndpointConfig::parse(json).unwrap().into_mount())
        .collect();
    Router::new(mounts, "pasque").unwrap()
}

#[tokio::test]
async fn h3_25_what_is_not_there_or_not_understood_is_told_apart() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for (method, path, status, allow) in [
        ("GET", "/nowhere", 404, None),
        ("GET", "/echo", 405, Some("CONNECT")),
        ("DELETE", "/content/1", 405, Some("GET, HEAD, POST")),
        ("FOO", "/x", 501, None),
        ("FOO", "/echo", 501, None),
        ("GET", "/content/1", 200, None),
    ] {
        let id = client.request(&plain(method, path), true).await;
        let head = client.head(id).await;
        assert_eq!(head.status(), status, "{method} {path}");
        assert_eq!(head.field("allow"), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn h3_26_a_path_matches_whole_segments() {
    let router = router(&[
        r#"{ "path": "/udp", "type": "Echo" }"#,
        r#"{ "path": "/content/{what}", "type": "Content" }"#,
    ]);
    for (path, status) in [
        ("/udp", 200),
        // The mount is found by its path; a field that it does not know is its own matter.
        ("/udp?a=b", 400),
        ("/udp2", 404),
        ("/udp2/x", 404),
        ("/ud", 404),
        ("/x/udp", 404),
        ("/content/1", 405),
        ("/contents/1", 404),
    ] {
        let response = router.dispatch(Request::tunnel("echo", path)).await;
        assert_eq!(response.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn h3_27_another_authority_is_misdirected() {
    let router = router(&SITE).with_hosts(vec!["a.example".into()]);
    for (authority, status) in [
        ("a.example", 200),
        ("A.EXAMPLE:4433", 200),
        ("b.example", 421),
        ("", 421),
    ] {
        let mut request = Request::get("/content/1");
        request.authority = authority.into();
        assert_eq!(
            router.dispatch(request).await.status.as_u16(),
            status,
            "{authority:?}"
        );
    }
}

#[tokio::test]
async fn content_arrives_byte_for_byte() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for len in [0, 1, CHUNK, 100_000, 1_000_000] {
        let (status, content) = client.fetch(&format!("/content/{len}")).await;
        assert!(status == 200 && content == pattern(0, len), "{len} bytes");
    }
}

#[tokio::test]
async fn a_head_request_gets_the_fields_alone() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.request(&plain("HEAD", "/content/1000"), true).await;
    let head = client.head(id).await;
    assert_eq!(
        (head.status(), head.field("content-length")),
        (200, Some("1000"))
    );
    client.finished(id).await;
    assert!(client.content(id).is_empty());
}

#[tokio::test]
async fn content_goes_to_the_endpoint_and_back() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let content = pattern(0, 1 << 20);
    let id = client.request(&plain("POST", "/content/echo"), false).await;
    for part in content.chunks(100_000) {
        client.send(id, &data(part), false).await;
    }
    client.send(id, &[], true).await;
    client.finished(id).await;
    assert!(client.content(id) == content);
}

#[tokio::test]
async fn an_endpoint_that_panics_answers_500_and_nothing_else_suffers() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let tunnel = client.echo().await;
    let id = client.get("/faulty/panic").await;
    assert_eq!(client.head(id).await.status(), 500);
    client.datagram_for(tunnel, b"open");
    assert_eq!(client.next_datagram(tunnel).await, b"open");
}

#[tokio::test]
async fn content_that_breaks_off_is_not_taken_for_whole() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for path in ["/faulty/breaks-off", "/faulty/short"] {
        let id = client.get(path).await;
        assert_eq!(client.was_reset(id).await, 0x0102, "{path}");
        assert!(!client.stream(id).fin, "{path}");
    }
}

#[tokio::test]
async fn ps_05_an_origins_answers_carry_no_proxy_status() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    for (path, status) in [
        ("/nowhere", 404),
        ("/content/none", 400),
        ("/faulty/panic", 500),
        ("/content/1", 200),
    ] {
        let id = client.get(path).await;
        let head = client.head(id).await;
        assert_eq!(
            (head.status(), head.field("proxy-status")),
            (status, None),
            "{path}"
        );
    }
}

#[tokio::test]
async fn h3_17_an_early_answer_is_complete_before_the_rest_is_refused() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client
        .request(&plain("POST", "/content/too-large"), false)
        .await;
    client.send(id, &data(&[0; 1000]), false).await;
    assert_eq!(client.head(id).await.status(), 413);
    client.finished(id).await;
    assert_eq!(client.was_stopped(id).await, 0x0100);
    assert_eq!(client.stream(id).reset, None);
}

#[tokio::test]
async fn h3_18_a_request_that_was_begun_is_cancelled_not_rejected() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.connect("connect-udp", "/hold/h3-18").await;
    let mark = Mark::named("h3-18");
    eventually("the endpoint is at work", || mark.inside() == 1).await;
    client.reset(id, 0x010c);
    assert_eq!(client.was_reset(id).await, 0x010c);
    eventually("its work is cancelled", || mark.inside() == 0).await;
}

#[tokio::test]
async fn h3_30_an_endpoint_that_takes_its_time_holds_up_nobody() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let slow = client.get("/faulty/slow").await;
    let tunnel = client.echo().await;
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        client.datagram_for(tunnel, b"ping");
        client.next_datagram(tunnel).await;
        times.push(start.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(50), "{times:?}");
    assert!(
        client.frames(slow).is_empty(),
        "the slow one is still at work"
    );
    assert_eq!(client.head(slow).await.status(), 200);
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_the_source() {
    let server = server().await;
    let mut config = generous();
    config.set_initial_max_stream_data_bidi_local(64 << 10);
    let mut client = Peer::client_with(&server, config, "04 02 33 01").await;
    let mark = Mark::named("standing still");
    let fields = [
        &plain("GET", "/content/100000000")[..],
        &[("mark", "standing still")],
    ]
    .concat();
    let id = client.next_stream();
    client
        .quic
        .stream_send(id, &headers(&fields), true)
        .unwrap();
    client.flush();
    // Not read, so no credit is given back: acknowledgements are all that the server gets.
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        client.acknowledge();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let produced = mark.produced();
    assert!(
        (64 << 10..=(64 << 10) + 2 * CHUNK).contains(&produced),
        "{produced} bytes made"
    );
    client.run_for(Duration::from_millis(100)).await;
    assert!(mark.produced() > produced, "and goes on when it is read");
}

#[tokio::test]
async fn content_that_nobody_reads_is_not_taken_in_without_end() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let mark = Mark::named("unread");
    let fields = [&plain("POST", "/content/unread")[..], &[("mark", "unread")]].concat();
    let id = client.request(&fields, false).await;
    let taken = client.send_some(id, &data(&vec![0; 4 << 20])).await;
    // The queue to the reader, and a stream's window, 256 KiB each.
    assert!((256 << 10..=512 << 10).contains(&taken), "{taken} bytes");
    mark.open();
    client.finished(id).await;
    assert_eq!(client.was_stopped(id).await, 0x0100);
    assert_eq!(client.content(id), b"late");
}

#[tokio::test]
async fn a_slow_reader_learns_of_the_end_as_soon_as_it_gets_there() {
    // Everything has come, the end of the stream too, before the reader starts.
    let server = server().await;
    let connection = server.connection().await.unwrap();
    for len in [100_000, 300_000, 1_000_000] {
        let path = format!("/content/{len}");
        let response = connection.request(Request::get(path)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        let content = response.body.collect(2 << 20).await.unwrap();
        assert!(content == pattern(0, len));
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{len}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn our_client_sends_and_receives_content() {
    let server = server().await;
    let connection = server.connection().await.unwrap();
    let content = pattern(0, 3 << 20);
    let chunks: Vec<_> = content
        .chunks(CHUNK)
        .map(|c| Ok(c.to_vec().into()))
        .collect();
    let mut request = Request::new(Method::POST, "/content/echo");
    request.body = Body::stream(futures_util::stream::iter(chunks));
    let response = connection.request(request).await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert!(response.body.collect(4 << 20).await.unwrap() == content);
}

#[tokio::test]
async fn requests_beyond_the_limit_of_streams_wait_their_turn() {
    let limits = Limits {
        requests_per_connection: 2,
        ..Limits::default()
    };
    let server = TestServer::start(&SITE, Conditions::default(), limits).await;
    let connection = Arc::new(server.connection().await.unwrap());
    let requests = (0..20).map(|n| {
        let connection = connection.clone();
        tokio::spawn(async move {
            let response = connection
                .request(Request::get(format!("/content/{n}")))
                .await
                .unwrap();
            response.body.collect(100).await.unwrap().len()
        })
    });
    for (n, request) in requests.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(request.await.unwrap(), n);
    }
}
