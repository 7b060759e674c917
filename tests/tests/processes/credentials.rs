//! What `psq-client` shows a server, and that nobody else sees it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use pasque::config::ServerConfig;
use pasque::prelude::*;
use pasque_h3::Server;
use pasque_tests::{Process, program};
use rustix::process::Signal;
use serde_json::json;
use tempfile::{NamedTempFile, TempDir};
use tokio::sync::oneshot;

use crate::common::{ask, user};

/// How the client says that the server does not let it in.
const DENIED: i32 = 7;

const SECRET: &str = "hunter2.hunter2";

/// A page and tunnels that return datagrams, for whoever shows one of these values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gate {
    /// The file with the values of `authorization`, one a line.
    guests: std::path::PathBuf,
}

pasque::register!(Gate, "lets in whom a file names",
    example: r#"{ "path": "gate", "type": "Gate", "guests": "guests" }"#,
    variables: &["target_host", "target_port"]);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Gate {
    async fn handle(&self, request: Request) -> Result<Response> {
        let shown = request.headers.get_all("authorization").iter();
        let shown: Vec<_> = shown.map(|value| value.to_str().unwrap()).collect();
        let guests = fs::read_to_string(&self.guests).unwrap();
        let is_guest = matches!(shown[..], [one] if guests.lines().any(|guest| guest == one));
        match (is_guest, request.protocol.is_some()) {
            (false, _) => Ok(Response::new(http::StatusCode::UNAUTHORIZED)),
            (true, true) => Ok(Response::flow(self.clone())),
            (true, false) => Ok(Response::ok("welcome")),
        }
    }
}

impl Flow for Gate {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        for packet in inbound.drain() {
            cx.send(packet);
        }
        Ok(())
    }
}

/// A server with a [`Gate`], for as long as this lives.
struct Guarded {
    url: String,
    folder: TempDir,
    _stop: oneshot::Sender<()>,
}

impl Guarded {
    async fn start(guests: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("guests");
        fs::write(&list, guests).unwrap();
        let config = json!({
            "cert_file": "cert.pem", "key_file": "key.pem", "self_signed": true,
            "endpoints": [{ "path": "gate", "type": "Gate", "guests": list }],
        });
        let file = folder.path().join("server.json");
        let config = ServerConfig::parse(&config.to_string(), Path::new(&file)).unwrap();
        let server = Server::bind(config, Some("127.0.0.1:0".parse().unwrap()));
        let server = server.await.unwrap();
        let url = format!("https://{}", server.local_addr());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(async { drop(stopped.await) }));
        Self {
            url,
            folder,
            _stop: stop,
        }
    }

    /// Lets in whom `guests` names from now on.
    fn admit(&self, guests: &str) {
        fs::write(self.folder.path().join("guests"), guests).unwrap();
    }

    /// `psq-client` with its environment, in the form of `env`.
    fn client(&self, environment: &[&str], arguments: &[&str]) -> Process {
        let client = program("psq-client");
        let mut all = environment.to_vec();
        all.extend([client.to_str().unwrap(), "-d", &self.url, "--ignore-cert"]);
        all.extend(arguments);
        Process::start(Path::new("/usr/bin/env"), all).unwrap()
    }

    /// A client with a forward, whose user has had an answer.
    async fn forward(
        &self,
        environment: &[&str],
        arguments: &[&str],
    ) -> (Process, tokio::net::UdpSocket) {
        let template = format!("{}/gate/{{target_host}}/{{target_port}}/", self.url);
        let mut all = vec!["--template", &template, "-u", "192.0.2.1:53"];
        all.extend(arguments);
        let mut client = self.client(environment, &all);
        let user = user(&mut client, "192.0.2.1:53").await;
        assert_eq!(ask(&user, b"hello").await, b"hello");
        (client, user)
    }
}

fn secret_file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[tokio::test]
async fn each_way_to_give_credentials_opens_the_door() {
    // `me:open sesame` in Base64.
    let server = Guarded::start(&format!("Bearer {SECRET}\nBasic bWU6b3BlbiBzZXNhbWU=")).await;
    let (token, password) = (secret_file(SECRET), secret_file("open sesame\n"));
    let options = secret_file(&format!(
        r#"{{ "header": ["authorization: Bearer {SECRET}"] }}"#
    ));
    let variable = format!("PSQ_TOKEN={SECRET}");
    let other = format!("OTHER={SECRET}");
    for (environment, arguments, code) in [
        (&[][..], &["--token-file", path(&token)][..], 0),
        (
            &[],
            &["--user", "me", "--password-file", path(&password)],
            0,
        ),
        (&[], &["-c", path(&options)], 0),
        (&[&*variable], &[], 0),
        (&[&*other], &["--token", "env:OTHER"], 0),
        (&[], &[], DENIED),
        (&[], &["--token-file", path(&password)], 2),
        (
            &[],
            &["--user", "you", "--password-file", path(&password)],
            DENIED,
        ),
        (&[], &["--token", SECRET], 2),
        (
            &[],
            &["--header", &format!("authorization: Bearer {SECRET}")],
            2,
        ),
    ] {
        let all = [arguments, &["get", "/gate/page/1/", "-o", "-"]].concat();
        let mut client = server.client(environment, &all);
        let status = client.exit().await.unwrap();
        let said = client.output();
        assert_eq!(
            status.code(),
            Some(code),
            "{environment:?} {arguments:?}\n{said}"
        );
        assert!(
            !said.contains("hunter2") && !said.contains("sesame"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_secret_is_in_no_process_list_environment_or_log() {
    let server = Guarded::start(&format!("Bearer {SECRET}\nBasic bWU6aHVudGVyMi5odW50ZXIy")).await;
    let file = secret_file(SECRET);
    let token = format!("PSQ_TOKEN={SECRET}");
    for (environment, arguments) in [
        (&["RUST_LOG=trace", &*token][..], &[][..]),
        (&["RUST_LOG=trace"], &["--token-file", path(&file)]),
        (
            &["RUST_LOG=trace"],
            &["--user", "me", "--password-file", path(&file)],
        ),
    ] {
        let (mut client, _user) = server.forward(environment, arguments).await;
        let process = format!("/proc/{}", client.id().unwrap());
        for file in ["cmdline", "environ"] {
            let content = fs::read(Path::new(&process).join(file)).unwrap();
            let content = String::from_utf8_lossy(&content);
            assert!(
                content.contains("psq-client") || content.contains("RUST_LOG"),
                "{content}"
            );
            assert!(!content.contains("hunter2"), "{file}: {content}");
        }
        let name = fs::read_to_string(Path::new(&process).join("comm")).unwrap();
        assert_eq!(name.trim(), "psq-client");
        client.signal(Signal::TERM).unwrap();
        assert_eq!(
            client.exit().await.unwrap().code(),
            Some(0),
            "{}",
            client.output()
        );
        let said = client.output();
        assert!(
            said.contains("TRACE") || said.contains("DEBUG"),
            "nothing is logged"
        );
        assert!(
            !said.contains("hunter2") && !said.contains("bWU6aHVudGVyMi"),
            "{said}"
        );
    }
}

#[test]
fn a_terminal_shows_what_is_typed_again_when_a_prompt_is_interrupted() {
    let client = program("psq-client");
    // A terminal of its own, whose Ctrl-C ends the client and not the shell.
    let commands = format!(
        "trap : INT; '{}' -d https://127.0.0.1:1 --user me; stty -a",
        client.display()
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &commands, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"Password of me: ") {
        let mut byte = [0];
        screen.read_exact(&mut byte).unwrap();
        shown.extend(byte);
    }
    keyboard.write_all(b"hunter2\x03").unwrap();
    screen.read_to_end(&mut shown).unwrap();
    script.wait().unwrap();
    let shown = String::from_utf8(shown).unwrap();
    let is_on = |mode: &str| shown.split_whitespace().any(|word| word == mode);
    assert!(is_on("echo") && !is_on("-echo"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_file_that_others_can_read_is_not_used() {
    let server = Guarded::start("").await;
    let file = secret_file(SECRET);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let mut client = server.client(&[], &["--token-file", path(&file)]);
    assert_eq!(client.exit().await.unwrap().code(), Some(2));
    assert!(client.output().contains("chmod 600"), "{}", client.output());
}

#[tokio::test]
async fn a_renewed_token_is_used_and_a_revoked_one_is_the_end() {
    let server = Guarded::start("Bearer first").await;
    let file = secret_file("first");
    let (mut client, _first) = server.forward(&[], &["--token-file", path(&file)]).await;
    let line = client.line("forwarding").await.unwrap();
    let local = line.split_whitespace().nth(1).unwrap().to_owned();
    let another = || async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(&local).await.unwrap();
        socket
    };
    // The first token is not good for another tunnel, and the file has the next one.
    server.admit("Bearer second");
    fs::write(file.path(), "second").unwrap();
    assert_eq!(ask(&another().await, b"renewed").await, b"renewed");
    server.admit("");
    another().await.send(b"?").await.unwrap();
    let status = client.exit().await.unwrap();
    assert_eq!(status.code(), Some(DENIED), "{}", client.output());
}
