use pasque::StreamError;

use super::*;
use crate::mtu::PathFailure;

/// Polls once a second, as the timer of the flow would, until it ends or `seconds` are over.
async fn run<F: Flow>(end: &mut End<F>, seconds: u64) -> Poll<Result<()>> {
    for _ in 0..seconds {
        let polled = end.poll();
        if polled.is_ready() {
            return polled;
        }
        advance(Duration::from_millis(1001)).await;
    }
    end.poll()
}

fn with_probe() -> ServerOptions {
    ServerOptions {
        mtu_probe: true,
        ..ServerOptions::default()
    }
}

#[tokio::test]
async fn ip_58_the_state_follows_what_a_datagram_carries() {
    pause();
    let mut client = Client::ready(ClientWants::default());
    assert_eq!(client.state().mtu, 1319);
    let mtus = |client: &Client| (client.state().mtu, client.state().path_mtu);
    for (max_len, mtu, path_mtu) in [(1309, 1308, 1308), (1415, 1414, 1414), (1200, 1280, 1199)] {
        client.end.max_len = max_len;
        assert!(client.end.poll().is_pending());
        assert_eq!(mtus(&client), (mtu, path_mtu));
    }
    client.assign(&["10.76.0.2/32"]);
    assert!(client.end.poll().is_pending());
    assert_eq!(mtus(&client), (1199, 1199), "no IPv6, no need of 1280");
}

#[tokio::test]
async fn ip_58_there_is_no_mtu_before_the_peers_settings() {
    let mut client = Client::new(ClientWants::default());
    client.end.max_len = 0;
    assert!(client.end.poll().is_pending());
    client.assign(&["fd76::2/128"]);
    assert_eq!(client.state().mtu, 0);
}

#[tokio::test]
async fn ip_60_a_server_asks_the_client_for_an_echo_of_1280_bytes() {
    pause();
    let mut server = Server::new(&with_probe());
    assert!(server.end.poll().is_pending());
    let sent = server.end.sent();
    let header = packet::parse(&sent[0]).unwrap();
    assert_eq!((sent.len(), sent[0].len()), (1, 1280));
    assert_eq!(
        (header.source, header.destination),
        (address("fd76::1"), address(CLIENT_V6))
    );
    assert_eq!(icmp_kind(&sent[0]), (128, 0));

    // A host may answer only what is sent to all nodes, so the next one goes there.
    advance(Duration::from_millis(1001)).await;
    assert!(server.end.poll().is_pending());
    let sent = server.end.sent();
    assert_eq!(
        packet::parse(&sent[0]).unwrap().destination,
        address("ff02::1")
    );

    let reply = icmp::echo_reply_to(
        &sent[0],
        &packet::parse(&sent[0]).unwrap(),
        address(CLIENT_V6),
    );
    server.end.deliver(&[reply.unwrap().to_vec()]);
    assert_eq!(server.end.received(), [[0u8; 0]; 0], "it was for the flow");
    assert!(run(&mut server.end, 60).await.is_pending());
    assert_eq!(server.end.sent(), [[0u8; 0]; 0]);
    assert_eq!(server.end().outward.answered, 1);
}

#[tokio::test]
async fn ip_60_replies_to_others_reach_the_host() {
    pause();
    let mut server = Server::new(&with_probe());
    assert!(server.end.poll().is_pending());
    let request = server.end.sent().remove(0);
    let reply_to = |request: &[u8]| {
        let header = packet::parse(request).unwrap();
        let reply = icmp::echo_reply_to(request, &header, address(CLIENT_V6));
        reply.unwrap().to_vec()
    };
    let mine = reply_to(&request);
    let own = "fd76::1".parse().unwrap();
    let sent_id = u16::from_be_bytes([request[44], request[45]]);
    let echo = icmp::Echo {
        id: sent_id.wrapping_add(1),
        sequence: 1,
    };
    let other = icmp::echo_request_v6(own, CLIENT_V6.parse().unwrap(), echo, 1232);
    let short = icmp::echo_request_v6(
        own,
        CLIENT_V6.parse().unwrap(),
        icmp::Echo {
            id: sent_id,
            sequence: 1,
        },
        8,
    );
    let (other, short) = (reply_to(&other), reply_to(&short));
    server.end.deliver(&[other.clone(), short.clone()]);
    assert_eq!(server.end.received(), [other, short]);
    server.end.deliver(std::slice::from_ref(&mine));
    assert_eq!(server.end.received(), [[0u8; 0]; 0]);
    // It was waited for once.
    server.end.deliver(std::slice::from_ref(&mine));
    assert_eq!(server.end.received(), [mine]);
}

#[tokio::test]
async fn ip_60_a_path_that_does_not_carry_1280_bytes_ends_the_tunnel() {
    pause();
    let mut server = Server::new(&with_probe());
    let Poll::Ready(Err(error)) = run(&mut server.end, 10).await else {
        panic!("the tunnel goes on");
    };
    assert_eq!(error.stream_error(), StreamError::RequestCancelled);
    assert!(
        error
            .to_string()
            .contains("no answer to 5 ICMPv6 echo requests")
    );
    assert_eq!(server.end.sent().len(), 5);
}

#[tokio::test]
async fn ip_60_a_client_that_is_a_router_asks_too_and_tells_why_it_ends() {
    pause();
    let mut client = Client::ready(ClientWants {
        mtu_probe: true,
        ..ClientWants::default()
    });
    let Poll::Ready(Err(_)) = run(&mut client.end, 10).await else {
        panic!("the tunnel goes on");
    };
    assert_eq!(
        client.state().failure,
        Some(TunnelFailure::Path(PathFailure::NoEcho))
    );
    let sent = client.end.sent();
    assert_eq!(sent.len(), 5);
    for request in sent {
        assert_eq!(
            packet::parse(&request).unwrap().destination,
            address("ff02::1")
        );
    }
}

#[tokio::test]
async fn ip_60_two_ends_satisfy_each_other() {
    pause();
    let mut server = Server::new(&with_probe());
    let mut client = Client::ready(ClientWants {
        mtu_probe: true,
        ..ClientWants::default()
    });
    for _ in 0..30 {
        assert!(server.end.poll().is_pending());
        assert!(client.end.poll().is_pending());
        let (from_server, from_client) = (server.end.sent(), client.end.sent());
        client.end.deliver(&from_server);
        server.end.deliver(&from_client);
        // The client's kernel, which would answer the echo to its address, is silent here.
        client.end.received();
        advance(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn ip_61_a_tunnel_with_ipv6_ends_when_its_path_is_too_narrow() {
    pause();
    let mut server = Server::new(&ServerOptions::default());
    let mut client = Client::ready(ClientWants::default());
    (server.end.max_len, client.end.max_len) = (1155, 1155);
    assert!(run(&mut server.end, 3).await.is_pending());
    let Poll::Ready(Err(error)) = run(&mut server.end, 5).await else {
        panic!("the server goes on");
    };
    assert_eq!(error.stream_error(), StreamError::RequestCancelled);
    assert!(
        error
            .to_string()
            .contains("1154 bytes, but IPv6 needs 1280")
    );

    assert!(run(&mut client.end, 8).await.is_ready());
    let failure = PathFailure::Narrow { mtu: 1154 };
    assert_eq!(client.state().failure, Some(TunnelFailure::Path(failure)));
}

#[tokio::test]
async fn ip_61_a_tunnel_without_ipv6_goes_on_over_a_narrow_path() {
    pause();
    let mut server = Server::new(&ServerOptions {
        pools: vec!["10.76.0.1/24"],
        ..with_probe()
    });
    let mut client = Client::ready(ClientWants::default());
    client.assign(&["10.76.0.2/32"]);
    (server.end.max_len, client.end.max_len) = (1155, 1155);
    assert!(run(&mut server.end, 60).await.is_pending());
    assert!(run(&mut client.end, 60).await.is_pending());
    assert_eq!(client.state().mtu, 1154);
    server
        .end
        .host_sends(&[udp_of_len(TARGET, CLIENT, 1154, true)]);
    assert!(server.end.poll().is_pending());
    assert_eq!(server.end.sent().len(), 1);
}

#[tokio::test]
async fn ip_61_discovery_gets_its_time_and_nothing_shrinks_meanwhile() {
    pause();
    let mut client = Client::ready(ClientWants::default());
    client.end.max_len = 1167;
    assert!(run(&mut client.end, 3).await.is_pending());
    assert_eq!(client.state().mtu, 1280);
    client.end.max_len = 1415;
    assert!(run(&mut client.end, 30).await.is_pending());
    assert_eq!((client.state().mtu, client.state().failure), (1414, None));
}
