//! Whole messages, to be read.

use super::*;

#[test]
fn messages_read_well() {
    let table = [
        (
            r#""listen""#,
            r#"  "listen": "localhost:443","#,
            r#"conf/server.json:2:13: listen: found "localhost:443", expected an IP address with a port, such as "[::]:443" or "127.0.0.1:4433""#,
        ),
        (
            r#""key_file""#,
            r#"  "keyfile": "key.pem","#,
            r#"conf/server.json:4:3: keyfile: unknown key "keyfile"; did you mean "key_file"?"#,
        ),
        (
            r#""key_file""#,
            r#"  "cert_file": "key.pem","#,
            r#"conf/server.json:4:3: cert_file: duplicate key, already on line 3"#,
        ),
        (
            r#""key_file""#,
            "",
            r#"conf/server.json:1:1: missing key "key_file""#,
        ),
        (
            r#""threads""#,
            r#"  "threads": 0,"#,
            r#"conf/server.json:6:14: threads: found 0, expected a whole number from 1 to 256"#,
        ),
        (
            r#""retry""#,
            r#"  "retry": "adaptive","#,
            r#"conf/server.json:14:12: retry: unknown value "adaptive", expected "always" or "never""#,
        ),
        (
            r#""drain_ms""#,
            r#"    "drain_ms": 60000"#,
            r#"conf/server.json:17:17: limits.drain_ms: found 60000, expected a whole number from 0 to 4000"#,
        ),
        (
            r#""drain_ms""#,
            r#"    "tunnels_per_connection": 1000"#,
            r#"conf/server.json:17:31: limits.tunnels_per_connection: found 1000, expected at most 100: every tunnel is a request; raise "requests_per_connection" too"#,
        ),
        (
            r#""10.0.0.0/8""#,
            r#"        "10.0.0.0/33","#,
            r#"conf/server.json:27:9: endpoints[0].routes[0]: found "10.0.0.0/33": invalid address: 10.0.0.0/33"#,
        ),
        (
            r#""port""#,
            r#"      "port": 65536,"#,
            r#"conf/server.json:24:15: endpoints[0].port: found 65536, expected a whole number from 0 to 65535"#,
        ),
        (
            r#""anonymous""#,
            r#"      "permission": "vpn","#,
            r#"conf/server.json:23:7: endpoints[0].permission: needs the key "auth" beside "endpoints": nobody could hold it"#,
        ),
        (
            r#""/m{"#,
            r#"        "/m{?target_host}""#,
            r#"conf/server.json:37:9: endpoints[1].path[1]: found "/m{?target_host}": the variable `target_port` is missing"#,
        ),
        (
            r#""type": "TestFolder""#,
            r#"      "type": "Folder","#,
            r#"conf/server.json:43:15: endpoints[2].type: unknown endpoint type "Folder", expected "TestFolder", "TestGate", "TestMisnamed", "TestParrot", "TestProxy" or "TestUnit""#,
        ),
        (
            r#""root""#,
            r#"      "root": "public", // here"#,
            r#"conf/server.json:44:25: key must be a string; JSON has no comments"#,
        ),
    ];
    for (start, line, message) in table {
        let error = parse(&with_line(line_of(start), line)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_long_value_is_cut_and_a_message_stays_on_its_line() {
    let line = format!(r#"  "listen": "{}","#, "x".repeat(10_000));
    let message = parse(&with_line(2, &line)).unwrap_err().to_string();
    assert!(message.len() < 300, "{message}");
    assert!(message.contains("xxx\"…"), "{message}");

    let error = ConfigError {
        message: "one\ntwo\u{1b}".into(),
        ..parse("").unwrap_err()
    };
    assert!(error.to_string().ends_with("one two "), "{error}");
}
