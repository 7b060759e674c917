//! Tokens: those of the RFCs, our own, and every way to be wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn secret(text: &str) -> TokenSecret {
    TokenSecret::parse(text, Path::new("jwt.key")).unwrap()
}

/// A token with this header and these claims, signed by hand.
fn signed(header: &Value, claims: &Value) -> String {
    let message = [header, claims].map(|part| BASE64.encode(part.to_string()));
    let message = message.join(".");
    let hmac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let signature = hmac.chain_update(&message).finalize().into_bytes();
    format!("{message}.{}", BASE64.encode(signature))
}

fn verify(header: &Value, claims: &Value) -> Result<Token, Refusal> {
    secret(SECRET).verify(&signed(header, claims), SystemTime::now())
}

fn now() -> u64 {
    since_epoch(SystemTime::now()).as_secs()
}

fn grant() -> Grant {
    Grant {
        name: "alice".into(),
        permissions: vec!["vpn".into(), "udp".into()],
        lifetime: Duration::from_secs(60),
        limits: IdentityLimits {
            tunnels: Some(3),
            rate: Some(1_000_000),
            volume: None,
        },
        id: "7".into(),
    }
}

#[test]
fn the_example_of_rfc_7515_is_computed() {
    // RFC 7515 appendix A.1: its key is raw bytes, so it is used below the file.
    let key =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let message = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let key = BASE64.decode(key).unwrap();
    let hs256 = Hs256::new(Algorithm::HS256, Ok(&key)).unwrap();
    let signature = hs256.try_sign(message.as_bytes()).unwrap();
    assert_eq!(
        BASE64.encode(&signature),
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    hs256.verify(message.as_bytes(), &signature).unwrap();
    hs256.verify(b"other", &signature).unwrap_err();
    hs256
        .verify(message.as_bytes(), &signature[..31].to_vec())
        .unwrap_err();
}

#[test]
fn a_grant_comes_back() {
    let secret = secret(SECRET);
    let token = secret.sign(&grant()).unwrap();
    let found = secret.verify(&token, SystemTime::now()).unwrap();
    assert_eq!(found.name, "alice");
    assert_eq!(found.id.as_deref(), Some("7"));
    assert_eq!(found.holding.permissions, ["vpn", "udp"]);
    assert_eq!(found.holding.limits, grant().limits);
    let left = found
        .holding
        .expires
        .unwrap()
        .duration_since(SystemTime::now());
    let left = left.unwrap();
    assert!(left > Duration::from_secs(58) && left <= Duration::from_secs(60) + LEEWAY);
}

#[test]
fn a_token_ends() {
    let secret = secret(SECRET);
    let token = secret.sign(&grant()).unwrap();
    let after = |seconds| SystemTime::now() + Duration::from_secs(seconds);
    secret.verify(&token, after(58)).unwrap();
    assert_eq!(
        secret.verify(&token, after(66)).unwrap_err(),
        Refusal::Expired
    );
    // Long past, so that it is found without an injected clock.
    let claims = json!({ "sub": "a", "exp": now() - 60 });
    let header = json!({ "alg": "HS256" });
    assert_eq!(verify(&header, &claims).unwrap_err(), Refusal::Expired);
    let claims = json!({ "sub": "a", "exp": now() as f64 + 60.5 });
    verify(&header, &claims).unwrap();
}

#[test]
fn only_a_valid_hs256_signature_of_this_secret_serves() {
    let secret = secret(SECRET);
    let good = secret.sign(&grant()).unwrap();
    let refused = |token: &str| secret.verify(token, SystemTime::now()).unwrap_err();
    let other = super::tests::secret("another secret of thirty-two bytes");
    assert!(other.verify(&good, SystemTime::now()).is_err());
    assert_ne!(other.digest(), secret.digest());

    let claims = json!({ "sub": "alice", "exp": now() + 60 });
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "HS512" }),
        json!({ "alg": "HS384" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "hs256" }),
        json!({ "alg": "" }),
        json!({}),
        json!([]),
        json!({ "alg": "HS256", "crit": ["exp"] }),
        json!({ "alg": "HS256", "crit": [] }),
    ] {
        assert!(verify(&header, &claims).is_err(), "{header}");
    }
    verify(
        &json!({ "alg": "HS256", "typ": "JWT", "kid": "1" }),
        &claims,
    )
    .unwrap();

    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("{good}")
    };
    for token in [
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{}", &signature[..42]),
        "..".into(),
        ".".into(),
        String::new(),
        "é.é.é".into(),
    ] {
        refused(&token);
    }
    // No single character can be another one.
    for index in (0..good.len()).filter(|index| good.as_bytes()[*index] != b'.') {
        let mut bytes = good.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let token = String::from_utf8(bytes).unwrap();
        // The last character of the signature has two bits that stand for nothing.
        if index + 1 < good.len() {
            refused(&token);
        }
    }
}

#[test]
fn claims_are_of_their_kinds() {
    let header = json!({ "alg": "HS256" });
    let with = |key: &str, value: Value| {
        let mut claims = json!({ "sub": "alice", "exp": now() + 60 });
        claims[key] = value;
        verify(&header, &claims)
    };
    for (key, value) in [
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!(null)),
        ("sub", json!("a\u{1b}[2J")),
        ("sub", json!("x".repeat(256))),
        ("exp", json!("tomorrow")),
        ("exp", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!([])),
        ("nbf", json!(now() + 60)),
        ("nbf", json!("soon")),
        ("aud", json!("somebody else")),
        ("aud", json!(["somebody", "else"])),
        ("permissions", json!("vpn")),
        ("permissions", json!([1])),
        ("tunnels", json!(0)),
        ("tunnels", json!(-1)),
        ("rate", json!("fast")),
        ("volume", json!(1.5)),
        ("jti", json!(7)),
    ] {
        let refusal = with(key, value.clone()).err();
        assert!(refusal.is_some(), "{key}: {value}");
    }
    for (key, value) in [
        ("nbf", json!(now() + 2)),
        ("nbf", json!(0)),
        ("iat", json!(0)),
        ("iss", json!("anybody")),
        ("rate", json!("5M")),
        ("volume", json!(u64::MAX)),
        ("unknown", json!({ "a": [1] })),
    ] {
        with(key, value.clone()).unwrap_or_else(|refusal| panic!("{key}: {value}: {refusal:?}"));
    }
    for missing in ["sub", "exp"] {
        let mut claims = json!({ "sub": "alice", "exp": now() + 60 });
        claims.as_object_mut().unwrap().remove(missing);
        assert!(verify(&header, &claims).is_err(), "{missing}");
    }
}

#[test]
fn short_secrets_are_refused_and_none_is_shown() {
    let parse = |text: &str| TokenSecret::parse(text, Path::new("jwt.key"));
    for text in [
        "",
        "\n",
        "planted-too-short",
        &"x".repeat(31),
        &format!("{}\n", "x".repeat(31)),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with("jwt.key: the secret has "), "{error}");
        assert!(!error.contains("planted"), "{error}");
    }
    // The end of the line is no part of it.
    let with_line_end = parse(&format!("{SECRET}\r\n")).unwrap();
    assert_eq!(with_line_end.digest(), secret(SECRET).digest());
    assert!(!format!("{with_line_end:?}").contains("0123"));
    assert!(
        secret(SECRET)
            .sign(&Grant {
                lifetime: Duration::MAX,
                ..grant()
            })
            .is_err()
    );
}

proptest::proptest! {
    #[test]
    fn no_text_is_a_token_by_chance(text in "[A-Za-z0-9_.=-]{0,120}|\\PC{0,40}") {
        let result = secret(SECRET).verify(&text, SystemTime::now());
        proptest::prop_assert!(result.is_err());
    }

    #[test]
    fn no_signed_claims_cause_a_panic(
        exp in proptest::prelude::any::<f64>(),
        nbf in proptest::prelude::any::<i64>(),
        volume in proptest::prelude::any::<u64>(),
    ) {
        let claims = json!({ "sub": "a", "exp": exp, "nbf": nbf, "volume": volume });
        let _ = verify(&json!({ "alg": "HS256" }), &claims);
    }
}
