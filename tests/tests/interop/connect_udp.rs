//! UDP tunnels over aioquic: what the server understands by RFC 9298 and RFC 9297 is what somebody
//! else understood, too.

use std::net::SocketAddr;

use pasque::testing::dns::{Answer, DnsServer};
use pasque_tests::EchoTarget;
use serde_json::json;

use crate::common::{server_by, udp};
use crate::python;

/// Runs a case of `connect_udp.py` against a server that reaches `targets`.
async fn case(name: &str, targets: &[SocketAddr]) {
    let names = DnsServer::start(|question| match question.name.as_str() {
        "silent.example" => Answer::Silence,
        "broken.example" => Answer::SERVFAIL,
        _ => Answer::NXDOMAIN,
    })
    .await
    .unwrap();
    let server = server_by(
        &pasque_tests::program("psq-server"),
        json!({
            "resolver": names.address(),
            "endpoints": [udp(&["127.0.0.1", "::1"])],
        }),
    )
    .await;
    let fixed = [
        name.into(),
        server.address().to_string().into(),
        server.certificate().into(),
    ];
    let targets = targets.iter().map(|target| target.to_string().into());
    python("connect_udp.py", fixed.into_iter().chain(targets)).await;
}

async fn case_with_echo(name: &str) {
    let target = EchoTarget::on_loopback().await.unwrap();
    case(name, &[target.address()]).await;
}

#[tokio::test]
async fn udp_40_aioquic_echoes_0_1_and_1200_bytes() {
    let target = EchoTarget::on_loopback().await.unwrap();
    case("echo", &[target.address()]).await;
    assert_eq!(target.count(), 3);
}

#[tokio::test]
async fn udp_17_aioquic_reaches_ipv4_and_ipv6_targets() {
    let v4 = EchoTarget::on_loopback().await.unwrap();
    let v6 = EchoTarget::start("[::1]:0".parse().unwrap()).await.unwrap();
    case("echo", &[v4.address(), v6.address()]).await;
    assert_eq!((v4.count(), v6.count()), (3, 3));
}

#[tokio::test]
async fn udp_43_aioquic_sends_unknown_context_ids_in_vain() {
    let target = EchoTarget::on_loopback().await.unwrap();
    case("unknown_context", &[target.address()]).await;
    assert_eq!(target.count(), 1);
}

#[tokio::test]
async fn hdg_33_aioquic_sends_datagram_capsules() {
    case_with_echo("capsules_beside_datagrams").await;
}

#[tokio::test]
async fn hdg_34_aioquic_without_datagrams_gets_capsules() {
    case_with_echo("without_datagrams").await;
}

#[tokio::test]
async fn hdg_21_aioquic_ends_its_stream_inside_a_capsule() {
    case_with_echo("cut_capsule").await;
}

#[tokio::test]
async fn xc_12_aioquic_ends_its_stream_between_capsules() {
    case_with_echo("orderly_end").await;
}

#[tokio::test]
async fn ps_03_aioquic_is_told_why_a_target_is_refused() {
    case_with_echo("refusals").await;
}

#[tokio::test]
async fn xc_07_aioquic_asks_for_other_protocols() {
    case_with_echo("other_protocols").await;
}
