use std::io::Write;

use clap::CommandFactory;

use super::*;

fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from([&["psq-client"], words].concat())
}

fn options(words: &[&str]) -> Options {
    parse(words).unwrap().options
}

fn load(json: &str) -> Result<Options, Failure> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(json.as_bytes()).unwrap();
    Options::load(file.path())
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn help_documents_options_and_exit_codes() {
    let help = Arguments::command().render_help().to_string();
    for words in [
        "-d, --destination <https://HOST[:PORT]>",
        "-u, --udp <[ADDRESS:PORT=]HOST:PORT>",
        "-i, --ip",
        "--tun <NAME>",
        "--route <CIDR>",
        "--accept-routes <CIDR>",
        "--default-route",
        "--advertise <CIDR>",
        "--device <KIND>",
        "--target <HOST|CIDR>",
        "--ipproto <NUMBER>",
        "--ip-template <https://…/{target}/{ipproto}/>",
        "--template",
        "--ca <FILE>",
        "--pin <SHA256>",
        "--ignore-cert",
        "--token <-|env:NAME>",
        "--token-file <FILE>",
        "--user <NAME>",
        "--password-file <FILE>",
        "--cert <FILE>",
        "--key <FILE>",
        "--header <NAME: VALUE>",
        "--congestion-control <NAME>",
        "--no-reconnect",
        "--timeout <SECONDS>",
        "-c, --config <FILE>",
        "  6  a download is incomplete",
        "  7  the server wants credentials",
    ] {
        assert!(help.contains(words), "{words} is not in\n{help}");
    }
}

#[test]
fn options_stand_before_and_after_get() {
    for words in [
        ["-d", "https://h", "--pin", "x", "get", "/a"],
        ["get", "/a", "-d", "https://h", "--pin", "x"],
    ] {
        let arguments = parse(&words).unwrap();
        assert_eq!(arguments.options.destination.as_deref(), Some("https://h"));
        assert_eq!(arguments.options.pin.as_deref(), Some("x"));
        let Some(Command::Get(get)) = arguments.command else {
            panic!("no get")
        };
        assert_eq!(get.paths, ["/a"]);
    }
}

#[test]
fn the_words_of_the_original_stay_valid() {
    let options = options(&["-i", "-d", "https://h"]);
    assert!(options.ip);
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    for words in [
        &["--nonsense"][..],
        &["get"],
        &["--ca", "f", "--pin", "p"],
        &["--pin", "p", "--ignore-cert"],
        &["--timeout", "0"],
        &["--timeout", "soon"],
    ] {
        let failure = Failure::from(parse(words).err().expect("an error"));
        assert_eq!(failure.exit, Exit::Usage, "{words:?}");
        let text = failure.to_string();
        assert!(
            text.ends_with("; see psq-client --help") && !text.contains("Usage:"),
            "{text}"
        );
    }
}

#[test]
fn a_file_has_the_same_names() {
    let options = load(
        r#"{ "destination": "https://h", "udp": ["a:1", "b:2"], "ip": false, "ca": "ca.pem",
             "header": ["authorization: x"], "timeout": 3, "ignore-cert": false,
             "template": "https://h/{target_host}/{target_port}",
             "tun": "psq1", "route": ["10.0.0.0/8"], "accept-routes": ["::/0"],
             "default-route": true, "advertise": ["192.0.2.0/24"], "device": "plain",
             "target": "*", "ipproto": "17", "ip-template": "https://h/ip",
             "token-file": "token", "user": "me", "password-file": "password", "cert": "c.pem",
             "key": "k.pem", "congestion-control": "reno", "no-reconnect": true }"#,
    )
    .unwrap();
    assert_eq!(options.user.as_deref(), Some("me"));
    assert_eq!(options.congestion_control.as_deref(), Some("reno"));
    assert!(options.no_reconnect);
    assert_eq!(options.tun.as_deref(), Some("psq1"));
    assert_eq!(options.route, ["10.0.0.0/8"]);
    assert_eq!(options.accept_routes, ["::/0"]);
    assert!(options.default_route);
    assert_eq!(options.advertise, ["192.0.2.0/24"]);
    assert_eq!(options.device.as_deref(), Some("plain"));
    assert_eq!(options.target.as_deref(), Some("*"));
    assert_eq!(options.ipproto.as_deref(), Some("17"));
    assert_eq!(options.ip_template.as_deref(), Some("https://h/ip"));
    assert_eq!(options.destination.as_deref(), Some("https://h"));
    assert_eq!(options.udp, ["a:1", "b:2"]);
    assert_eq!(options.timeout.unwrap().get(), 3);
    // Paths start where the file is.
    for path in [
        options.ca,
        options.token_file,
        options.password_file,
        options.cert,
        options.key,
    ] {
        assert!(path.unwrap().is_absolute());
    }
}

#[test]
fn a_file_with_credentials_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let load_with = |json: &str, mode| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        Options::load(file.path())
    };
    let secret = r#"{ "header": ["x: y", "Authorization: hunter2"] }"#;
    assert!(load_with(secret, 0o600).is_ok());
    let text = load_with(secret, 0o644).err().unwrap().to_string();
    assert!(
        text.contains("chmod 600") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(load_with(r#"{ "header": ["x: y"] }"#, 0o644).is_ok());
}

#[test]
fn credentials_do_not_belong_on_the_command_line() {
    let with = |line| options(&["--header", line]).refuse_secrets();
    for line in [
        "authorization: hunter2",
        "Proxy-Authorization:hunter2",
        "cookie: hunter2",
    ] {
        let text = with(line).unwrap_err().to_string();
        assert!(
            text.contains("--token-file") && !text.contains("hunter2"),
            "{text}"
        );
    }
    assert!(with("user-agent: x").is_ok());
}

#[test]
fn what_is_for_one_server_is_not_shown_to_another() {
    let load = |server: &str| {
        let rest = r#""token-file": "t", "cert": "c", "key": "k", "header": ["authorization: x"]"#;
        load(&format!("{{ {server} {rest} }}")).unwrap()
    };
    let is_kept = |own: &[&str], server: &str| {
        let all = options(own).or(load(server));
        let kept = [
            all.token_file.is_some(),
            all.cert.is_some(),
            all.key.is_some(),
            !all.header.is_empty(),
        ];
        assert!(kept.iter().all(|one| *one == kept[0]), "{own:?} {server}");
        kept[0]
    };
    let file = r#""destination": "https://file","#;
    assert!(is_kept(&[], file));
    assert!(is_kept(&["-d", "https://file"], file));
    assert!(is_kept(&["-d", "https://own"], ""));
    assert!(!is_kept(&["-d", "https://own"], file));
    assert!(!is_kept(
        &["-d", "https://own"],
        r#""template": "https://file/","#
    ));
    assert!(!is_kept(&["--template", "https://own/"], file));
    assert!(!is_kept(&["--ip-template", "https://own/"], file));
}

#[test]
fn one_kind_of_credentials_replaces_any_other() {
    let file = || load(r#"{ "token-file": "t", "cert": "c", "key": "k" }"#).unwrap();
    let own = options(&["--user", "me"]).or(file());
    assert_eq!((own.user.as_deref(), own.token_file), (Some("me"), None));
    assert!(own.cert.is_some() && own.key.is_some());
    let alice = || load(r#"{ "user": "alice", "password-file": "p" }"#).unwrap();
    let own = options(&["--token-file", "t"]).or(alice());
    assert_eq!((own.user, own.password_file), (None, None));
    // Her password is nobody else's.
    let own = options(&["--user", "bob"]).or(alice());
    let expected = (Some("bob"), None);
    assert_eq!((own.user.as_deref(), own.password_file), expected);
    let own = options(&["--password-file", "own"]).or(alice());
    let expected = (Some("alice"), Some("own".into()));
    assert_eq!((own.user.as_deref(), own.password_file), expected);
    let own = options(&["--cert", "own"]).or(file());
    assert_eq!((own.cert, own.key), (Some("own".into()), None));
    assert!(own.token_file.is_some());
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_place() {
    for (json, expected) in [
        (
            r#"{ "destinatoin": "https://h" }"#,
            "unknown field `destinatoin`",
        ),
        (r#"{ "ignore_cert": true }"#, "unknown field `ignore_cert`"),
        (r#"{ "pin": "a", "pin": "b" }"#, "duplicate field `pin`"),
        (r#"{ "udp": "a:1" }"#, "expected a sequence"),
        (r#"{ "timeout": 0 }"#, "expected a nonzero"),
        ("{", "EOF"),
        ("{} {}", "trailing characters"),
    ] {
        let failure = load(json).err().expect("an error");
        assert_eq!(failure.exit, Exit::Usage);
        let text = failure.to_string();
        assert!(
            text.contains(expected) && text.contains("at line 1 column"),
            "{text}"
        );
    }
    let failure = Options::load(Path::new("/nonexistent.json"))
        .err()
        .expect("an error");
    assert_eq!(failure.exit, Exit::Usage);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file = || {
        load(
            r#"{ "destination": "https://file", "udp": ["file:1"], "pin": "f", "timeout": 3,
                 "template": "https://file/" }"#,
        )
        .unwrap()
    };
    let own = options(&["-d", "https://own", "-u", "own:1", "--ignore-cert"]).or(file());
    assert_eq!(own.destination.as_deref(), Some("https://own"));
    assert_eq!(own.template, None);
    assert_eq!(own.udp, ["own:1"]);
    assert_eq!((own.pin, own.ignore_cert), (None, true));
    assert_eq!(own.timeout.unwrap().get(), 3);

    let all = options(&[]).or(file());
    assert_eq!(all.destination.as_deref(), Some("https://file"));
    assert_eq!(all.template.as_deref(), Some("https://file/"));
    assert_eq!(all.pin.as_deref(), Some("f"));
}

#[test]
fn options_of_a_tunnel_that_belong_together_stay_together() {
    let file = || {
        load(
            r#"{ "ip": true, "destination": "https://file", "ip-template": "https://file/",
                 "tun": "psq1", "device": "plain", "target": "192.0.2.1", "ipproto": "6",
                 "accept-routes": ["10.0.0.0/8"], "default-route": true,
                 "advertise": ["192.0.2.0/24"] }"#,
        )
        .unwrap()
    };
    // One way to choose routes replaces any other, and another server has other templates.
    let own = options(&["-d", "https://own", "--route", "::/0", "--tun", "own"]).or(file());
    assert!(own.ip);
    assert_eq!(own.ip_template, None);
    assert_eq!(own.route, ["::/0"]);
    assert!(own.accept_routes.is_empty() && !own.default_route);
    assert_eq!(own.tun.as_deref(), Some("own"));
    assert_eq!(own.device.as_deref(), Some("plain"));
    let own = options(&["--default-route"]).or(file());
    assert!(own.default_route && own.accept_routes.is_empty());
    let own = options(&["--accept-routes", "::/0"]).or(file());
    assert_eq!(own.accept_routes, ["::/0"]);
    assert!(!own.default_route);
    let own = options(&["--ip-template", "https://own/"]).or(file());
    assert_eq!(own.ip_template.as_deref(), Some("https://own/"));
    assert_eq!(own.destination, None);

    let own = options(&[
        "--target",
        "::1",
        "--ipproto",
        "17",
        "--device",
        "auto",
        "--advertise",
        "10.0.0.0/8",
    ]);
    let own = own.or(file());
    assert_eq!(own.target.as_deref(), Some("::1"));
    assert_eq!(own.ipproto.as_deref(), Some("17"));
    assert_eq!(own.device.as_deref(), Some("auto"));
    assert_eq!(own.advertise, ["10.0.0.0/8"]);

    let all = options(&[]).or(file());
    assert_eq!(all.ip_template.as_deref(), Some("https://file/"));
    assert_eq!(all.accept_routes, ["10.0.0.0/8"]);
    assert!(all.default_route);
    assert_eq!(all.advertise, ["192.0.2.0/24"]);
    assert_eq!(all.target.as_deref(), Some("192.0.2.1"));
    assert_eq!(all.ipproto.as_deref(), Some("6"));
}
