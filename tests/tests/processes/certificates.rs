//! `psq-client --cert --key` against servers that know certificates by their key or by who signed them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use pasque_h3::testing::Pair;
use pasque_tests::{EchoTarget, Process, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::common::{ask, client, files, server, udp, user};

/// How the client says that the server does not let it in.
const DENIED: i32 = 7;

/// How long a tunnel may outlive the certificate that opened it.
const GRACE: Duration = Duration::from_secs(10);

/// Puts both of a pair into files, whose names it returns.
fn write(pair: &Pair, folder: &Path, name: &str) -> [String; 2] {
    let (cert, key) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}.key")),
    );
    fs::write(&cert, pair.pem()).unwrap();
    fs::write(&key, pair.key_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    [cert, key].map(|path| path.to_str().unwrap().to_owned())
}

/// A server that knows the key of `laptop`, and whom `authority` has signed.
struct Site {
    folder: TempDir,
    laptop: Pair,
    authority: Pair,
    server: Server,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let (laptop, authority) = (Pair::new("any", None), Pair::new("authority", None));
        let entry = json!({ "name": "laptop", "permissions": ["udp", "files"] });
        fs::write(
            at.join("keys.json"),
            json!({ laptop.digest(): entry }).to_string(),
        )
        .unwrap();
        fs::write(at.join("clients.pem"), authority.pem()).unwrap();
        fs::write(at.join("page"), "a page").unwrap();
        let with_permission = |mut endpoint: Value, permission: &str| {
            endpoint["permission"] = json!(permission);
            endpoint
        };
        let server = server(json!({
            "auth": {
                "client_keys_file": at.join("keys.json"),
                "client_ca_file": at.join("clients.pem"),
                "client_ca_permissions": ["udp"],
            },
            "endpoints": [
                with_permission(udp(&["127.0.0.1"]), "udp"), with_permission(files(at), "files"),
            ],
        }));
        Self {
            server: server.await,
            folder,
            laptop,
            authority,
        }
    }

    /// A client with a forward to `target`, whose user has had an answer.
    async fn forward(&self, name: &str, pair: &Pair, target: &str) -> (Process, UdpSocket) {
        let [cert, key] = write(pair, self.folder.path(), name);
        let arguments = ["--cert", &cert, "--key", &key, "-u", target];
        let mut client = client(&self.server, arguments);
        let user = user(&mut client, target).await;
        assert_eq!(ask(&user, b"hello").await, b"hello");
        (client, user)
    }

    /// Waits until a client is no longer let in.
    async fn is_put_out(&self, (client, user): &mut (Process, UdpSocket)) {
        let ended = async {
            loop {
                // Without somebody who sends, it has nothing to open a tunnel for.
                let _ = user.send(b"still there?").await;
                if let Ok(status) = timeout(Duration::from_millis(100), client.exit()).await {
                    return status.unwrap().code();
                }
            }
        };
        let code = timeout(GRACE, ended).await;
        let code = code.unwrap_or_else(|_| panic!("it goes on: {}", client.output()));
        assert_eq!(code, Some(DENIED), "{}", client.output());
    }
}

#[tokio::test]
async fn a_certificate_lets_in_by_its_key_or_its_authority_and_no_other_does() {
    let site = Site::new().await;
    let alice = Pair::new("alice", Some(&site.authority));
    let impostor = Pair::new("authority", None);
    let mallory = Pair::new("alice", Some(&impostor));
    let target = EchoTarget::on_loopback().await.unwrap();
    let target = target.address().to_string();
    for (name, pair) in [("laptop", &site.laptop), ("alice", &alice)] {
        site.forward(name, pair, &target).await;
    }
    // What an authority vouches for is not all that a key may be permitted.
    for (name, pair, code) in [
        ("laptop", &site.laptop, 0),
        ("alice", &alice, DENIED),
        ("mallory", &mallory, DENIED),
        ("impostor", &impostor, DENIED),
    ] {
        let [cert, key] = write(pair, site.folder.path(), name);
        let arguments = [
            "--cert",
            &cert,
            "--key",
            &key,
            "get",
            "/files/page",
            "-o",
            "-",
        ];
        let mut client = client(&site.server, arguments);
        let status = client.exit().await.unwrap();
        assert_eq!(status.code(), Some(code), "{name}: {}", client.output());
    }
    for (name, pair) in [("mallory", Some(&mallory)), ("nobody", None)] {
        let shown = pair.map(|pair| write(pair, site.folder.path(), name));
        let mut client = match &shown {
            Some([cert, key]) => {
                client(&site.server, ["--cert", cert, "--key", key, "-u", &target])
            }
            None => client(&site.server, ["-u", &target]),
        };
        let user = user(&mut client, &target).await;
        site.is_put_out(&mut (client, user)).await;
    }
}

#[tokio::test]
async fn who_leaves_the_roster_or_loses_its_authority_is_put_out_without_a_reload() {
    let site = Site::new().await;
    let target = EchoTarget::on_loopback().await.unwrap();
    let target = target.address().to_string();
    let alice = Pair::new("alice", Some(&site.authority));
    let mut laptop = site.forward("laptop", &site.laptop, &target).await;
    let mut alice = site.forward("alice", &alice, &target).await;
    let at = site.folder.path();
    fs::write(at.join("keys.json"), "{}").unwrap();
    site.is_put_out(&mut laptop).await;
    assert_eq!(ask(&alice.1, b"not concerned").await, b"not concerned");

    let another = Pair::new("another", None);
    let bob = Pair::new("bob", Some(&another));
    fs::write(
        at.join("clients.pem"),
        [site.authority.pem(), another.pem()].concat(),
    )
    .unwrap();
    // A handshake looks at the file, which the running tunnels have had looked at before, maybe.
    sleep(Duration::from_secs(3)).await;
    let bob = site.forward("bob", &bob, &target).await;
    assert_eq!(
        ask(&alice.1, b"an authority still").await,
        b"an authority still"
    );
    fs::write(at.join("clients.pem"), another.pem()).unwrap();
    site.is_put_out(&mut alice).await;
    assert_eq!(ask(&bob.1, b"not concerned").await, b"not concerned");
}
