//! Servers that change their mind: a proxy that sends what the test tells it to.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex};
use std::task::Poll;

use http::StatusCode;
use pasque::prelude::*;
use pasque_tests::netns::Network;
use pasque_tests::{Process, program};
use serde_json::json;
use tokio::sync::{SemaphorePermit, mpsc};

use crate::lab::{Client, Mode, Setup, addresses, routes, wait};
use crate::local::LocalServer;
use crate::tunnel::{ADDRESS_ASSIGN, ROUTE_ADVERTISEMENT};

/// How the client says that the server does not let it in.
const DENIED: i32 = 7;

/// A proxy that accepts every tunnel and sends capsules when it is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedProxy {
    /// Whose capsules: see [`Script`].
    script: String,
    /// What the request has to have in the field of this name.
    authorization: Option<String>,
}

pasque::register!(ScriptedProxy, "sends the capsules that a test tells it to",
    example: r#"{ "path": "ip", "type": "ScriptedProxy", "script": "none" }"#,
    variables: &["target", "ipproto"],
    well_known: Some("/.well-known/masque/ip/{target}/{ipproto}/"));

/// The capsules of each script, until its tunnel is opened.
static SCRIPTS: LazyLock<Mutex<HashMap<String, Capsules>>> = LazyLock::new(Mutex::default);

type Capsules = mpsc::UnboundedReceiver<(u64, Vec<u8>)>;

#[async_trait]
#[typetag::deserialize]
impl Endpoint for ScriptedProxy {
    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_protocol("connect-ip")?;
        let found = request.headers.get("authorization");
        let found = found.and_then(|value| value.to_str().ok());
        if self.authorization.is_some() && self.authorization.as_deref() != found {
            return Err(Error::new(StatusCode::FORBIDDEN, "for somebody else"));
        }
        let capsules = SCRIPTS.lock().unwrap().remove(&self.script);
        Ok(Response::flow(ScriptedFlow(
            capsules.expect("one tunnel for one script"),
        )))
    }
}

struct ScriptedFlow(Capsules);

impl Flow for ScriptedFlow {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        while let Poll::Ready(capsule) = self.0.poll_recv(&mut cx.task()) {
            match capsule {
                Some((kind, value)) => cx.send_capsule(kind, &value),
                None => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }
}

/// A network with a scripted proxy in it.
struct Script {
    capsules: mpsc::UnboundedSender<(u64, Vec<u8>)>,
    _server: LocalServer,
    network: Network,
    _place: SemaphorePermit<'static>,
}

impl Script {
    async fn start() -> Self {
        Self::start_for(None).await
    }

    /// One for those only who come with this field.
    async fn start_for(authorization: Option<&str>) -> Self {
        let (network, place) = Setup::new(Mode::AUTO_CLIENT).clients(1).network().await;
        let (capsules, receiver) = mpsc::unbounded_channel();
        let script = network.server.name().to_owned();
        SCRIPTS.lock().unwrap().insert(script.clone(), receiver);
        let mut endpoint =
            json!({ "path": "ip", "type": "ScriptedProxy", "script": script, "anonymous": true });
        if let Some(authorization) = authorization {
            endpoint["authorization"] = json!(authorization);
        }
        let server = LocalServer::start(&network.server, json!({ "endpoints": [endpoint] }));
        Self {
            capsules,
            _server: server,
            network,
            _place: place,
        }
    }

    fn launch(&self, arguments: &[&str]) -> Process {
        let url = format!("https://{}", Network::SERVER);
        let mut all = vec!["-d", &url, "--ignore-cert", "-i"];
        all.extend(arguments);
        self.network.clients[0]
            .start(&program("psq-client"), all)
            .unwrap()
    }

    /// Sends `ADDRESS_ASSIGN` with these IDs, addresses and prefix lengths.
    fn assign(&self, entries: &[(u8, &str, u8)]) {
        let mut value = Vec::new();
        for (id, address, prefix_len) in entries {
            value.push(*id);
            push_address(address, &mut value);
            value.push(*prefix_len);
        }
        self.capsules.send((ADDRESS_ASSIGN, value)).unwrap();
    }

    /// Sends `ROUTE_ADVERTISEMENT` with these ranges, for every protocol.
    fn advertise(&self, ranges: &[(&str, &str)]) {
        let mut value = Vec::new();
        for (start, end) in ranges {
            push_address(start, &mut value);
            let version_at = value.len();
            push_address(end, &mut value);
            value.remove(version_at);
            value.push(0);
        }
        self.capsules.send((ROUTE_ADVERTISEMENT, value)).unwrap();
    }

    async fn wait_for_addresses(&self, client: &Client, expected: &[&str]) {
        let mut expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        expected.sort();
        wait("the addresses", || {
            let mut found = addresses(&self.network.clients[0], &client.interface);
            found.sort();
            found == expected
        })
        .await;
    }

    async fn wait_for_routes(&self, client: &Client, expected: &[&str]) {
        let place = &self.network.clients[0];
        let mut last = Vec::new();
        let mut is_there = || {
            last = routes(place, &client.interface);
            last.len() == expected.len()
                && expected.iter().all(|route| last.iter().any(|r| r == route))
        };
        wait(&format!("the routes {expected:?}"), &mut is_there).await;
    }
}

/// Version and bytes.
fn push_address(address: &str, value: &mut Vec<u8>) {
    match address.parse().unwrap() {
        IpAddr::V4(address) => {
            value.push(4);
            value.extend(address.octets());
        }
        IpAddr::V6(address) => {
            value.push(6);
            value.extend(address.octets());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_19_29_the_interface_has_the_addresses_of_the_last_list_and_no_others() {
    let script = Script::start().await;
    script.assign(&[(1, "192.0.2.11", 32), (2, "2001:db8:7::a", 128)]);
    let client = Client::new(script.launch(&[])).await;
    script
        .wait_for_addresses(&client, &["192.0.2.11", "2001:db8:7::a"])
        .await;
    // A list is the whole list.
    script.assign(&[(2, "2001:db8:7::a", 128)]);
    script.wait_for_addresses(&client, &["2001:db8:7::a"]).await;
    script.assign(&[
        (0, "192.0.2.12", 32),
        (0, "192.0.2.13", 32),
        (2, "2001:db8:7::a", 128),
    ]);
    script
        .wait_for_addresses(&client, &["192.0.2.12", "192.0.2.13", "2001:db8:7::a"])
        .await;
    // A refusal is no address.
    script.assign(&[(1, "0.0.0.0", 32), (0, "192.0.2.12", 32)]);
    script.wait_for_addresses(&client, &["192.0.2.12"]).await;
    script.assign(&[]);
    script.wait_for_addresses(&client, &[]).await;
    script.assign(&[(1, "192.0.2.14", 32)]);
    script.wait_for_addresses(&client, &["192.0.2.14"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_34_the_interface_has_the_routes_of_the_last_list_and_no_others() {
    let script = Script::start().await;
    script.assign(&[(1, "192.0.2.11", 32), (2, "2001:db8:7::a", 128)]);
    script.advertise(&[("0.0.0.0", "223.255.255.255")]);
    let client = Client::new(script.launch(&["--default-route"])).await;
    script
        .wait_for_routes(&client, &["0.0.0.0/1", "128.0.0.0/1"])
        .await;
    script.advertise(&[("192.0.2.0", "192.0.2.255")]);
    script.wait_for_routes(&client, &["192.0.2.0/24"]).await;
    script.advertise(&[
        ("198.51.100.0", "198.51.100.2"),
        ("2001:db8:8::", "2001:db8:8::ffff"),
    ]);
    let ranges = ["198.51.100.0/31", "198.51.100.2", "2001:db8:8::/112"];
    script.wait_for_routes(&client, &ranges).await;
    script.advertise(&[]);
    script.wait_for_routes(&client, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_36_routes_outside_what_the_user_accepts_are_not_installed() {
    let script = Script::start().await;
    script.assign(&[(1, "192.0.2.11", 32), (2, "2001:db8:7::a", 128)]);
    script.advertise(&[
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("2001:db8:8::", "2001:db8:8::ffff"),
    ]);
    let accept = [
        "--accept-routes",
        "198.51.100.128/25",
        "--accept-routes",
        "2001:db8::/32",
    ];
    let client = Client::new(script.launch(&accept)).await;
    script
        .wait_for_routes(&client, &["198.51.100.128/25", "2001:db8:8::/112"])
        .await;
    drop(client);
    // A default route is taken by those only who ask for it.
    let script = Script::start().await;
    script.assign(&[(1, "192.0.2.11", 32)]);
    script.advertise(&[("0.0.0.0", "223.255.255.255")]);
    let client = Client::new(script.launch(&[])).await;
    script.wait_for_addresses(&client, &["192.0.2.11"]).await;
    script.wait_for_routes(&client, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_user_shows_is_in_the_request_for_a_tunnel() {
    let script = Script::start_for(Some("Bearer right")).await;
    for (token, is_admitted) in [("wrong", false), ("right", true)] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(token.as_bytes()).unwrap();
        let mut process = script.launch(&["--token-file", file.path().to_str().unwrap()]);
        if is_admitted {
            script.assign(&[(0, "10.76.0.2", 32)]);
            Client::new(process).await.leave().await;
        } else {
            let status = process.exit().await.unwrap();
            assert_eq!(status.code(), Some(DENIED), "{}", process.output());
        }
    }
}
