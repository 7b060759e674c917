//! Nobody is served who was not let in, and nothing is opened for whoever asks.

use std::os::unix::fs::PermissionsExt;

use pasque::Request;
use pasque::testing::TestTunnel;
use pasque::testing::dns::{Answer, DnsServer};
use pasque_h3::{ClientConfig, Trust};
use pasque_tests::netns::Namespace;
use pasque_tests::{Figures, Server, program};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::common::{files, refusal, udp};
use crate::start::{complaint, run, write_config};

/// Addresses that others may reach, in every form.
const REACHABLE: [&str; 8] = [
    "0.0.0.0:0",
    "[::]:0",
    "[::ffff:0.0.0.0]:0",
    "192.0.2.1:443",
    "10.0.0.1:443",
    "[2001:db8::1]:443",
    "[fe80::1]:443",
    "[::ffff:192.0.2.1]:443",
];

/// Endpoints that open tunnels, each with some of its keys.
fn tunnel_endpoints() -> [Value; 4] {
    [
        udp(&[]),
        udp(&["10.0.0.0/8:53"]),
        json!({ "path": "ip", "type": "IpEndpoint", "ifprefix": "relay",
            "addresspools": ["10.79.0.1/24"], "routes": ["0.0.0.0/0"] }),
        json!({ "path": "ip", "type": "IpEndpoint", "ifprefix": "relay", "interface": "shared",
            "addresspools": ["fd79::1/64"], "deny": ["*:25"] }),
    ]
}

#[test]
fn relay_udp_32_no_configuration_without_authentication_serves_others() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cases, mut refused) = (0, 0);
    for endpoint in tunnel_endpoints() {
        for anonymous in [None, Some(false)] {
            let mut endpoint = endpoint.clone();
            if let Some(anonymous) = anonymous {
                endpoint["anonymous"] = json!(anonymous);
            }
            // What needs no authentication opens nothing to what does.
            let config = write_config(folder.path(), &json!([files(folder.path()), endpoint]));
            for address in REACHABLE {
                cases += 1;
                let output = run(["-c", &config, "-a", address]);
                let is_refused = output.status.code() == Some(2)
                    && complaint(&output).contains("would be an open relay");
                refused += usize::from(is_refused);
                if !is_refused {
                    println!("{address}, {endpoint}: {output:?}");
                }
            }
        }
    }
    // Nothing was made by a start that was refused.
    assert!(!folder.path().join("key.pem").exists());
    let mut figures = Figures::default();
    figures.exactly("configurations that are refused", refused, cases);
    figures.check();
}

/// What a stranger sends along: nothing, or what is nobody's.
const STRANGERS: [Option<&str>; 4] = [
    None,
    Some("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0."),
    Some("Basic YWxpY2U6Z3Vlc3M="),
    Some("Negotiate YQ=="),
];

/// Interfaces in `place`, and the descriptors of `server` that are sockets.
fn opened(place: &Namespace, server: &mut Server) -> (usize, usize) {
    let id = server.process().id().unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets = targets.filter(|target| target.to_string_lossy().starts_with("socket:"));
    (place.show("link show").unwrap().len(), sockets.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_udp_32_a_thousand_requests_of_strangers_open_nothing() {
    const REQUESTS: usize = 1000;
    let place = Namespace::new("relay").expect("a namespace: this test needs root");
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt.key");
    std::fs::write(&secret, "5e".repeat(32)).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let runtime = Handle::current();
    let start = || runtime.block_on(DnsServer::start(|_| Answer::addresses(["127.0.0.1"])));
    let names = place.enter(start).unwrap();
    let config = json!({
        "resolver": names.address(),
        "auth": { "jwt_secret_file": secret },
        "endpoints": [
            { "path": "udp", "type": "UdpEndpoint", "allow": ["127.0.0.1"] },
            { "path": "ip", "type": "IpEndpoint", "ifprefix": "relay", "permission": "vpn",
              "addresspools": ["10.79.0.1/24"] },
        ],
    });
    // With a way to authenticate it starts on every address.
    let everywhere = ["-a", "0.0.0.0:443"];
    let mut server = Server::start_in(&place, &program("psq-server"), config, everywhere)
        .await
        .unwrap();
    let mut client = ClientConfig::default();
    client.trust = Trust::AcceptAny;
    let connection = place
        .connect(([127, 0, 0, 1], 443).into(), &client)
        .unwrap();
    let before = opened(&place, &mut server);
    let mut refused = 0;
    let mut most = before;
    for n in 0..REQUESTS {
        let (protocol, path) = match n % 3 {
            0 => ("connect-udp", "/udp/target.example/53/"),
            1 => ("connect-udp", "/udp/127.0.0.1/53/"),
            _ => ("connect-ip", "/ip/target.example/17/"),
        };
        let mut request = Request::tunnel(protocol, path);
        if let Some(credentials) = STRANGERS[n % STRANGERS.len()] {
            let value = credentials.parse().unwrap();
            request.headers.insert("authorization", value);
        }
        let error = TestTunnel::open(&connection, request).await.map(drop);
        refused += usize::from(error.is_err_and(|error| refusal(&error).0.as_u16() == 401));
        if n % 50 == 0 {
            let now = opened(&place, &mut server);
            most = (most.0.max(now.0), most.1.max(now.1));
        }
    }
    let mut figures = Figures::default();
    figures.exactly(
        "requests without credentials that get 401",
        refused,
        REQUESTS,
    );
    figures.exactly("DNS look-ups", names.queries() as usize, 0);
    figures.exactly("interfaces", most.0 - before.0, 0);
    figures.exactly("sockets", most.1 - before.1, 0);
    figures.check();
}
