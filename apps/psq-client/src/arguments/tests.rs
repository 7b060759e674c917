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
        "--template",
        "--ca <FILE>",
        "--pin <SHA256>",
        "--ignore-cert",
        "--header <NAME: VALUE>",
        "--timeout <SECONDS>",
        "-c, --config <FILE>",
        "  6  a download is incomplete",
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
             "template": "https://h/{target_host}/{target_port}" }"#,
    )
    .unwrap();
    assert_eq!(options.destination.as_deref(), Some("https://h"));
    assert_eq!(options.udp, ["a:1", "b:2"]);
    assert_eq!(options.timeout.unwrap().get(), 3);
    // Paths start where the file is.
    assert!(options.ca.unwrap().is_absolute());
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
