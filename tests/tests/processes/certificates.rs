//! `psq-client --cert --key` against servers that know certificates by their key or by who signed them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boring::asn1::Asn1Time;
use boring::bn::{BigNum, MsbOption};
use boring::ec::{EcGroup, EcKey};
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::x509::extension::BasicConstraints;
use boring::x509::{X509, X509NameBuilder};
use pasque_tests::{EchoTarget, Process, Server};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::common::{ask, client, files, server, udp, user};

/// How the client says that the server does not let it in.
const DENIED: i32 = 7;

/// How long a tunnel may outlive the certificate that opened it.
const GRACE: Duration = Duration::from_secs(10);

/// A certificate and its key.
struct Pair {
    certificate: X509,
    key: PKey<Private>,
}

impl Pair {
    /// A certificate for `name`, signed by `issuer` or by its own key, which makes it an authority.
    fn new(name: &str, issuer: Option<&Self>) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        let subject = subject.build();
        let mut serial = BigNum::new().unwrap();
        serial.rand(127, MsbOption::MAYBE_ZERO, false).unwrap();
        let serial = serial.to_asn1_integer().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = |seconds: i64| Asn1Time::from_unix(now.as_secs() as i64 + seconds).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial).unwrap();
        builder.set_subject_name(&subject).unwrap();
        let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&at(-3600)).unwrap();
        builder.set_not_after(&at(3600)).unwrap();
        if issuer.is_none() {
            let is_authority = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(&is_authority).unwrap();
        }
        let signer = issuer.map_or(&key, |issuer| &issuer.key);
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        Self {
            certificate: builder.build(),
            key,
        }
    }

    fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// The name of its key in a roster.
    fn digest(&self) -> String {
        let digest = Sha256::digest(self.key.public_key_to_der().unwrap());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Puts both into files, whose names it returns.
    fn write(&self, folder: &Path, name: &str) -> [String; 2] {
        let (cert, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        fs::write(&cert, self.pem()).unwrap();
        fs::write(&key, self.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        [cert, key].map(|path| path.to_str().unwrap().to_owned())
    }
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
        let [cert, key] = pair.write(self.folder.path(), name);
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
        let [cert, key] = pair.write(site.folder.path(), name);
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
        let shown = pair.map(|pair| pair.write(site.folder.path(), name));
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
