//! Datagrams that leave before the answer, if the client wants that.

use pasque::testing::TestTunnel;
use pasque::{Request, tunnel};

use super::SILENCE;
use super::listening::{PROPER, serve};
use super::wire::headers;

/// Asks for a tunnel with a datagram in it, and says whether that came before the answer.
async fn comes_before_the_answer(starts_early: bool) -> bool {
    let (mut peer, connection) = serve(PROPER).await;
    let (end, flow) = tunnel::pair();
    end.send(b"\x00hi");
    let mut request = Request::tunnel("connect-udp", "/udp");
    request.starts_early = starts_early;
    let asking = connection.clone();
    let asked = tokio::spawn(async move { asking.open(request, flow).await });
    peer.head(0).await;
    peer.run_for(SILENCE).await;
    let came = peer
        .datagrams
        .iter()
        .any(|datagram| datagram == b"\x00\x00hi");
    peer.send(0, &headers(&[(":status", "200")]), false).await;
    peer.run_until(asked).await.expect("a tunnel");
    if !came {
        assert_eq!(
            peer.next_datagram(0).await,
            b"\x00hi",
            "it comes after the answer"
        );
    }
    // The tunnel works either way.
    peer.datagram_for(0, b"\x00back");
    peer.flush();
    assert_eq!(&*TestTunnel(end).recv().await, b"\x00back");
    came
}

#[tokio::test]
async fn udp_48_the_first_datagrams_wait_for_the_answer_unless_they_are_to_leave_early() {
    assert!(!comes_before_the_answer(false).await);
    assert!(comes_before_the_answer(true).await);
}

#[tokio::test]
async fn udp_48_early_datagrams_are_lost_when_the_tunnel_is_refused() {
    let (mut peer, connection) = serve(PROPER).await;
    let (mut end, flow) = tunnel::pair();
    end.send(b"\x00hi");
    let mut request = Request::tunnel("connect-udp", "/udp");
    request.starts_early = true;
    let asked = tokio::spawn(async move { connection.open(request, flow).await });
    peer.head(0).await;
    peer.send(0, &headers(&[(":status", "403")]), true).await;
    assert!(peer.run_until(asked).await.is_err());
    assert!(end.recv().await.is_none(), "the flow is gone");
}
