//! What every type of endpoint has to do, whoever wrote it.
//!
//! A new type needs one arm in [`fixture`], which says how to ask it for something.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[path = "every_plugin/permissions.rs"]
mod permissions;

use std::collections::HashSet;
use std::fs;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use pasque::config::{EndpointConfig, Limits};
use pasque::connection::ClientError;
use pasque::testing::{Faults, TestServer, TestTunnel};
use pasque::{Endpoint, EndpointType, Request, endpoint_types};
use pasque_echo as _;
use pasque_files as _;
use pasque_h3::testing::Conditions;
use pasque_ip as _;
use pasque_tests::netns::Namespace;
use pasque_tests::{EchoTarget, PATIENCE, program, repository};
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
    /// A tunnel that returns every payload.
    Tunnel {
        protocol: &'static str,
        path: String,
        /// Makes a datagram of a payload.
        wrap: fn(&[u8]) -> Vec<u8>,
        /// Finds the payload in what comes back; nothing in what came for another reason.
        unwrap: fn(&[u8]) -> Option<Vec<u8>>,
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
                wrap: <[u8]>::to_vec,
                unwrap: |datagram| Some(datagram.to_vec()),
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
                    wrap: |payload| [&[0], payload].concat(),
                    unwrap: |datagram| Some(datagram.strip_prefix(&[0])?.to_vec()),
                },
                _target: Some(target),
                _folder: None,
            }
        }
        "IpEndpoint" => Fixture {
            // A pool with one address to give.
            json: r#"{ "path": "ip", "type": "IpEndpoint", "ifprefix": "every",
                       "addresspools": ["10.76.0.1/30"] }"#
                .into(),
            service: Service::Tunnel {
                protocol: "connect-ip",
                path: "/ip/*/*/".into(),
                wrap: ping,
                unwrap: pong,
            },
            _target: None,
            _folder: None,
        },
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

/// An echo request from the client to the server, the only two hosts of the pool.
fn ping(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 1, 0, 0];
    packet.extend([10, 76, 0, 2, 10, 76, 0, 1]);
    packet[2..4].copy_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    let header = checksum(&packet);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    packet.extend([8, 0, 0, 0, 0x50, 0x51, 0, 1]);
    packet.extend(payload);
    let message = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&message.to_be_bytes());
    [&[0], &packet[..]].concat()
}

fn pong(datagram: &[u8]) -> Option<Vec<u8>> {
    let is_reply = datagram.get(10) == Some(&1) && datagram.get(21) == Some(&0);
    is_reply.then(|| datagram[29..].to_vec())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Runs a check in a network of its own, in which every type may make what it needs.
///
/// One check at a time: a pool of addresses belongs to one endpoint of a process.
fn in_a_namespace<F: Future<Output = ()>>(check: fn() -> F) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let namespace = Namespace::new("every").expect("a namespace: this test needs root");
    namespace.block_on(check).unwrap();
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

#[test]
fn another_protocol_or_method_is_refused_as_http_wants_it() {
    in_a_namespace(check_refusals);
}

async fn check_refusals() {
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

#[test]
fn a_tunnel_ends_with_its_stream_and_with_its_connection() {
    in_a_namespace(check_ends);
}

async fn check_ends() {
    for kind in types() {
        let fixture = fixture(kind.tag).await;
        let Service::Tunnel {
            protocol,
            path,
            wrap,
            unwrap,
        } = &fixture.service
        else {
            continue;
        };
        let server = pasque_h3::testing::TestServer::from_json(&fixture.json).await;
        for by_connection in [false, true] {
            let mut client = connect(&server, protocol, path).await;
            client.send(wrap(b"hello"));
            let back = client.recv().await;
            assert_eq!(
                unwrap(&back).as_deref(),
                Some(&b"hello"[..]),
                "{}",
                kind.tag
            );
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

/// Opens a tunnel, as soon as what an earlier one held is free again.
async fn connect(
    server: &pasque_h3::testing::TestServer,
    protocol: &str,
    path: &str,
) -> pasque_h3::testing::Client {
    let open = async {
        loop {
            match server.connect(protocol, path).await {
                Err(ClientError::Refused { status, .. }) if status == 503 => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                result => return result.unwrap(),
            }
        }
    };
    timeout(PATIENCE, open).await.expect("a tunnel in time")
}

#[test]
fn loss_and_reordering_harm_no_tunnel() {
    in_a_namespace(check_tunnels_with_loss);
}

async fn check_tunnels_with_loss() {
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
            wrap,
            unwrap,
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
                let payload = vec![n; len];
                tunnel.send(wrap(&payload));
                sent.insert(payload);
            }
            back += take_all(&mut tunnel, &mut sent, *unwrap).await;
        }
        // Nine in ten, twice, is 405; this is more than ten standard deviations below.
        assert!(back >= 300, "{}: {back} of 500 came back", kind.tag);
    }
}

/// Receives until nothing comes; each payload must be one of `sent`, and comes only once.
async fn take_all(
    tunnel: &mut TestTunnel,
    sent: &mut HashSet<Vec<u8>>,
    unwrap: fn(&[u8]) -> Option<Vec<u8>>,
) -> usize {
    let mut count = 0;
    while let Ok(packet) = timeout(Duration::from_millis(30), tunnel.0.recv()).await {
        let packet = packet.expect("the tunnel stays open");
        let Some(payload) = unwrap(&packet) else {
            continue;
        };
        assert!(
            sent.remove(&payload),
            "{} bytes were not sent, or twice",
            payload.len()
        );
        count += 1;
    }
    count
}

#[test]
fn loss_harms_no_content() {
    in_a_namespace(check_content_with_loss);
}

async fn check_content_with_loss() {
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

/// The lint names every way to a socket but these; the lint itself is part of `make check`.
#[test]
fn the_built_in_endpoints_open_sockets_in_one_place_each() {
    let folder = repository().join("endpoints");
    let (mut pending, mut places) = (vec![folder.clone()], Vec::new());
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()) {
                // Tests open the targets.
                Some("tests" | "tests.rs" | "target") => {}
                _ if path.is_dir() => pending.push(path),
                Some(name) if name.ends_with(".rs") => {
                    let text = fs::read_to_string(&path).unwrap();
                    let exceptions = text.matches("clippy::disallowed_methods").count();
                    places.extend(vec![path; exceptions]);
                }
                _ => {}
            }
        }
    }
    places.sort();
    let expected = [
        "ip/src/device/name.rs",
        "udp/src/raw.rs",
        "udp/src/socket.rs",
    ];
    assert_eq!(places, expected.map(|path| folder.join(path)));
}
