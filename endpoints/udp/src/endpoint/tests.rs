use std::time::Duration;

use pasque::connection::ClientError;
use pasque::template::PathTemplate;
use pasque::testing::TestServer;
use pasque::{Mount, endpoint_types, tunnel};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::time::timeout;

use super::*;
use crate::testing::{Fake, FakeNetwork};

const PATH: &str = "/udp/192.0.2.1/53/";

/// A server whose only target is `fake`.
async fn server(fake: &Fake) -> TestServer {
    let endpoint: UdpEndpoint = serde_json::from_str(r#"{ "allow": ["192.0.2.1"] }"#).unwrap();
    let dial = FakeNetwork::new(&[(([192, 0, 2, 1], 53).into(), fake)]);
    let types = endpoint_types().unwrap();
    let kind = types.iter().find(|kind| kind.tag == "UdpEndpoint").unwrap();
    let template = PathTemplate::from_prefix("udp", kind.variables).unwrap();
    let mount = Mount::new(kind, vec![template], Box::new(endpoint.with_dial(dial)));
    TestServer::with_mounts(vec![mount], StartContext::new(".")).await
}

#[tokio::test]
async fn udp_16_a_socket_that_cannot_be_opened_is_a_status_and_never_a_reset() {
    for (errno, status, error) in [
        (Errno::MFILE, 503, "connection_limit_reached"),
        (Errno::NFILE, 503, "connection_limit_reached"),
        (Errno::NETUNREACH, 502, "destination_ip_unroutable"),
        (Errno::HOSTUNREACH, 502, "destination_ip_unroutable"),
        (Errno::ADDRNOTAVAIL, 502, "destination_ip_unroutable"),
        (Errno::INVAL, 500, "proxy_internal_error"),
    ] {
        let fake = Fake::default();
        let server = server(&fake).await;
        fake.lock().dial_errors = [errno].into();
        let Err(ClientError::Refused {
            status: found,
            proxy_status,
            ..
        }) = server.connect("connect-udp", PATH).await
        else {
            panic!("{errno:?} is not refused");
        };
        assert_eq!(found, status, "{errno:?}");
        assert_eq!(proxy_status.unwrap().error.as_deref(), Some(error));

        // It was about that moment.
        server.connect("connect-udp", PATH).await.unwrap();
    }
}

#[tokio::test]
async fn udp_20_the_client_is_told_that_the_socket_broke() {
    let fake = Fake::default();
    let server = server(&fake).await;
    let (tunnel, flow) = tunnel::pair();
    let request = Request::tunnel(PROTOCOL, PATH);
    let opened = server.connection().open(request, flow).await.unwrap();
    fake.lock().send_errors = [Some(Errno::BADF)].into();
    tunnel.send(b"\0hi");
    let Err(ClientError::Reset(code)) = opened.ended().await else {
        panic!("the tunnel ended in order");
    };
    assert_eq!(code, 0x010f);
    assert_eq!(fake.lock().open, 0);
}

#[tokio::test]
async fn udp_28_no_socket_is_opened_for_a_refused_target() {
    let fake = Fake::default();
    let server = server(&fake).await;
    for path in [
        "/udp/192.0.2.2/53/",
        "/udp/127.0.0.1/53/",
        "/udp/192.0.2.1/0/",
    ] {
        assert!(server.connect("connect-udp", path).await.is_err());
    }
    assert_eq!(fake.lock().dials, 0);
}

#[tokio::test]
async fn udp_47_without_the_capability_the_endpoint_does_not_start() {
    // It is this thread's alone, and the thread is this test's.
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::NET_RAW);
    set_capabilities(None, sets).unwrap();

    let cx = StartContext::new(".");
    let json = r#"{ "packet_too_big": true }"#;
    let mut endpoint: UdpEndpoint = serde_json::from_str(json).unwrap();
    let error = endpoint.start(&cx).await.unwrap_err().to_string();
    assert!(error.contains("\"packet_too_big\""), "{error}");
    assert!(error.contains("CAP_NET_RAW"), "{error}");

    let mut endpoint: UdpEndpoint = serde_json::from_str("{}").unwrap();
    endpoint.start(&cx).await.unwrap();
}

#[tokio::test]
async fn a_running_tunnel_ends_when_a_reload_closes_its_target() {
    let fake = Fake::default();
    let server = server(&fake).await;
    let (tunnel, flow) = tunnel::pair();
    let request = Request::tunnel(PROTOCOL, PATH);
    let opened = server.connection().open(request, flow).await.unwrap();
    let reload = async |keys: &str| {
        let json = format!(r#"{{ "path": "udp", "type": "UdpEndpoint", {keys} }}"#);
        server.reload(&[&json]).await.unwrap()
    };
    for keys in [
        r#""allow": ["192.0.2.0/24"]"#,
        r#""allow": ["192.0.2.1"], "deny": ["192.0.2.2"], "idle_timeout_s": 120"#,
    ] {
        assert_eq!(reload(keys).await.changed, 1);
        tunnel.send(b"\0hi");
        let sent = async {
            while fake.lock().sends.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), sent).await.unwrap();
        fake.lock().sends.clear();
    }
    reload(r#""allow": ["192.0.2.2"]"#).await;
    let Err(ClientError::Reset(code)) = opened.ended().await else {
        panic!("the tunnel ended in order");
    };
    assert_eq!(code, 0x010c);
    let fake = fake.lock();
    assert_eq!((fake.dials, fake.open), (1, 0));
}
