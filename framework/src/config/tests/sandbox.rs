//! The key `sandbox`, and what a configuration says that it opens.

use super::*;
use crate::FileUse;

fn with(keys: &str) -> Result<ServerConfig, ConfigError> {
    let text = format!(
        r#"{{ "cert_file": "c.pem", "key_file": "k.pem", {keys}
            "endpoints": [{{ "path": "f", "type": "TestFolder", "root": "public" }}] }}"#
    );
    parse(&text)
}

#[test]
fn it_is_on_unless_it_is_false() {
    let sandbox = |keys: &str| with(keys).unwrap().sandbox;
    assert_eq!(sandbox(""), Sandbox::default());
    assert_eq!(sandbox(r#""sandbox": {},"#), Sandbox::default());
    assert_eq!(sandbox(r#""sandbox": false,"#), Sandbox::Off);
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
    assert_eq!(
        sandbox(r#""sandbox": { "read": ["a", "/b"], "write": ["../c"] },"#),
        Sandbox::Confined {
            read: paths(&["conf/a", "/b"]),
            write: paths(&["conf/../c"]),
        }
    );
}

#[test]
fn its_mistakes_are_named() {
    for (value, key, says) in [
        (r#""off""#, "sandbox", "expected false, or an object"),
        ("null", "sandbox", "expected false, or an object"),
        ("[]", "sandbox", "expected false, or an object"),
        (
            r#"{ "reads": [] }"#,
            "sandbox.reads",
            r#"did you mean "read""#,
        ),
        (r#"{ "read": "a" }"#, "sandbox.read", "expected a list"),
        (
            r#"{ "read": [""] }"#,
            "sandbox.read[0]",
            "the path of a file",
        ),
        (
            r#"{ "write": ["a", 7] }"#,
            "sandbox.write[1]",
            "the path of a file",
        ),
    ] {
        let error = with(&format!(r#""sandbox": {value},"#)).unwrap_err();
        assert_eq!(error.key(), key, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_configuration_says_what_it_opens() {
    let config = with(r#""auth": { "jwt_secret_file": "s", "revoked_file": "/r" },"#).unwrap();
    let read = ["server.json", "c.pem", "k.pem", "s", "/r", "public"];
    let read = read.map(|path| FileUse::read(Path::new("conf").join(path)));
    assert_eq!(config.files(), read);
    let made = with(r#""self_signed": true,"#).unwrap().files();
    assert_eq!(made[1], FileUse::write("conf/c.pem"));

    config.check_confined(|_| true).unwrap();
    let error = config
        .check_confined(|file| !file.path.ends_with("public"))
        .unwrap_err();
    assert_eq!(error.key(), "endpoints[0]");
    assert!(error.to_string().contains("restart"), "{error}");
}

#[test]
fn an_endpoint_that_panics_when_it_is_asked_opens_nothing() {
    let text = r#"{ "cert_file": "c.pem", "key_file": "k.pem", "endpoints": [
        { "path": "f", "type": "TestFolder", "root": "panic" },
        { "path": "g", "type": "TestFolder", "root": "public" } ] }"#;
    let files = parse(text).unwrap().files();
    let read = ["server.json", "c.pem", "k.pem", "public"];
    assert_eq!(
        files,
        read.map(|path| FileUse::read(Path::new("conf").join(path)))
    );
}
