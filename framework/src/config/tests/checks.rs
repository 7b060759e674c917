//! What stands around a configuration: its files and its listeners.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn folder_with(files: &[(&str, u32)], self_signed: bool) -> (TempDir, ServerConfig) {
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in files {
        let path = folder.path().join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    let text = with_line(5, &format!(r#"  "self_signed": {self_signed},"#));
    let config = ServerConfig::parse(&text, &folder.path().join("server.json")).unwrap();
    (folder, config)
}

#[test]
fn a_key_that_others_may_touch_is_refused() {
    for mode in 0..0o1000 {
        let (_folder, config) =
            folder_with(&[("cert.pem", 0o644), ("key.pem", mode | 0o400)], false);
        let result = config.check_files();
        if mode & 0o077 == 0 {
            result.unwrap();
            continue;
        }
        let error = result.unwrap_err();
        assert_eq!((error.line(), error.key()), (Some(4), "key_file"));
        let message = error.message();
        assert!(
            message.contains(&format!("mode {:04o}", mode | 0o400)),
            "{message}"
        );
        assert!(message.contains("chmod 600"), "{message}");
    }
}

#[test]
fn files_are_there_unless_they_are_to_be_made() {
    let (cert, key) = (("cert.pem", 0o644), ("key.pem", 0o600));
    let check = |files: &[(&str, u32)], self_signed| {
        let (_folder, config) = folder_with(files, self_signed);
        config
            .check_files()
            .map_err(|error| (error.line(), error.message().to_owned()))
    };
    check(&[cert, key], false).unwrap();
    check(&[cert, key], true).unwrap();
    check(&[], true).unwrap();
    for (files, line) in [(&[][..], 3), (&[cert], 4), (&[key], 3)] {
        let (at, message) = check(files, false).unwrap_err();
        assert_eq!(at, Some(line));
        assert!(message.contains("does not exist: make it"), "{message}");
    }
    for (files, line) in [(&[cert], 4), (&[key], 3)] {
        let (at, message) = check(files, true).unwrap_err();
        assert_eq!(at, Some(line));
        assert!(message.contains("makes both files or none"), "{message}");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let (folder, config) = folder_with(&[("key.pem", 0o600)], true);
    fs::create_dir(folder.path().join("cert.pem")).unwrap();
    let error = config.check_files().unwrap_err();
    assert!(
        error.message().ends_with("it is not a regular file"),
        "{error}"
    );

    let text = with_line(4, r#"  "key_file": "none/key.pem","#);
    let config = ServerConfig::parse(&text, &folder.path().join("server.json")).unwrap();
    fs::remove_dir(folder.path().join("cert.pem")).unwrap();
    let error = config.check_files().unwrap_err();
    assert_eq!((error.line(), error.key()), (Some(4), "key_file"));
    assert!(error.message().starts_with("the folder of "), "{error}");
}

#[test]
fn checking_changes_nothing() {
    let (folder, config) = folder_with(&[], true);
    config.check_files().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_tunnel_for_strangers_must_be_asked_for() {
    let closed = [
        "0.0.0.0:443",
        "[::]:443",
        "192.0.2.1:1",
        "[2001:db8::1]:1",
        "[::ffff:10.0.0.1]:1",
    ];
    let loopback = [
        "127.0.0.1:1",
        "127.255.0.1:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ];
    let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let config = parse(COMPLETE).unwrap();
    for text in closed {
        // One address that others can reach is enough.
        for listen in [addresses(&[text]), addresses(&[loopback[0], text])] {
            let error = config.check_relay(&listen).unwrap_err();
            assert_eq!(error.key(), "endpoints[1]");
            assert!(
                error.message().contains(&format!("open relay on {text}")),
                "{error}"
            );
            assert!(error.message().contains("\"anonymous\": true"), "{error}");
        }
    }
    for text in loopback {
        let warnings = config.check_relay(&addresses(&[text])).unwrap();
        assert_eq!(
            warnings,
            [Warning::OpenOnLoopback {
                index: 1,
                tag: "TestProxy"
            }]
        );
        assert!(
            warnings[0]
                .to_string()
                .starts_with("endpoints[1] (TestProxy) serves everyone")
        );
    }

    let open = COMPLETE.replace(
        r#""type": "TestProxy""#,
        r#""type": "TestProxy", "anonymous": true"#,
    );
    let open = parse(&open).unwrap();
    assert_eq!(open.check_relay(&addresses(&closed)).unwrap(), []);
    assert_eq!(open.check_relay(&addresses(&loopback)).unwrap(), []);
}
