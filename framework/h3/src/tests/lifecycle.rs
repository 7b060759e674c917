//! How servers stop.

use std::time::{Duration, Instant};

use pasque::Request;
use pasque::connection::{ClientError, CloseReason};

use super::endpoints::Mark;
use super::peer::{Closed, Peer, generous, plain, tunnel};
use super::wire::{GOAWAY, headers};
use super::{SILENCE, eventually, server};

#[tokio::test]
async fn h3_19_an_orderly_stop_announces_drains_and_closes() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    server.drain(Duration::from_millis(700));
    let goaway = client
        .until("GOAWAY", |peer| {
            peer.control_frames().into_iter().find(|f| f.kind == GOAWAY)
        })
        .await;
    assert_eq!(goaway.payload, [4], "the next request");
    client.datagram_for(id, b"still open");
    assert_eq!(client.next_datagram(id).await, b"still open");
    // A request that crossed it on the way.
    let late = client.request(&tunnel("echo", "/echo"), false).await;
    assert_eq!(client.was_aborted(late).await, 0x010b);
    client.datagram_for(id, b"and still");
    assert_eq!(client.next_datagram(id).await, b"and still");
    assert_eq!(client.was_closed().await, Closed::Application(0x0100));
    eventually("everything is released", || {
        (server.connections(), server.tunnels()) == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn h3_19_what_is_under_way_may_end_and_then_nothing_is_waited_for() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let mark = Mark::named("h3-19");
    let fields = [&plain("POST", "/content/unread")[..], &[("mark", "h3-19")]].concat();
    let id = client.request(&fields, true).await;
    eventually("the endpoint is at work", || mark.inside() == 1).await;
    server.drain(Duration::from_secs(60));
    client.run_for(SILENCE).await;
    mark.open();
    client.finished(id).await;
    assert_eq!(client.content(id), b"late");
    let start = Instant::now();
    assert_eq!(client.was_closed().await, Closed::Application(0x0100));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_once_and_no_new_one_is_taken() {
    let server = server().await;
    let connection = server.connection().await.unwrap();
    let mut busy = Peer::client(&server).await;
    busy.echo().await;
    server.drain(Duration::from_millis(300));
    assert_eq!(connection.closed().await, CloseReason::Peer);
    let error = connection
        .request(Request::get("/content/1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Closed(CloseReason::Peer)),
        "{error}"
    );
    let mut late = Peer::dial(server.network(), server.address(), generous());
    late.run_for(SILENCE).await;
    assert!(!late.quic.is_established());
    assert_eq!(busy.was_closed().await, Closed::Application(0x0100));
}

#[tokio::test]
async fn an_upload_that_never_ends_does_not_hold_up_the_stop() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.next_stream();
    client
        .send(id, &headers(&plain("POST", "/content/echo")), false)
        .await;
    client.head(id).await;
    let start = Instant::now();
    server.drain(Duration::from_millis(200));
    assert_eq!(client.was_closed().await, Closed::Application(0x0100));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    eventually("everything is released", || server.connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_vanished_does_not_hold_up_the_stop() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    client.echo().await;
    drop(client);
    server.drain(Duration::from_millis(200));
    eventually("everything is released", || {
        (server.connections(), server.tunnels()) == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn h3_19_a_stream_of_an_unknown_type_that_is_reset_was_no_request() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    // It is gone before its type has come.
    let unknown = client.control_stream() + 4 * 7;
    client.quic.stream_send(unknown, &[0x21; 9], false).unwrap();
    client.reset(unknown, 0x0100);
    client.echo().await;
    server.drain(Duration::from_secs(60));
    let goaway = client
        .until("GOAWAY", |peer| {
            peer.control_frames().into_iter().find(|f| f.kind == GOAWAY)
        })
        .await;
    assert_eq!(goaway.payload, [4], "the next request");
}
