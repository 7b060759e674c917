//! Requests that break the rules of HTTP/3: each ends its own stream, and nothing else.

use super::peer::{Closed, Peer, plain, tunnel};
use super::server;
use super::wire::{data, frame, headers, hex};

const MESSAGE_ERROR: u64 = 0x010e;

type Lines<'a> = Vec<(&'a str, &'a str)>;

/// Sends requests on one connection and says which of them were not answered as malformed.
async fn not_malformed(requests: &[Lines<'_>]) -> Vec<String> {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let mut others = Vec::new();
    for lines in requests {
        let id = client.request(lines, false).await;
        let outcome = client
            .until("an answer", |peer| {
                let incoming = peer.stream(id);
                match (incoming.reset, incoming.stopped) {
                    (Some(MESSAGE_ERROR), Some(MESSAGE_ERROR)) => Some(None),
                    (Some(code), Some(other)) => Some(Some(format!("{code:#x}, {other:#x}"))),
                    _ if incoming.bytes.is_empty() => None,
                    _ => Some(Some("a response".to_owned())),
                }
            })
            .await;
        others.extend(outcome.map(|outcome| format!("{lines:?}: {outcome}")));
    }
    // H3-10: the connection is none the worse for it.
    assert_eq!(client.fetch("/content/10").await.0, 200);
    others
}

/// `lines` without the first field called `name`.
fn without<'a>(lines: &[(&'a str, &'a str)], name: &str) -> Lines<'a> {
    lines.iter().copied().filter(|(n, _)| *n != name).collect()
}

/// `lines` with another value of the field called `name`.
fn with<'a>(lines: &[(&'a str, &'a str)], name: &str, value: &'a str) -> Lines<'a> {
    lines
        .iter()
        .map(|&(n, v)| (n, if n == name { value } else { v }))
        .collect()
}

/// `lines` and more behind them.
fn and<'a>(lines: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Lines<'a> {
    [lines, more].concat()
}

#[tokio::test]
async fn xc_05_an_extended_connect_has_all_its_parts_and_no_other_method() {
    let good = tunnel("echo", "/echo");
    let mut bad = vec![with(&good, ":method", "GET"), with(&good, ":protocol", "")];
    for part in [":scheme", ":path", ":authority"] {
        bad.push(without(&good, part));
        if part != ":scheme" {
            bad.push(with(&good, part, ""));
        }
    }
    bad.push(and(&good[..1], &good[1..2]));
    bad.push(and(&[good[1]], &good));
    assert_eq!(not_malformed(&bad).await, [""; 0]);
}

#[tokio::test]
async fn xc_10_a_plain_connect_with_scheme_or_path_is_malformed() {
    let good = [(":method", "CONNECT"), (":authority", "target.example:443")];
    let bad = [
        and(&good, &[(":scheme", "https")]),
        and(&good, &[(":path", "/")]),
    ];
    assert_eq!(not_malformed(&bad).await, [""; 0]);
}

#[tokio::test]
async fn h3_02_method_scheme_and_path_come_once_each() {
    let good = plain("GET", "/content/10");
    let mut bad = Vec::new();
    for part in [":method", ":scheme", ":path"] {
        bad.push(without(&good, part));
        let twice = *good.iter().find(|(name, _)| *name == part).unwrap();
        bad.push(and(&[twice], &good));
    }
    assert_eq!(not_malformed(&bad).await, [""; 0]);
}

#[tokio::test]
async fn h3_03_pseudo_header_fields_are_known_and_come_first() {
    let good = plain("GET", "/content/10");
    let bad = [
        and(&[good[0], ("x", "1")], &good[1..]),
        and(&good, &[(":foo", "1")]),
        and(&good, &[(":status", "200")]),
    ];
    assert_eq!(not_malformed(&bad).await, [""; 0]);
}

#[tokio::test]
async fn h3_03_trailers_have_no_pseudo_header_fields() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.request(&plain("POST", "/content/echo"), false).await;
    client
        .send(
            id,
            &[data(b"content"), headers(&[(":path", "/")])].concat(),
            false,
        )
        .await;
    assert_eq!(client.was_aborted(id).await, MESSAGE_ERROR);

    let id = client.request(&plain("POST", "/content/echo"), false).await;
    client
        .send(
            id,
            &[data(b"content"), headers(&[("trailer", "1")])].concat(),
            true,
        )
        .await;
    client.finished(id).await;
    assert_eq!(client.content(id), b"content");
}

#[tokio::test]
async fn h3_04_upper_case_names_are_malformed() {
    let good = plain("GET", "/content/10");
    assert_eq!(not_malformed(&[and(&good, &[("X-A", "1")])]).await, [""; 0]);
}

#[tokio::test]
async fn h3_05_fields_of_http_1_are_malformed() {
    let fields = [
        ("connection", "keep-alive"),
        ("keep-alive", "1"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ];
    let bad = fields.map(|field| and(&plain("GET", "/content/10"), &[field]));
    assert_eq!(not_malformed(&bad).await, [""; 0]);

    let server = server().await;
    let mut client = Peer::client(&server).await;
    let lines = and(&plain("GET", "/content/10"), &[("te", "trailers")]);
    let id = client.request(&lines, true).await;
    assert_eq!(client.head(id).await.status(), 200);
}

#[tokio::test]
async fn h3_06_bad_characters_are_malformed() {
    let fields = [
        ("x", "a\r\nb"),
        ("x", "a\0b"),
        ("x", "a\nb"),
        ("", "1"),
        ("a b", "1"),
    ];
    let bad = fields.map(|field| and(&plain("GET", "/content/10"), &[field]));
    assert_eq!(not_malformed(&bad).await, [""; 0]);
}

#[tokio::test]
async fn h3_07_there_is_one_authority_and_it_names_no_user() {
    let good = plain("GET", "/content/10");
    let bad = [
        without(&good, ":authority"),
        with(&good, ":authority", ""),
        with(&good, ":authority", "u@localhost"),
        and(&good, &[("host", "elsewhere")]),
    ];
    assert_eq!(not_malformed(&bad).await, [""; 0]);

    let server = server().await;
    let mut client = Peer::client(&server).await;
    let lines = and(&without(&good, ":authority"), &[("host", "localhost")]);
    let id = client.request(&lines, true).await;
    assert_eq!(client.head(id).await.status(), 200);
}

#[tokio::test]
async fn h3_08_the_path_is_absolute_and_the_scheme_https() {
    let good = plain("GET", "/content/10");
    let bad = ["", "a/b", "*"].map(|path| with(&good, ":path", path));
    assert_eq!(not_malformed(&bad).await, [""; 0]);

    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.request(&with(&good, ":scheme", "http"), true).await;
    assert_eq!(client.head(id).await.status(), 400);
}

#[tokio::test]
async fn h3_09_content_is_as_long_as_announced() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let lines = and(&plain("POST", "/content/echo"), &[("content-length", "5")]);
    let short = client.request(&lines, false).await;
    client.send(short, &data(b"123"), true).await;
    assert_eq!(client.was_reset(short).await, MESSAGE_ERROR);

    let long = client.request(&lines, false).await;
    client.send(long, &data(b"123456"), false).await;
    assert_eq!(client.was_aborted(long).await, MESSAGE_ERROR);

    let none = client.request(&lines, true).await;
    assert_eq!(client.was_reset(none).await, MESSAGE_ERROR);

    let exact = client.request(&lines, false).await;
    client
        .send(exact, &[data(b"12"), data(b"345")].concat(), true)
        .await;
    client.finished(exact).await;
    assert_eq!(client.content(exact), b"12345");
}

#[tokio::test]
async fn h3_10_a_malformed_request_leaves_the_others_alone() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let tunnel = client.echo().await;
    let upload = client.request(&plain("POST", "/content/echo"), false).await;
    let bad = client
        .request(&and(&plain("GET", "/content/10"), &[("X", "1")]), false)
        .await;
    assert_eq!(client.was_aborted(bad).await, MESSAGE_ERROR);
    client.send(upload, &data(b"whole"), true).await;
    client.finished(upload).await;
    assert_eq!(client.content(upload), b"whole");
    client.datagram_for(tunnel, b"open");
    assert_eq!(client.next_datagram(tunnel).await, b"open");
}

#[tokio::test]
async fn h3_12_frames_of_a_request_come_in_order() {
    let server = server().await;
    let post = headers(&plain("POST", "/content/echo"));
    let trailers = headers(&[("trailer", "1")]);
    let cases = [
        ("DATA first", data(b"content")),
        (
            "DATA after trailers",
            [&post[..], &trailers, &data(b"content")].concat(),
        ),
        (
            "HEADERS after trailers",
            [&post[..], &trailers, &trailers].concat(),
        ),
        ("SETTINGS", [&post[..], &hex("04 00")].concat()),
        ("GOAWAY", [&post[..], &hex("07 01 00")].concat()),
        ("MAX_PUSH_ID", [&post[..], &hex("0d 01 00")].concat()),
    ];
    for (case, bytes) in cases {
        let mut client = Peer::client(&server).await;
        let id = client.next_stream();
        client.send(id, &bytes, false).await;
        assert_eq!(
            client.was_closed().await,
            Closed::Application(0x0105),
            "{case}"
        );
    }
}

#[tokio::test]
async fn h3_15_a_message_that_breaks_off_is_never_taken_for_whole() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    // A DATA frame of ten bytes, of which three come.
    let cut_short = &data(b"1234567890")[..5];
    let lines = and(&plain("POST", "/content/echo"), &[("content-length", "10")]);
    let id = client.request(&lines, false).await;
    client.send(id, cut_short, true).await;
    assert_eq!(client.was_reset(id).await, MESSAGE_ERROR);

    let id = client.echo().await;
    client
        .send(id, &data(&frame(0x00, b"1234567890"))[..6], true)
        .await;
    assert_eq!(client.was_reset(id).await, MESSAGE_ERROR);
    client.run_for(super::SILENCE).await;
    assert!(client.datagrams.is_empty());
}

#[tokio::test]
async fn h3_16_a_stream_without_a_whole_header_section_is_incomplete() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let empty = client.next_stream();
    client.send(empty, &[], true).await;
    assert_eq!(client.was_reset(empty).await, 0x010d);
    let cut = client.next_stream();
    client
        .send(cut, &headers(&plain("GET", "/content/10"))[..20], true)
        .await;
    assert_eq!(client.was_reset(cut).await, 0x010d);
    assert_eq!(client.fetch("/content/10").await.0, 200);
}

#[tokio::test]
async fn h3_16_the_order_of_streams_does_not_matter() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let empty = client.next_stream();
    assert_eq!(client.fetch("/content/10").await.0, 200, "a later stream");
    client.send(empty, &[], true).await;
    assert_eq!(client.was_reset(empty).await, 0x010d);
}
