//! The keys `auth`, `permission` and `hidden`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::router::Access;

/// A configuration with this value of `auth` and these keys of an endpoint of type `kind`.
fn config(auth: &str, kind: &str, keys: &str) -> Result<ServerConfig, ConfigError> {
    parse(&format!(
        "{{ \"cert_file\": \"c\", \"key_file\": \"k\",\n\"auth\": {auth},\n\"endpoints\": [\n\
         {{ \"path\": \"p\", \"type\": \"{kind}\"{keys} }}] }}"
    ))
}

const TOKENS: &str = r#"{ "jwt_secret_file": "jwt.key" }"#;

#[test]
fn every_key_of_auth_is_read() {
    let auth = r#"{ "jwt_secret_file": "jwt.key", "users_file": "/etc/users.json",
        "client_ca_file": "ca.pem", "client_ca_permissions": ["vpn", "udp"],
        "client_keys_file": "keys.json", "revoked_file": "revoked" }"#;
    let auth = config(auth, "TestProxy", "").unwrap().auth.unwrap();
    assert_eq!(
        auth.jwt_secret_file.as_deref(),
        Some(Path::new("conf/jwt.key"))
    );
    assert_eq!(
        auth.users_file.as_deref(),
        Some(Path::new("/etc/users.json"))
    );
    assert_eq!(
        auth.client_ca_file.as_deref(),
        Some(Path::new("conf/ca.pem"))
    );
    assert_eq!(auth.client_ca_permissions, ["vpn", "udp"]);
    assert_eq!(
        auth.client_keys_file.as_deref(),
        Some(Path::new("conf/keys.json"))
    );
    assert_eq!(
        auth.revoked_file.as_deref(),
        Some(Path::new("conf/revoked"))
    );
    assert!(auth.asks_for_certificates());
    let auth = config(TOKENS, "TestProxy", "").unwrap().auth.unwrap();
    assert!(!auth.asks_for_certificates());
}

#[test]
fn mistakes_in_auth_are_located() {
    let table = [
        ("null", "auth", "found null, expected an object"),
        ("[]", "auth", "expected an object"),
        ("{}", "auth", "nobody could authenticate"),
        (
            r#"{ "revoked_file": "r" }"#,
            "auth",
            "nobody could authenticate",
        ),
        (
            r#"{ "jwt_secret": "x" }"#,
            "auth.jwt_secret",
            "did you mean \"jwt_secret_file\"?",
        ),
        (
            r#"{ "users_file": "" }"#,
            "auth.users_file",
            "expected the path of a file",
        ),
        (
            r#"{ "users_file": null }"#,
            "auth.users_file",
            "expected the path of a file",
        ),
        (
            r#"{ "users_file": "u", "client_ca_permissions": ["vpn"] }"#,
            "auth.client_ca_permissions",
            "needs \"client_ca_file\"",
        ),
        (
            r#"{ "client_ca_file": "c", "client_ca_permissions": ["a b"] }"#,
            "auth.client_ca_permissions[0]",
            "expected a permission",
        ),
    ];
    for (auth, key, says) in table {
        let error = config(auth, "TestProxy", "").unwrap_err();
        assert_eq!((error.key(), error.line()), (key, Some(2)), "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn who_may_use_an_endpoint_is_said_without_contradictions() {
    let everyone = Access::Everyone;
    let known = Access::Authenticated;
    let vpn = Access::Permitted(vec!["vpn".into()]);
    let both = Access::Permitted(vec!["vpn".into(), "udp".into()]);
    let folder = r#", "root": "r""#;
    let table = [
        ("TestProxy", "", known, false),
        (
            "TestProxy",
            r#", "anonymous": true"#,
            everyone.clone(),
            false,
        ),
        ("TestProxy", r#", "permission": "vpn""#, vpn.clone(), false),
        (
            "TestProxy",
            r#", "permission": ["vpn", "udp"]"#,
            both,
            false,
        ),
        (
            "TestProxy",
            r#", "hidden": true"#,
            Access::Authenticated,
            true,
        ),
        (
            "TestProxy",
            r#", "hidden": true, "permission": "vpn""#,
            vpn.clone(),
            true,
        ),
        ("TestFolder", folder, everyone, false),
        (
            "TestFolder",
            r#", "root": "r", "permission": "vpn""#,
            vpn,
            false,
        ),
    ];
    for (kind, keys, access, hidden) in table {
        let endpoint = config(TOKENS, kind, keys).unwrap().endpoints.remove(0);
        assert_eq!(endpoint.hidden, hidden, "{keys}");
        assert_eq!(endpoint.into_mount().access(), &access, "{keys}");
    }
    let table = [
        (
            "TestProxy",
            r#", "anonymous": true, "permission": "vpn""#,
            "anonymous",
        ),
        (
            "TestProxy",
            r#", "anonymous": true, "hidden": true"#,
            "hidden",
        ),
        ("TestFolder", r#", "root": "r", "hidden": true"#, "hidden"),
        ("TestProxy", r#", "permission": """#, "permission"),
        ("TestProxy", r#", "permission": []"#, "permission"),
        ("TestProxy", r#", "permission": null"#, "permission"),
        ("TestProxy", r#", "permission": true"#, "permission"),
        (
            "TestProxy",
            r#", "permission": ["vpn", "a b"]"#,
            "permission[1]",
        ),
        ("TestProxy", r#", "hidden": null"#, "hidden"),
        ("TestProxy", r#", "permissions": "vpn""#, "permissions"),
    ];
    for (kind, keys, key) in table {
        let error = config(TOKENS, kind, keys).unwrap_err();
        assert_eq!(error.key(), format!("endpoints[0].{key}"), "{error}");
        assert_eq!(error.line(), Some(4), "{error}");
    }
    // Without `auth`, nobody could hold anything, alone or in a whole configuration.
    for keys in [r#""permission": "vpn""#, r#""hidden": true"#] {
        let endpoint = format!(r#"{{ "path": "p", "type": "TestProxy", {keys} }}"#);
        let error = EndpointConfig::parse(&endpoint).unwrap_err();
        assert!(error.message().contains("\"auth\""), "{error}");
    }
}

#[test]
fn with_auth_a_tunnel_endpoint_starts_anywhere() {
    let listen = [
        "192.0.2.1:443".parse().unwrap(),
        "[::1]:443".parse().unwrap(),
    ];
    for keys in ["", r#", "permission": "vpn""#, r#", "hidden": true"#] {
        let config = config(TOKENS, "TestProxy", keys).unwrap();
        assert_eq!(config.check_relay(&listen).unwrap(), []);
    }
}

#[test]
fn the_files_are_read_when_the_router_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let router = |auth: &str| {
        let text = format!(
            "{{ \"cert_file\": \"c\", \"key_file\": \"k\",\n\"auth\": {auth},\n\
             \"endpoints\": [{{ \"path\": \"p\", \"type\": \"TestProxy\" }}] }}"
        );
        let config = ServerConfig::parse(&text, &folder.path().join("server.json")).unwrap();
        config.into_router().map_err(|error| error.to_string())
    };
    let tokens = || router(TOKENS).err().unwrap_or_default();
    assert!(
        tokens().contains("server.json:2:30: auth.jwt_secret_file: cannot read "),
        "{}",
        tokens()
    );
    write("jwt.key", secret, 0o640);
    assert!(tokens().contains("chmod 600"), "{}", tokens());
    write("jwt.key", "short", 0o600);
    assert!(
        tokens().contains("jwt.key: the secret has 5 bytes"),
        "{}",
        tokens()
    );
    write("jwt.key", secret, 0o600);
    assert!(router(TOKENS).unwrap().authenticator().is_some());

    write(
        "users.json",
        "{\n  \"alice\": { \"hash\": \"x\" }\n}",
        0o600,
    );
    let users = router(r#"{ "users_file": "users.json" }"#).unwrap_err();
    assert!(
        users.contains("users.json:2:22: alice.hash: expected an Argon2id hash"),
        "{users}"
    );
    for key in ["client_ca_file", "client_keys_file"] {
        let absent = router(&format!(r#"{{ "{key}": "absent" }}"#)).unwrap_err();
        assert!(
            absent.contains(&format!("auth.{key}: cannot read ")),
            "{absent}"
        );
    }
}
