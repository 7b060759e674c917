//! What a peer sees at the limits, and what it cannot make the server do.

use std::time::{Duration, Instant};

use http::Method;
use pasque::config::Limits;
use pasque::connection::{ClientError, CloseReason};
use pasque::testing::TestTunnel;
use pasque::{Body, Request};

use super::endpoints::Mark;
use super::peer::{Closed, Peer, generous, plain, tunnel};
use super::wire::{frame, headers};
use super::{PATIENCE, SITE, eventually, server, server_with};
use crate::connection::{KEPT_LIMIT, KEPT_MOST, MAX_HOLDING};
use crate::ledger::ALL;
use crate::monitor::WELCOME;
use crate::testing::{Conditions, TestServer};

#[tokio::test]
async fn a_client_that_resets_without_end_is_sent_away_and_its_work_is_cancelled() {
    let limits = Limits {
        resets_per_10s: 10,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    let mark = Mark::named("resets");
    for _ in 0..10 {
        let id = client.connect("connect-udp", "/hold/resets").await;
        eventually("the endpoint is at work", || mark.inside() == 1).await;
        client.reset(id, 0x010c);
        client.was_reset(id).await;
        eventually("its work is cancelled", || mark.inside() == 0).await;
    }
    assert!(
        client.quic.peer_error().is_none(),
        "ten are within the budget"
    );
    let id = client.connect("connect-udp", "/hold/resets").await;
    client.reset(id, 0x010c);
    assert_eq!(client.was_closed().await, Closed::Application(0x0107));
    assert_eq!(Peer::client(&server).await.fetch("/content/1").await.0, 200);
}

#[tokio::test]
async fn a_cancelled_request_counts_once_whatever_frames_say_so() {
    let limits = Limits {
        resets_per_10s: 10,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    for _ in 0..10 {
        let id = client.echo().await;
        // Both frames in one packet.
        client
            .quic
            .stream_shutdown(id, quiche::Shutdown::Write, 0x010c)
            .unwrap();
        client.stop(id, 0x010c);
        eventually("the tunnel is gone", || server.tunnels() == 0).await;
    }
    assert_eq!(client.fetch("/content/1").await.0, 200);
}

#[tokio::test]
async fn a_rapid_reset_is_over_before_it_costs_anything() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let mut opened = 0;
    let start = Instant::now();
    while client.quic.peer_error().is_none() && opened < 20_000 {
        assert!(
            start.elapsed() < PATIENCE,
            "{opened} streams, {:?}",
            client.quic.stats()
        );
        for _ in 0..50 {
            if client.quic.peer_streams_left_bidi() == 0 {
                break;
            }
            let id = client.next_stream();
            let request = headers(&tunnel("connect-udp", "/hold/rapid"));
            let _ = client.quic.stream_send(id, &request, false);
            let _ = client
                .quic
                .stream_shutdown(id, quiche::Shutdown::Write, 0x010c);
            opened += 1;
        }
        client.run_for(Duration::from_millis(1)).await;
    }
    assert_eq!(client.was_closed().await, Closed::Application(0x0107));
    assert!(opened < 1000, "{opened} streams were opened");
    eventually("nothing is at work", || Mark::named("rapid").inside() == 0).await;
}

#[tokio::test]
async fn a_stream_that_was_reset_before_its_request_does_not_count_for_ever() {
    let limits = Limits {
        requests_per_connection: 2,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::client(&server).await;
    for _ in 0..4 {
        let id = client.next_stream();
        // A HEADERS frame of 100 bytes, of which one comes.
        client.send(id, &[0x01, 0x40, 0x64, 0x00], false).await;
        client.reset(id, 0x010c);
        client
            .until("credit", |p| {
                (p.quic.peer_streams_left_bidi() > 0).then_some(())
            })
            .await;
    }
    assert_eq!(client.fetch("/content/1").await.0, 200);
}

#[tokio::test]
async fn a_connection_above_the_limit_is_refused() {
    for limits in [
        Limits {
            connections: 1,
            ..Limits::default()
        },
        Limits {
            connections_per_address: 1,
            ..Limits::default()
        },
    ] {
        let server = server_with(limits).await;
        let first = server.connection().await.unwrap();
        let mut second = Peer::dial(server.network(), server.address(), generous());
        assert_eq!(second.was_closed().await, Closed::Transport(0x02));
        let error = server.connection().await.map(drop).unwrap_err();
        let refused = CloseReason::PeerError(0x02, "too many connections".into());
        assert!(
            matches!(&error, ClientError::Closed(reason) if *reason == refused),
            "{error}"
        );

        assert_eq!(server.connections(), 1);
        first.close();
        eventually("the place is free", || server.connections() == 0).await;
        server.connection().await.expect("a place");
    }
}

#[tokio::test]
async fn who_asks_for_nothing_keeps_no_place_from_others() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let busy = server.connection().await.unwrap();
    let request = Request::tunnel("echo", "/echo");
    let mut tunnel = TestTunnel::open(&busy, request).await.unwrap();
    // A packet from time to time keeps its connection, though it asks for nothing.
    let mut idle = Peer::client(&server).await;
    let kept_from = Instant::now();
    while kept_from.elapsed() < 2 * WELCOME {
        idle.quic.send_ack_eliciting().unwrap();
        idle.run_for(WELCOME / 10).await;
    }
    server.look_after_places();
    idle.run_for(WELCOME / 10).await;
    assert_eq!(server.connections(), 2, "nobody wants a place");

    assert_eq!(idle.fetch("/content/1").await.0, 200);
    server.connection().await.map(drop).unwrap_err();
    server.look_after_places();
    idle.run_for(WELCOME / 10).await;
    assert_eq!(server.connections(), 2, "it has just been of use");

    idle.run_for(WELCOME).await;
    server.look_after_places();
    idle.run_for(WELCOME / 10).await;
    assert_eq!(server.connections(), 2, "nobody has asked again");

    server.connection().await.map(drop).unwrap_err();
    server.look_after_places();
    assert_eq!(idle.was_closed().await, Closed::Application(0x0100));
    eventually("the place is free", || server.connections() == 1).await;
    server.connection().await.expect("a place");
    tunnel.send(b"goes on");
    assert_eq!(&*tunnel.recv().await, b"goes on");
}

#[tokio::test]
async fn what_lacks_memory_is_refused_step_by_step_and_what_runs_goes_on() {
    let server = server_with(Limits::default()).await;
    let idle = server.connection().await.unwrap();
    let busy = server.connection().await.unwrap();
    let open = async || TestTunnel::open(&busy, Request::tunnel("echo", "/echo")).await;
    let mut tunnel = open().await.unwrap();
    let mut works = async |payload: &[u8]| {
        tunnel.send(payload);
        assert_eq!(&*tunnel.recv().await, payload);
    };

    server.use_memory(80);
    let mut refused = Peer::dial(server.network(), server.address(), generous());
    assert_eq!(refused.was_closed().await, Closed::Transport(0x02));
    works(b"80 %").await;
    assert_eq!(server.connections(), 2, "nobody is sent away yet");

    server.use_memory(90);
    eventually("the idle one is gone", || server.connections() == 1).await;
    let closed = idle
        .request(Request::get("/content/1"))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(&closed, ClientError::Closed(_)), "{closed}");
    works(b"90 %").await;
    let second = open().await.expect("a tunnel on a connection that has one");

    server.use_memory(95);
    let refused = open().await.map(drop).unwrap_err();
    match &refused {
        ClientError::Refused {
            status, headers, ..
        } => {
            assert_eq!(status.as_u16(), 503);
            assert!(headers.contains_key("retry-after"), "{headers:?}");
        }
        other => panic!("not a refusal: {other}"),
    }
    works(b"95 %").await;
    drop(second);

    server.use_memory(74);
    open().await.expect("a tunnel");
    server.connection().await.expect("a place");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_gives_its_place_back() {
    let limits = Limits {
        handshake_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut client = Peer::dial(server.network(), server.address(), generous());
    client.flush();
    // The answer to the first packet is a Retry; after the second there is a connection.
    eventually("a connection", || {
        if server.connections() == 0 {
            client.pump();
        }
        server.connections() == 1
    })
    .await;
    let (start, used) = (Instant::now(), time_on_processor());
    eventually("its place is free", || server.connections() == 0).await;
    // Until then its close is repeated when asked for, and nothing else is done.
    let (time, used) = (start.elapsed(), time_on_processor() - used);
    assert!(used < time / 2, "{used:?} of {time:?}");
}

/// How long this thread, on which the server runs, has had a processor.
fn time_on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_thousand_tunnels_work_on_one_connection() {
    let limits = Limits {
        requests_per_connection: 2000,
        tunnels_per_connection: 2000,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let connection = server.connection().await.unwrap();
    let opening = (0..1000).map(|_| {
        let connection = connection.clone();
        tokio::spawn(async move {
            TestTunnel::open(&connection, Request::tunnel("echo", "/echo")).await
        })
    });
    let mut tunnels = Vec::new();
    for task in opening.collect::<Vec<_>>() {
        tunnels.push(task.await.unwrap().expect("a tunnel"));
    }
    assert_eq!(server.tunnels(), 1000);
    for (n, tunnel) in tunnels.iter().enumerate() {
        tunnel.send(&(n as u32).to_be_bytes());
    }
    for (n, tunnel) in tunnels.iter_mut().enumerate() {
        assert_eq!(&*tunnel.recv().await, (n as u32).to_be_bytes());
    }
    drop(tunnels);
    eventually("all are gone", || server.tunnels() == 0).await;
}

#[tokio::test]
async fn more_events_than_a_turn_takes_are_all_dealt_with() {
    let limits = Limits {
        requests_per_connection: 1000,
        ..Limits::default()
    };
    let server = server_with(limits).await;
    let mut config = generous();
    config.set_initial_max_streams_bidi(1000);
    let mut client = Peer::client_with(&server, config, "04 02 33 01").await;
    // Two events each, and all of them arrive together.
    let mut ids = Vec::new();
    for _ in 0..600 {
        let id = client.next_stream();
        client.send(id, &headers(&plain("GET", "/c")), true).await;
        ids.push(id);
    }
    let start = Instant::now();
    for id in ids {
        assert_eq!(client.head(id).await.status(), 404);
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn hdg_38_a_flood_of_reserved_frames_does_no_harm() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    let flood = frame(0x21, &[0; 50]).repeat(1000);
    let control = client.control_stream();
    for _ in 0..20 {
        client.send(id, &flood, false).await;
        client.send(control, &flood, false).await;
    }
    client.datagram_for(id, b"still here");
    assert_eq!(client.next_datagram(id).await, b"still here");
}

#[tokio::test]
async fn datagrams_for_20_000_streams_leave_nothing_behind() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    for n in 0..20_000u64 {
        // Streams that may still come, and streams that never will.
        let stream = 4 * (n * 50 % 1_000_000);
        let _ = client
            .quic
            .dgram_send(&[&pasque::wire::varint::to_prefix(stream / 4 + 1)[..], b"x"].concat());
        if n % 200 == 0 {
            client.run_for(Duration::from_millis(1)).await;
        }
    }
    client.run_for(Duration::from_millis(100)).await;
    client.datagrams.clear();
    client.datagram_for(id, b"!longest");
    client.datagram_for(id, b"still here");
    client
        .until("an answer", |p| {
            p.datagrams
                .drain(..)
                .any(|d| d.ends_with(b"still here"))
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn tunnels_survive_a_client_that_floods_one_of_them() {
    let server = TestServer::start(&SITE, Conditions::default(), Limits::default()).await;
    let mut flooder = Peer::client(&server).await;
    let flooded = flooder.echo().await;
    let mut other = server.connect("echo", "/echo").await.unwrap();
    for _ in 0..50 {
        for _ in 0..100 {
            let _ = flooder.quic.dgram_send(
                &[
                    &pasque::wire::varint::to_prefix(flooded / 4)[..],
                    &[7; 1000],
                ]
                .concat(),
            );
        }
        flooder.pump();
        other.send(b"calm");
        assert_eq!(&*other.recv().await, b"calm");
        flooder.datagrams.clear();
    }
}

#[tokio::test]
async fn what_is_kept_for_a_client_that_withholds_one_packet_is_bounded() {
    const TOTAL: usize = 4 << 20;
    const LIMIT: usize = 48 << 10;
    let conditions = Conditions {
        latency: Duration::from_millis(1),
        ..Conditions::default()
    };
    let mut most = Vec::new();
    for limit in [LIMIT, usize::MAX] {
        KEPT_LIMIT.set(Some(limit));
        KEPT_MOST.set(0);
        let server = TestServer::start(&SITE, conditions, Limits::default()).await;
        let mut client = Peer::client(&server).await;
        let id = client.get(&format!("/content/{TOTAL}")).await;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            // The first packet of what comes together has what was lost before, more often than not.
            client.before_lost = Some(0);
            client.pump();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        most.push(KEPT_MOST.get());
        client.before_lost = None;
        client.finished(id).await;
        assert!(client.content(id).len() >= TOTAL);
    }
    println!("{most:?}");
    let (limited, unlimited) = (most[0], most[1]);
    // What a piece is that was begun below the limit.
    assert!(limited <= LIMIT + (64 << 10), "{limited}");
    assert!(unlimited > 2 * limited, "{unlimited}");
}

#[tokio::test]
async fn what_is_counted_as_held_for_a_connection_is_given_back() {
    let conditions = Conditions {
        latency: Duration::from_millis(1),
        loss: 0.01,
        ..Conditions::default()
    };
    let server = TestServer::start(&SITE, conditions, Limits::default()).await;
    let connection = server.connection().await.unwrap();
    let before = ALL.get();
    // Of both ends, which run on this thread.
    let held = || ALL.get() - before;
    let mut most = 0;
    for _ in 0..3 {
        let request = Request::get(format!("/content/{}", 4 << 20));
        let mut body = connection.request(request).await.unwrap().body;
        while body.next().await.is_some() {
            most = most.max(held());
        }
        let mut upload = Request::new(Method::POST, "/content/echo");
        upload.body = Body::Full(vec![7; 2 << 20].into());
        let mut body = connection.request(upload).await.unwrap().body;
        while body.next().await.is_some() {}
        for _ in 0..500 {
            let answer = connection.request(Request::get("/content/1")).await;
            assert_eq!(answer.unwrap().status, 200);
        }
        let request = Request::tunnel("gauge", "/gauge");
        let mut tunnel = TestTunnel::open(&connection, request).await.unwrap();
        for _ in 0..200 {
            for _ in 0..50 {
                tunnel.send(vec![7; 1000]);
                tunnel.send(b"!longest");
            }
            while !tunnel.is_silent_for(Duration::from_millis(3)).await {}
        }
        drop(tunnel);
        tokio::time::sleep(Duration::from_millis(500)).await;
        println!("{} bytes are held, {most} were", held());
        // What is kept for streams to come, and of those that were.
        assert!(held().unsigned_abs() < 512 << 10, "{}", held());
    }
    assert!(most > 20_000, "{most}");
}

/// A client that sends without hearing of what it has sent.
async fn hoarder(server: &TestServer) -> Peer {
    let mut config = generous();
    config.set_initial_congestion_window_packets(1_000_000);
    Peer::client_with(server, config, "04 02 33 01").await
}

/// Has the server acknowledge packets one by one, and acknowledges none of the server's, until its
/// connection is closed or so many were sent.
async fn hoard(client: &mut Peer, server: &TestServer, packets: usize) {
    let connections = server.connections();
    for _ in 0..packets / 10 {
        for _ in 0..10 {
            // The server is left with a gap each time, and tells of all of them.
            client.quic.send_ack_eliciting().unwrap();
            let _ = client.quic.send(&mut [0; 1500]);
            client.quic.send_ack_eliciting().unwrap();
            client.flush();
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        if server.connections() < connections {
            return;
        }
    }
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_goes_first_when_memory_is_short() {
    let server = server().await;
    let mut other = server.connect("echo", "/echo").await.unwrap();
    let mut client = hoarder(&server).await;
    client.echo().await;
    let before = ALL.get();
    hoard(&mut client, &server, 2_000).await;
    let held = ALL.get() - before;
    println!("{held} bytes are held");
    assert!((1 << 20..8 << 20).contains(&held), "{held}");
    server.use_memory(99);
    other.send(b"still".to_vec());
    assert_eq!(&other.recv().await[..], b"still");
    assert_eq!(server.connections(), 2);
    server.use_memory(100);
    eventually("the heavy one is closed", || server.connections() == 1).await;
    other.send(b"and now".to_vec());
    assert_eq!(&other.recv().await[..], b"and now");
    assert_eq!(server.tunnels(), 1);
    server.use_memory(10);
    // One that costs more than that goes sooner.
    let mut client = hoarder(&server).await;
    client.echo().await;
    let before = ALL.get();
    hoard(&mut client, &server, 8_000).await;
    let held = ALL.get() - before;
    assert!(held > 8 << 20, "{held}");
    server.use_memory(79);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.connections(), 2);
    server.use_memory(80);
    eventually("the heavy one is closed", || server.connections() == 1).await;
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_is_closed_before_it_costs_more_than_any() {
    MAX_HOLDING.set(Some(300 << 10));
    let server = server().await;
    let mut client = hoarder(&server).await;
    let before = ALL.get();
    hoard(&mut client, &server, 10_000).await;
    assert_eq!(server.connections(), 0);
    let held = ALL.get() - before;
    println!("{held} bytes are held");
    assert!((200..400).contains(&(held >> 10)), "{held}");
    assert_eq!(client.was_closed().await, Closed::Application(0x107));
}
