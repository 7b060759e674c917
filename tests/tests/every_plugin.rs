//! What every type of endpoint has to do, whoever wrote it.
//!
//! A new type needs one arm in [`fixture`], which says how to ask it for something.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

use std::collections::HashSet;
use std::time::Duration;

use http::{Method, StatusCode};
use pasque::config::{EndpointConfig, Limits};
use pasque::connection::ClientError;
use pasque::testing::{Faults, TestServer, TestTunnel};
use pasque::{Endpoint, EndpointType, Request, endpoint_types};
use pasque_echo as _;
use pasque_files as _;
use pasque_h3::testing::Conditions;
use pasque_tests::{EchoTarget, PATIENCE, program};
use pasque_udp as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// Types that only the tests and the documentation have.
const EXAMPLES: [&str; 1] = ["Echo"];

/// How to ask a type for something.
struct Fixture {
    /// A configuration that works on this machine.
    json: String,
    service: Service,
    _target: Option<EchoTarget>,
    _folder: Option<TempDir>,
}

enum Service {
    /// A tunnel that returns every datagram.
    Tunnel {
        protocol: &'static str,
        path: String,
        /// What stands in front of the payload.
        prefix: &'static [u8],
    },
    /// Content for GET.
    Content { path: &'static str, bytes: Vec<u8> },
}

async fn fixture(tag: &str) -> Fixture {
    match tag {
        "Echo" => Fixture {
            json: r#"{ "path": "echo", "type": "Echo", "max_len": 1200 }"#.into(),
            service: Service::Tunnel {
                protocol: "echo",
                path: "/echo".into(),
                prefix: b"",
            },
            _target: None,
            _folder: None,
        },
        "UdpEndpoint" => {
            let target = EchoTarget::on_loopback().await.unwrap();
            let path = format!("/udp/127.0.0.1/{}/", target.address().port());
            Fixture {
                json: r#"{ "path": "udp", "type": "UdpEndpoint", "allow": ["127.0.0.1"] }"#.into(),
                service: Service::Tunnel {
                    protocol: "connect-udp",
                    path,
                    prefix: &[0],
                },
                _target: Some(target),
                _folder: None,
            }
        }
        "Files" => {
            let folder = tempfile::tempdir().unwrap();
            let bytes: Vec<u8> = (0..1_000_000_u32)
                .flat_map(u32::to_be_bytes)
                .take(300_000)
                .collect();
            std::fs::write(folder.path().join("file"), &bytes).unwrap();
            Fixture {
                json: json!({ "path": "files", "type": "Files", "root": folder.path() })
                    .to_string(),
                service: Service::Content {
                    path: "/files/file",
                    bytes,
                },
                _target: None,
                _folder: Some(folder),
            }
        }
        other => panic!("{other} is a new type: say here how to ask it for something"),
    }
}

fn types() -> Vec<&'static EndpointType> {
    endpoint_types().expect("no two types have the same tag")
}

#[test]
fn every_example_is_accepted_and_an_unknown_key_is_not() {
    for kind in types() {
        EndpointConfig::parse(kind.example).unwrap_or_else(|error| panic!("{error}"));
        let mut value: Value = serde_json::from_str(kind.example).unwrap();
        value["no_such_key"] = json!(1);
        let error = EndpointConfig::parse(&value.to_string())
            .expect_err(kind.tag)
            .to_string();
        assert!(error.contains("no_such_key"), "{}: {error}", kind.tag);
    }
}

#[test]
fn every_tag_is_that_of_its_example_and_known_to_typetag() {
    let mut seen = HashSet::new();
    for kind in types() {
        assert!(seen.insert(kind.tag), "{} is registered twice", kind.tag);
        let mut value: Value = serde_json::from_str(kind.example).unwrap();
        assert_eq!(value["type"], kind.tag);
        value.as_object_mut().unwrap().remove("path");
        // Straight into the trait object, past everything that might repair it.
        let made: Result<Box<dyn Endpoint>, _> = serde_json::from_value(value);
        made.unwrap_or_else(|error| panic!("{}: {error}", kind.tag));
        assert!(
            !kind.summary.is_empty() && !kind.summary.contains('\n'),
            "{}",
            kind.tag
        );
    }
}

#[test]
fn the_program_has_the_types_that_are_linked_here() {
    let output = std::process::Command::new(program("psq-server"))
        .arg("endpoints")
        .output()
        .unwrap();
    assert!(output.status.success());
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<_> = listed
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_once(": "))
        .map(|(tag, _)| tag)
        .collect();
    let linked = types()
        .into_iter()
        .map(|kind| kind.tag)
        .filter(|tag| !EXAMPLES.contains(tag));
    assert_eq!(listed, linked.collect::<Vec<_>>());
}

#[tokio::test]
async fn another_protocol_or_method_is_refused_as_http_wants_it() {
    for kind in types() {
        let fixture = fixture(kind.tag).await;
        let server = TestServer::from_json(&fixture.json).await;
        let (path, allowed, other) = match &fixture.service {
            Service::Tunnel { path, .. } => (path.as_str(), "CONNECT", Method::GET),
            Service::Content { path, .. } => (*path, "GET, HEAD", Method::DELETE),
        };
        let refused = server.request(Request::new(other, path)).await;
        assert_eq!(
            refused.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{}",
            kind.tag
        );
        assert_eq!(refused.headers["allow"], allowed, "{}", kind.tag);

        let unknown = Method::from_bytes(b"BREW").unwrap();
        let refused = server.request(Request::new(unknown, path)).await;
        assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED, "{}", kind.tag);

        // A tunnel that speaks something else is not implemented; where no tunnel is, CONNECT is
        // only one more method.
        let expected = match fixture.service {
            Service::Tunnel { .. } => StatusCode::NOT_IMPLEMENTED,
            Service::Content { .. } => StatusCode::METHOD_NOT_ALLOWED,
        };
        match server.connect("connect-nothing", path).await {
            Err(ClientError::Refused { status, .. }) => {
                assert_eq!(status, expected, "{}", kind.tag)
            }
            opened => panic!("{}: {opened:?}", kind.tag),
        }
    }
}

#[tokio::test]
async fn a_tunnel_ends_with_its_stream_and_with_its_connection() {
    for kind in types() {
        let fixture = fixture(kind.tag).await;
        let Service::Tunnel {
            protocol,
            path,
            prefix,
        } = &fixture.service
        else {
            continue;
        };
        let server = pasque_h3::testing::TestServer::from_json(&fixture.json).await;
        for by_connection in [false, true] {
            let mut client = server.connect(protocol, path).await.unwrap();
            let sent = [prefix, b"hello".as_slice()].concat();
            client.send(sent.clone());
            assert_eq!(client.recv().await[..], sent, "{}", kind.tag);
            assert_eq!(server.tunnels(), 1, "{}", kind.tag);
            let pasque_h3::testing::Client { tunnel, connection } = client;
            if by_connection {
                connection.close();
            } else {
                drop(tunnel);
            }
            let ended = async {
                while server.tunnels() > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, ended)
                .await
                .unwrap_or_else(|_| panic!("{} goes on", kind.tag));
        }
    }
}

#[tokio::test]
async fn loss_and_reordering_harm_no_tunnel() {
    // A different one each time; whoever sees this fail finds it in the output.
    let seed = std::process::id().into();
    println!("seed {seed}");
    let faults = Faults {
        loss: 0.1,
        reorder: 0.1,
        seed,
    };
    for kind in types() {
        let fixture = fixture(kind.tag).await;
        let Service::Tunnel {
            protocol,
            path,
            prefix,
        } = &fixture.service
        else {
            continue;
        };
        let server = TestServer::from_json(&fixture.json)
            .await
            .with_faults(faults);
        let mut tunnel = server.connect(protocol, path).await.unwrap();
        let mut sent = HashSet::new();
        let mut back = 0;
        for burst in 0..25_u8 {
            for n in 0..20_u8 {
                // Of different lengths, so that no two of them can be taken for one another.
                let len = 3 + usize::from(burst) * 40 + usize::from(n);
                let packet = [prefix, vec![n; len].as_slice()].concat();
                tunnel.send(packet.clone());
                sent.insert(packet);
            }
            back += take_all(&mut tunnel, &mut sent).await;
        }
        // Nine in ten, twice, is 405; this is more than ten standard deviations below.
        assert!(back >= 300, "{}: {back} of 500 came back", kind.tag);
    }
}

/// Receives until nothing comes; each datagram must be one of `sent`, and comes only once.
async fn take_all(tunnel: &mut TestTunnel, sent: &mut HashSet<Vec<u8>>) -> usize {
    let mut count = 0;
    while let Ok(packet) = timeout(Duration::from_millis(30), tunnel.0.recv()).await {
        let packet = packet.expect("the tunnel stays open");
        assert!(
            sent.remove(&packet[..]),
            "{} bytes were not sent, or twice",
            packet.len()
        );
        count += 1;
    }
    count
}

#[tokio::test]
async fn loss_harms_no_content() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let conditions = Conditions {
        latency: Duration::from_millis(2),
        loss: 0.1,
        seed,
        ..Conditions::default()
    };
    for kind in types() {
        let fixture = fixture(kind.tag).await;
        let Service::Content { path, bytes } = &fixture.service else {
            continue;
        };
        let limits = Limits::default();
        let server =
            pasque_h3::testing::TestServer::start(&[&fixture.json], conditions, limits).await;
        let fetch = async {
            let response = server.request(Request::get(*path)).await.unwrap();
            assert_eq!(response.status, StatusCode::OK);
            response.body.collect(bytes.len()).await.unwrap()
        };
        let fetched = timeout(PATIENCE, fetch).await.expect("the content in time");
        assert!(fetched[..] == bytes[..], "{}: other bytes came", kind.tag);
    }
}
