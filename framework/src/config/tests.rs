mod auth;
mod checks;
mod locate;
mod messages;
mod mistakes;
mod mounts;
mod reference;
mod sandbox;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::*;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result as HandleResult};
use crate::request::Request;
use crate::response::Response;

/// A configuration with every kind of value, one key or item to a line.
const COMPLETE: &str = r#"{
  "listen": "127.0.0.1:4433",
  "cert_file": "cert.pem",
  "key_file": "key.pem",
  "self_signed": true,
  "threads": 2,
  "name": "proxy.example",
  "hosts": [
    "proxy.example",
    "[2001:db8::1]"
  ],
  "resolver": "192.0.2.53:53",
  "congestion_control": "reno",
  "retry": "never",
  "limits": {
    "connections": 10,
    "drain_ms": 250
  },
  "endpoints": [
    {
      "path": "gate",
      "type": "TestGate",
      "anonymous": true,
      "port": 53,
      "mode": "open",
      "routes": [
        "10.0.0.0/8",
        "2001:db8::/32"
      ],
      "peers": {
        "one": "192.0.2.1"
      }
    },
    {
      "path": [
        "proxy",
        "/m{?target_host,target_port}"
      ],
      "type": "TestProxy"
    },
    {
      "path": "files",
      "type": "TestFolder",
      "root": "public"
    }
  ]
}
"#;

/// A tunnel endpoint with a key of every kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only what may stand in a configuration matters")]
struct TestGate {
    port: u16,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    routes: Vec<IpNetwork>,
    #[serde(default)]
    peers: std::collections::BTreeMap<String, IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Mode {
    #[default]
    Open,
    Closed,
    Between {
        #[allow(dead_code)]
        width: u8,
    },
}

/// A tunnel endpoint with variables and no keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestProxy {}

/// Serves everything below its mount, to anyone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFolder {
    root: PathBuf,
}

/// Not a struct with braces.
#[derive(Debug, Deserialize)]
struct TestUnit;

/// Registered under a tag that typetag does not know.
#[derive(Debug, Deserialize)]
struct TestMisnamed {}

crate::register!(TestGate, "opens and closes",
    example: r#"{ "path": "gate", "type": "TestGate", "port": 1 }"#);
crate::register!(TestProxy, "has variables",
    example: r#"{ "path": "proxy", "type": "TestProxy" }"#,
    variables: &["target_host", "target_port"]);
crate::register!(TestFolder, "has everything below",
    example: r#"{ "path": "files", "type": "TestFolder", "root": "public" }"#,
    rest: true, public: true);
crate::register!(TestUnit, "has nothing",
    example: r#"{ "path": "unit", "type": "TestUnit" }"#);
crate::register!(TestMisnamed, "cannot be made", example: "{}");

macro_rules! endpoint {
    ($kind:ident $(, $attribute:tt)*) => {
        #[async_trait::async_trait]
        #[typetag::deserialize $(($attribute = "Other"))*]
        impl Endpoint for $kind {
            async fn handle(&self, _: Request) -> HandleResult<Response> {
                Err(Error::internal("not asked in these tests"))
            }
        }
    };
}
endpoint!(TestGate);
endpoint!(TestProxy);

#[async_trait::async_trait]
#[typetag::deserialize]
impl Endpoint for TestFolder {
    async fn handle(&self, _: Request) -> HandleResult<Response> {
        Err(Error::internal("not asked in these tests"))
    }

    fn files(&self) -> Vec<crate::FileUse> {
        assert_ne!(self.root, Path::new("panic"), "on purpose");
        vec![crate::FileUse::read(&self.root)]
    }
}

endpoint!(TestUnit);
endpoint!(TestMisnamed, name);

fn parse(text: &str) -> Result<ServerConfig, ConfigError> {
    ServerConfig::parse(text, Path::new("conf/server.json"))
}

/// [`COMPLETE`] with one line exchanged.
fn with_line(number: usize, line: &str) -> String {
    let lines = COMPLETE.lines().enumerate();
    lines
        .map(|(index, old)| if index + 1 == number { line } else { old })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The number of the first line that begins with `start`.
fn line_of(start: &str) -> usize {
    let found = COMPLETE
        .lines()
        .position(|line| line.trim_start().starts_with(start));
    found.unwrap_or_else(|| panic!("no line {start}")) + 1
}

#[test]
fn every_key_is_read() {
    let config = parse(COMPLETE).unwrap();
    assert_eq!(config.listen_address().to_string(), "127.0.0.1:4433");
    assert_eq!(config.cert_file, Path::new("conf/cert.pem"));
    assert_eq!(config.key_file, Path::new("conf/key.pem"));
    assert!(config.self_signed);
    assert_eq!(config.threads, NonZeroUsize::new(2));
    assert_eq!(config.proxy_name(), "proxy.example");
    assert_eq!(config.hosts, ["proxy.example", "[2001:db8::1]"]);
    assert_eq!(config.resolver, Some("192.0.2.53:53".parse().unwrap()));
    assert_eq!(config.congestion_control, CongestionControl::Reno);
    assert_eq!(config.retry, Retry::Never);
    assert_eq!(config.limits.connections, 10);
    assert_eq!(config.limits.drain, Duration::from_millis(250));
    assert_eq!(config.base_dir(), Path::new("conf"));

    let cx = config.start_context(vec![config.listen_address()]);
    assert_eq!(
        cx.resolve_path(Path::new("public")),
        Path::new("conf/public")
    );
    assert_eq!(cx.nameserver, config.resolver);

    let kinds: Vec<_> = config
        .endpoints
        .iter()
        .map(|endpoint| endpoint.kind.tag)
        .collect();
    assert_eq!(kinds, ["TestGate", "TestProxy", "TestFolder"]);
    assert!(config.endpoints[0].anonymous);
    assert_eq!(config.into_router().unwrap().mounts().len(), 3);
}

#[test]
fn every_key_but_four_has_a_default() {
    let config = parse(
        r#"{ "cert_file": "/etc/c", "key_file": "k",
             "endpoints": [{ "path": "p", "type": "TestProxy" }] }"#,
    )
    .unwrap();
    assert_eq!(config.listen_address().to_string(), "[::]:443");
    assert_eq!(config.cert_file, Path::new("/etc/c"));
    assert!(!config.self_signed);
    assert_eq!(config.threads, None);
    assert!(!config.proxy_name().is_empty());
    assert!(config.hosts.is_empty());
    assert_eq!(config.resolver, None);
    assert_eq!(config.congestion_control, CongestionControl::Cubic);
    assert_eq!(config.retry, Retry::Always);
    assert_eq!(config.limits, Limits::default());
    assert!(!config.endpoints[0].anonymous);
}

#[test]
fn ip_64_every_congestion_control_is_one() {
    let with = |value: &str| {
        parse(&format!(
            r#"{{ "cert_file": "c", "key_file": "k", "congestion_control": {value},
                 "endpoints": [{{ "path": "p", "type": "TestProxy" }}] }}"#
        ))
    };
    for off in [
        r#""none""#,
        r#""off""#,
        r#""disabled""#,
        r#""""#,
        "false",
        "null",
        "0",
    ] {
        let error = with(off).err().map(|error| error.to_string());
        let error = error.unwrap_or_else(|| panic!("{off} is accepted"));
        assert!(error.contains("congestion_control"), "{error}");
    }
    // A new one has to be judged here: RFC 9484 §10 has more to do where there is none.
    let names = with(r#""none""#).unwrap_err().to_string();
    for (name, control) in [
        ("cubic", CongestionControl::Cubic),
        ("reno", CongestionControl::Reno),
        ("bbr2", CongestionControl::Bbr2),
    ] {
        let config = with(&format!("{name:?}")).unwrap();
        assert_eq!(config.congestion_control, control);
        assert!(names.contains(name), "{names}");
    }
}

#[test]
fn paths_start_in_the_folder_of_the_file() {
    for (file, folder) in [
        ("server.json", "."),
        ("./a/b.json", "./a"),
        ("/b.json", "/"),
    ] {
        let config = ServerConfig::parse(COMPLETE, Path::new(file)).unwrap();
        assert_eq!(config.base_dir(), Path::new(folder));
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.json");
    let error = ServerConfig::load(&file).unwrap_err();
    assert_eq!(error.line(), None);
    let message = error.to_string();
    assert!(message.starts_with(file.to_str().unwrap()), "{message}");
    assert!(
        message.contains("cannot be read: No such file"),
        "{message}"
    );

    std::fs::write(&file, b"{ \"\xff").unwrap();
    let message = ServerConfig::load(&file).unwrap_err().to_string();
    assert!(message.contains("invalid utf-8"), "{message}");

    std::fs::write(&file, COMPLETE).unwrap();
    assert_eq!(ServerConfig::load(&file).unwrap().base_dir(), folder.path());
    assert!(ServerConfig::load(folder.path()).is_err());
}

#[test]
fn types_are_described_with_summary_and_example() {
    let text = describe_types().unwrap();
    let gate = "TestGate: opens and closes\n\n    { \"path\": \"gate\", \"type\": \"TestGate\"";
    assert!(text.contains(gate), "{text}");
}
