//! Messages that break HTTP/3, sent by h3i. One test for each row, one case for each way to do it.

mod frames;

use std::time::Duration;

use h3i::actions::h3::{
    Action, ExpectedStreamSendResult, StreamEvent, StreamEventType, WaitType,
    send_headers_frame_literal,
};
use h3i::client::connection_summary::ConnectionSummary;
use h3i::frame::H3iFrame;
use h3i::quiche::ConnectionError;
use h3i::quiche::h3::Header;
use h3i::quiche::h3::frame::Frame;

use crate::{QUIET, Victim};

/// The stream of the request.
const REQUEST: u64 = 0;
/// The client's control stream.
const CONTROL: u64 = 2;

const DATAGRAM_ERROR: u64 = 0x33;
const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;

/// How the server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// With this status, and an end of the stream.
    Status(String),
    /// By a reset of the stream.
    Reset(u64),
    /// By a close of the connection.
    Closed(u64),
    /// With this status and then a reset.
    StatusThenReset(String, u64),
    /// Not at all.
    Silence,
}

fn status(code: &str) -> Answer {
    Answer::Status(code.into())
}

/// What makes a message malformed is answered by a reset (RFC 9114 §4.1.2).
const MALFORMED: Answer = Answer::Reset(MESSAGE_ERROR);

type Fields = Vec<(String, String)>;

fn fields(list: &[(&str, &str)]) -> Fields {
    list.iter()
        .map(|&(name, value)| (name.into(), value.into()))
        .collect()
}

/// A good request for a file.
fn good() -> Fields {
    fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/files/a.txt"),
    ])
}

/// A good request for a tunnel.
fn tunnel(victim: &Victim) -> Fields {
    fields(&[
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", &victim.tunnel_path()),
        ("capsule-protocol", "?1"),
    ])
}

fn without(fields: Fields, name: &str) -> Fields {
    fields
        .into_iter()
        .filter(|(found, _)| found != name)
        .collect()
}

fn with(mut fields: Fields, name: &str, value: &str) -> Fields {
    fields.push((name.into(), value.into()));
    fields
}

fn changed(mut fields: Fields, name: &str, value: &str) -> Fields {
    fields
        .iter_mut()
        .find(|(found, _)| found == name)
        .unwrap()
        .1 = value.into();
    fields
}

fn doubled(mut fields: Fields, name: &str) -> Fields {
    let index = fields.iter().position(|(found, _)| found == name).unwrap();
    fields.insert(index, fields[index].clone());
    fields
}

fn headers(fields: &Fields, fin: bool) -> Action {
    let list = fields
        .iter()
        .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()));
    send_headers_frame_literal(REQUEST, fin, list.collect())
}

/// [`headers`] for more than h3i has room for in a frame.
fn large_headers(fields: &Fields) -> Action {
    let Action::SendHeadersFrame {
        frame: Frame::Headers { header_block },
        ..
    } = headers(fields, true)
    else {
        panic!("h3i makes HEADERS of fields");
    };
    let len = (header_block.len() as u32 | 2 << 30).to_be_bytes();
    let bytes = [&[0x01], &len[..], &header_block].concat();
    // What exceeds the server's window stays behind; it has seen enough by then.
    let expected_result = ExpectedStreamSendResult::Ok;
    Action::StreamBytes {
        stream_id: REQUEST,
        fin_stream: true,
        bytes,
        expected_result,
    }
}

fn bytes_on(stream_id: u64, bytes: &[u8], fin_stream: bool) -> Action {
    let expected_result = ExpectedStreamSendResult::OkExact(bytes.len());
    Action::StreamBytes {
        stream_id,
        fin_stream,
        bytes: bytes.into(),
        expected_result,
    }
}

/// An HTTP/3 frame of a type and a length below 64.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, payload.len() as u8], payload].concat()
}

/// A control stream with this content after its type.
fn control(content: &[u8]) -> Action {
    bytes_on(CONTROL, &[&[0x00], content].concat(), false)
}

/// The settings of a client that knows datagrams.
fn settings() -> Action {
    control(&frame(0x04, &[0x33, 0x01]))
}

fn wait_for(event_type: StreamEventType) -> Action {
    WaitType::StreamEvent(StreamEvent {
        stream_id: REQUEST,
        event_type,
    })
    .into()
}

/// Does `actions` on a connection of its own and returns how the server answers on the request's
/// stream; the connection is over then.
async fn provoke(victim: &Victim, mut actions: Vec<Action>) -> Answer {
    let address = victim.server.address();
    let mut config = h3i::config::Config::new()
        .with_host_port("localhost:443".into())
        .with_connect_to(address.to_string())
        .verify_peer(false)
        .with_idle_timeout(2000);
    config.dgram_send_queue_len = 64;
    actions.push(wait_for(StreamEventType::Finished));
    let error = ConnectionError {
        is_app: true,
        error_code: 0x100,
        reason: Vec::new(),
    };
    actions.push(Action::ConnectionClose { error });
    let run = move || h3i::client::sync_client::connect(config, actions, None);
    answer(&tokio::task::spawn_blocking(run).await.unwrap().unwrap())
}

fn answer(summary: &ConnectionSummary) -> Answer {
    if let Some(error) = summary.conn_close_details.peer_error() {
        assert!(error.is_app, "{error:?}");
        return Answer::Closed(error.error_code);
    }
    let mut found = None;
    let mut reset = None;
    for frame in summary.stream_map.stream(REQUEST) {
        match frame {
            H3iFrame::Headers(headers) => {
                let code = headers.status_code().expect("a status");
                found = Some(String::from_utf8(code.clone()).unwrap());
            }
            H3iFrame::ResetStream(frame) => reset = Some(frame.error_code),
            H3iFrame::QuicheH3(_) => {}
        }
    }
    match (found, reset) {
        _ if summary.conn_close_details.timed_out => Answer::Silence,
        (Some(code), None) => Answer::Status(code),
        (Some(code), Some(reset)) => Answer::StatusThenReset(code, reset),
        (None, Some(reset)) => Answer::Reset(reset),
        (None, None) => Answer::Silence,
    }
}

/// Sends a request of these fields alone.
async fn request(victim: &Victim, fields: &Fields) -> Answer {
    provoke(victim, vec![settings(), headers(fields, true)]).await
}

/// Checks that each of the requests gets one of the answers, and that a good client is served after
/// each.
async fn check(victim: &Victim, cases: Vec<(String, Fields)>, expected: &[Answer]) {
    for (name, fields) in cases {
        let answer = request(victim, &fields).await;
        assert!(expected.contains(&answer), "{name}: {answer:?}");
        victim.assert_serves(&name).await;
    }
}

#[tokio::test]
async fn h3_10_h3i_itself_is_served() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    assert_eq!(request(&victim, &good()).await, status("200"));
}

#[tokio::test]
async fn h3_02_pseudo_header_fields_stand_exactly_once() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let mut cases = Vec::new();
    for name in [":method", ":scheme", ":path"] {
        cases.push((format!("no {name}"), without(good(), name)));
        cases.push((format!("two of {name}"), doubled(good(), name)));
    }
    cases.push(("two of :authority".into(), doubled(good(), ":authority")));
    check(&victim, cases, &[MALFORMED]).await;
}

#[tokio::test]
async fn h3_03_pseudo_header_fields_are_known_and_come_first() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let late = with(
        with(without(good(), ":path"), "accept", "*/*"),
        ":path",
        "/files/a.txt",
    );
    let cases = vec![
        ("one after a field".into(), late),
        (":foo".into(), with(good(), ":foo", "bar")),
        (
            ":status in a request".into(),
            with(good(), ":status", "200"),
        ),
        (": alone".into(), with(good(), ":", "x")),
    ];
    check(&victim, cases, &[MALFORMED]).await;

    let trailers = fields(&[(":path", "/files/a.txt")]);
    let actions = vec![
        settings(),
        headers(&good(), false),
        headers(&trailers, true),
    ];
    let answer = provoke(&victim, actions).await;
    // The response may be under way before the trailers are.
    let expected = [
        MALFORMED,
        Answer::StatusThenReset("200".into(), MESSAGE_ERROR),
        status("200"),
    ];
    assert!(expected.contains(&answer), "{answer:?}");
    victim
        .assert_serves("pseudo-header fields in trailers")
        .await;
}

#[tokio::test]
async fn h3_04_upper_case_names_are_malformed() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let cases = ["X-A", "x-A", "Accept"].map(|name| (name.into(), with(good(), name, "1")));
    check(&victim, cases.into(), &[MALFORMED]).await;
}

#[tokio::test]
async fn h3_05_fields_of_a_connection_are_malformed() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let cases = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ]
    .map(|(name, value)| (format!("{name}: {value}"), with(good(), name, value)));
    check(&victim, cases.into(), &[MALFORMED]).await;
    assert_eq!(
        request(&victim, &with(good(), "te", "trailers")).await,
        status("200")
    );
}

#[tokio::test]
async fn h3_06_bad_characters_are_malformed() {
    let _quiet = QUIET.read().await;
    let mut victim = Victim::start().await;
    let cases = [
        ("x-a", "a\r\nb"),
        ("x-a", "a\nERROR forged"),
        ("x-a", "a\rb"),
        ("x-a", "a\0b"),
        ("x-a", " a"),
        ("", "a"),
        ("x a", "a"),
        ("x-a:", "a"),
        ("x\0a", "a"),
        ("x\r\na", "a"),
        ("é", "a"),
    ]
    .map(|(name, value)| (format!("{name:?}: {value:?}"), with(good(), name, value)));
    check(&victim, cases.into(), &[MALFORMED]).await;
    let said = victim.server.process().output();
    assert!(
        said.lines().all(|line| !line.starts_with("ERROR forged")),
        "{said}"
    );
}

#[tokio::test]
async fn h3_07_the_authority_is_there_once_and_without_a_user() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let cases = vec![
        ("none".into(), without(good(), ":authority")),
        ("an empty one".into(), changed(good(), ":authority", "")),
        (
            "another host".into(),
            with(good(), "host", "elsewhere.example"),
        ),
        (
            "a user".into(),
            changed(good(), ":authority", "user@localhost"),
        ),
        (
            "an empty host".into(),
            with(without(good(), ":authority"), "host", ""),
        ),
        (
            "a host with a user".into(),
            with(without(good(), ":authority"), "host", "u@h"),
        ),
    ];
    check(&victim, cases, &[MALFORMED]).await;
    for fine in [
        with(good(), "host", "localhost"),
        with(without(good(), ":authority"), "host", "localhost"),
    ] {
        assert_eq!(request(&victim, &fine).await, status("200"), "{fine:?}");
    }
}

#[tokio::test]
async fn h3_08_path_and_scheme() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let cases = ["", "files/a.txt", "*", "https://localhost/files/a.txt"]
        .map(|path| (format!("the path {path:?}"), changed(good(), ":path", path)));
    check(&victim, cases.into(), &[MALFORMED]).await;
    let cases = ["http", "ftp"].map(|scheme| {
        (
            format!("the scheme {scheme:?}"),
            changed(good(), ":scheme", scheme),
        )
    });
    check(&victim, cases.into(), &[status("400")]).await;
}

#[tokio::test]
async fn h3_09_the_content_length_is_that_of_the_content() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let cases = vec![
        (
            "content that is missing".into(),
            with(good(), "content-length", "5"),
        ),
        ("no number".into(), with(good(), "content-length", "x")),
        ("a sign".into(), with(good(), "content-length", "+0")),
        (
            "beyond any number".into(),
            with(good(), "content-length", "99999999999999999999"),
        ),
        (
            "two".into(),
            with(with(good(), "content-length", "0"), "content-length", "1"),
        ),
    ];
    check(&victim, cases, &[MALFORMED]).await;

    for (announced, sent) in [("5", 3), ("3", 5), ("0", 1)] {
        let fields = with(good(), "content-length", announced);
        let content = frame(0x00, &vec![b'x'; sent]);
        let actions = vec![
            settings(),
            headers(&fields, false),
            bytes_on(REQUEST, &content, true),
        ];
        let answer = provoke(&victim, actions).await;
        assert_eq!(answer, MALFORMED, "{announced} announced, {sent} sent");
        victim.assert_serves("content of another length").await;
    }
    let fields = with(good(), "content-length", "3");
    let content = frame(0x00, b"xxx");
    let actions = vec![
        settings(),
        headers(&fields, false),
        bytes_on(REQUEST, &content, true),
    ];
    assert_eq!(provoke(&victim, actions).await, status("200"));
}

#[tokio::test]
async fn h3_12_frames_that_a_request_stream_does_not_have_close_the_connection() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let (data, request) = (frame(0x00, b"x"), headers(&good(), false));
    let trailers = headers(&fields(&[("x-checksum", "1")]), false);
    let after = [
        request.clone(),
        bytes_on(REQUEST, &data, false),
        trailers.clone(),
    ];
    let cases: [(&str, Vec<Action>); 7] = [
        (
            "DATA first",
            vec![bytes_on(REQUEST, &data, false), request.clone()],
        ),
        (
            "DATA after trailers",
            [&after[..], &[bytes_on(REQUEST, &data, true)]].concat(),
        ),
        ("HEADERS after trailers", [&after[..], &[trailers]].concat()),
        (
            "SETTINGS",
            vec![bytes_on(REQUEST, &frame(0x04, &[0x33, 0x01]), false)],
        ),
        (
            "GOAWAY",
            vec![
                request.clone(),
                bytes_on(REQUEST, &frame(0x07, &[0x00]), false),
            ],
        ),
        (
            "MAX_PUSH_ID",
            vec![
                request.clone(),
                bytes_on(REQUEST, &frame(0x0d, &[0x00]), false),
            ],
        ),
        (
            "CANCEL_PUSH",
            vec![request, bytes_on(REQUEST, &frame(0x03, &[0x00]), false)],
        ),
    ];
    for (name, actions) in cases {
        let actions = [&[settings()], &actions[..]].concat();
        assert_eq!(
            provoke(&victim, actions).await,
            Answer::Closed(FRAME_UNEXPECTED),
            "{name}"
        );
        victim.assert_serves(name).await;
    }
}
