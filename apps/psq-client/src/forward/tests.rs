use http::StatusCode;
use pasque::prelude::*;
use pasque::testing::TestServer;
use tokio::net::UdpSocket;
use tokio::time::{Duration, timeout};

use super::*;

/// Answers every tunnel request with a status.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefuseTunnels {
    status: u16,
}

pasque::register!(RefuseTunnels, "refuses tunnels",
    example: r#"{ "path": "udp", "type": "RefuseTunnels", "status": 403 }"#,
    variables: &["target_host", "target_port"]);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for RefuseTunnels {
    async fn handle(&self, _: Request) -> Result<Response> {
        let status = StatusCode::from_u16(self.status).unwrap();
        let location = http::HeaderValue::from_static("https://other.example/");
        Ok(Response::new(status).with_header(http::header::LOCATION, location))
    }
}

fn spec(text: &str) -> ForwardSpec {
    text.parse().unwrap()
}

#[test]
fn a_forward_names_a_target_and_perhaps_a_local_address() {
    let dns = spec("dns.example:53");
    assert_eq!(
        (dns.local, dns.target.to_string()),
        (FREE_PORT, "dns.example:53".into())
    );
    let bound = spec("[::1]:5353=[2001:db8::42]:53");
    assert_eq!(bound.local.to_string(), "[::1]:5353");
    assert_eq!(bound.target.to_string(), "[2001:db8::42]:53");
    assert_eq!(spec("0.0.0.0:1=10.0.0.1:2").local.to_string(), "0.0.0.0:1");
}

#[test]
fn udp_04_a_target_has_a_host_and_a_port() {
    for wrong in [
        "",
        "53",
        "dns.example",
        ":53",
        "dns.example:",
        "dns.example:0",
        "dns.example:65536",
        "2001:db8::42:53",
        "[fe80::1%eth0]:53",
        "=dns.example:53",
        "5353=dns.example:53",
        "localhost:5353=dns.example:53",
        "127.0.0.1:5353=",
    ] {
        assert!(wrong.parse::<ForwardSpec>().is_err(), "{wrong}");
    }
}

#[test]
fn udp_06_international_names_become_a_labels() {
    assert_eq!(
        spec("bücher.example:53").target.to_string(),
        "xn--bcher-kva.example:53"
    );
}

#[test]
fn only_an_answer_that_stays_the_same_ends_a_forward() {
    let refused =
        |status: u16| ClientError::refused(StatusCode::from_u16(status).unwrap(), HeaderMap::new());
    for status in [204, 302, 400, 401, 403, 404, 405, 501] {
        assert!(is_final(&refused(status)), "{status}");
    }
    for status in [408, 429, 500, 502, 503, 504] {
        assert!(!is_final(&refused(status)), "{status}");
    }
    assert!(is_final(&ClientError::NoExtendedConnect));
    assert!(!is_final(&ClientError::Timeout));
}

/// A server that answers `status`.
async fn refusing(status: u16) -> TestServer {
    TestServer::from_json(&format!(
        r#"{{ "path": "udp", "type": "RefuseTunnels", "status": {status} }}"#
    ))
    .await
}

fn template() -> UriTemplate {
    let template = "https://localhost/udp/{target_host}/{target_port}/";
    UriTemplate::parse(template, &["target_host", "target_port"]).unwrap()
}

/// Sends one datagram into a forward to a server that answers `status`.
async fn use_forward(status: u16) -> Option<Failure> {
    let server = refusing(status).await;
    let template = template();
    let spec = spec("192.0.2.1:53");
    let mut bound = Bound::new(&server.connection(), &template, &HeaderMap::new(), &spec).unwrap();
    let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    user.send_to(b"hello", bound.local).await.unwrap();
    timeout(Duration::from_secs(2), bound.run()).await.ok()
}

#[tokio::test]
async fn xc_17_a_refusal_ends_the_forward_and_a_redirect_is_one() {
    for (status, exit) in [(302, Exit::Refused), (403, Exit::Denied)] {
        let failure = use_forward(status).await.unwrap();
        assert_eq!(failure.exit, exit);
        let text = failure.to_string();
        assert!(text.starts_with(&format!("udp 192.0.2.1:53: the server answered {status}")));
    }
}

#[tokio::test]
async fn a_refusal_for_now_does_not_end_the_forward() {
    assert_eq!(use_forward(503).await, None);
}

#[tokio::test]
async fn what_one_connection_refused_is_not_held_against_the_next() {
    let former = refusing(401).await;
    let specs = [spec("192.0.2.1:53"), spec("192.0.2.2:53")];
    let connection = former.connection();
    let bound = Forwards::bind(&connection, &template(), &HeaderMap::new(), &specs);
    let mut forwards = bound.unwrap();
    let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Both are refused before anybody reads why.
    for bound in &mut forwards.0 {
        user.send_to(b"hello", bound.local).await.unwrap();
        let Bound {
            forward, refusal, ..
        } = bound;
        let refused = async {
            while refusal.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let serving = async {
            tokio::select! {
                ended = forward.run() => panic!("{ended:?}"),
                () = refused => {}
            }
        };
        timeout(Duration::from_secs(2), serving).await.unwrap();
    }
    let next = refusing(503).await;
    forwards.reconnect(&next.connection());
    let ended = timeout(Duration::from_millis(200), forwards.run()).await;
    assert_eq!(ended.ok(), None);
}
