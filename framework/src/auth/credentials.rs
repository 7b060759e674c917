//! What a request's fields say of who asks: sans-io, nothing here is checked yet.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

/// Which field a client uses, and so which status and challenge it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `authorization`, answered with 401 and `www-authenticate` (RFC 9110 §11.6).
    Authorization,
    /// `proxy-authorization`, answered with 407 and `proxy-authenticate` (RFC 9110 §11.7).
    ProxyAuthorization,
}

/// What was presented, as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A bearer token (RFC 6750 §2.1).
    Bearer(Secret),
    /// A user's name and password (RFC 7617 §2).
    Basic { name: String, password: Secret },
}

/// Text that is shown nowhere.
#[derive(PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why fields cannot be understood. It holds nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const FIELDS: [(HeaderName, Field); 2] = [
    (AUTHORIZATION, Field::Authorization),
    (PROXY_AUTHORIZATION, Field::ProxyAuthorization),
];

/// Reads both fields. `None`: neither is there, or with a scheme that is not known.
///
/// An extended CONNECT asks a resource of this server, so `authorization` is its field; as it opens a
/// tunnel, clients also send `proxy-authorization`. One of them is enough, and two that differ leave
/// open who asks.
pub(super) fn read(headers: &HeaderMap) -> (Field, Result<Option<Credentials>, Malformed>) {
    let mut found: Option<(Field, &HeaderValue)> = None;
    for (name, field) in FIELDS {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return (field, Err(Malformed("the field stands twice")));
        }
        match found {
            None => found = Some((field, value)),
            Some((first, other)) if other != value => {
                return (first, Err(Malformed("the two fields differ")));
            }
            Some(_) => {}
        }
    }
    match found {
        None => (Field::Authorization, Ok(None)),
        Some((field, value)) => (field, parse(value)),
    }
}

/// Removes both fields.
pub(crate) fn remove(headers: &mut HeaderMap) {
    for (name, _) in FIELDS {
        headers.remove(name);
    }
}

/// Has every way of printing `headers` leave the credentials out.
pub(crate) fn conceal(headers: &mut HeaderMap) {
    for (name, _) in FIELDS {
        if let http::header::Entry::Occupied(mut entry) = headers.entry(name) {
            for value in entry.iter_mut() {
                value.set_sensitive(true);
            }
        }
    }
}

/// `credentials = auth-scheme [ 1*SP ( token68 / #auth-param ) ]` (RFC 9110 §11.4).
fn parse(value: &HeaderValue) -> Result<Option<Credentials>, Malformed> {
    let text = value
        .to_str()
        .map_err(|_| Malformed("the field is not printable ASCII"))?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        bearer(rest).map(Some)
    } else if scheme.eq_ignore_ascii_case("basic") {
        basic(rest).map(Some)
    } else {
        Ok(None)
    }
}

/// `b64token` (RFC 6750 §2.1).
fn bearer(text: &str) -> Result<Credentials, Malformed> {
    let is_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let body = text.trim_end_matches('=');
    if body.is_empty() || !body.bytes().all(is_token68) {
        return Err(Malformed("the bearer token is malformed"));
    }
    Ok(Credentials::Bearer(Secret::new(text)))
}

/// `user-pass` in base64 (RFC 7617 §2), UTF-8.
fn basic(text: &str) -> Result<Credentials, Malformed> {
    const BASE64: Malformed = Malformed("the basic credentials are not base64 of UTF-8");
    let engine = match text.ends_with('=') {
        true => &STANDARD,
        // Some clients leave the padding out.
        false => &STANDARD_NO_PAD,
    };
    let bytes = engine.decode(text).map_err(|_| BASE64)?;
    let text = String::from_utf8(bytes).map_err(|_| BASE64)?;
    let (name, password) = text
        .split_once(':')
        .ok_or(Malformed("the basic credentials have no colon"))?;
    if text.contains(char::is_control) {
        return Err(Malformed("the basic credentials hold control characters"));
    }
    Ok(Credentials::Basic {
        name: name.into(),
        password: Secret::new(password),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    }

    fn one(value: &str) -> Result<Option<Credentials>, Malformed> {
        read(&headers(&[("authorization", value)])).1
    }

    fn user(name: &str, password: &str) -> Credentials {
        Credentials::Basic {
            name: name.into(),
            password: Secret::new(password),
        }
    }

    #[test]
    fn the_examples_of_the_rfcs_are_read() {
        // RFC 7617 §2 and §2.1, RFC 6750 §2.1.
        let table = [
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                user("Aladdin", "open sesame"),
            ),
            ("Basic dGVzdDoxMjPCow==", user("test", "123£")),
            (
                "Bearer mF_9.B5f-4.1JqM",
                Credentials::Bearer(Secret::new("mF_9.B5f-4.1JqM")),
            ),
        ];
        for (value, expected) in table {
            assert_eq!(one(value), Ok(Some(expected)));
        }
    }

    #[test]
    fn schemes_have_no_case_and_passwords_may_hold_colons() {
        for value in ["basic YTpiOmM=", "BASIC   YTpiOmM=", "bAsIc YTpiOmM"] {
            assert_eq!(one(value), Ok(Some(user("a", "b:c"))), "{value}");
        }
        assert_eq!(one("Basic Og=="), Ok(Some(user("", ""))));
        for other in ["Digest a=b", "Negotiate", "", "Basicx YTpi"] {
            assert_eq!(one(other), Ok(None), "{other}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for value in [
            "Basic",
            "Basic ",
            "Basic YTpi=",
            "Basic YTpi====",
            "Basic YTpi YTpi",
            "Basic YWI=",
            "Basic /w==",
            "Basic YToK",
            "Basic !!!!",
            "Bearer",
            "Bearer ",
            "Bearer =",
            "Bearer a b",
            "Bearer a=b",
            "Bearer a,b",
            "Bearer \"a\"",
            "Bearer\ta",
        ] {
            let result = one(value);
            // A tab ends no scheme: that is one of its own.
            let is_unknown = value.contains('\t') && result == Ok(None);
            assert!(result.is_err() || is_unknown, "{value:?}: {result:?}");
        }
        let bytes = HeaderValue::from_bytes(b"Bearer \xff").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bytes);
        assert!(read(&headers).1.is_err());
    }

    #[test]
    fn either_field_serves_and_none_twice() {
        let (name, proxy) = ("authorization", "proxy-authorization");
        let given = |fields: &[(&str, &str)]| read(&headers(fields));
        let token = || Ok(Some(Credentials::Bearer(Secret::new("t"))));
        assert_eq!(given(&[]), (Field::Authorization, Ok(None)));
        assert_eq!(
            given(&[(name, "Bearer t")]),
            (Field::Authorization, token())
        );
        assert_eq!(
            given(&[(proxy, "Bearer t")]),
            (Field::ProxyAuthorization, token())
        );
        assert_eq!(
            given(&[(proxy, "Bearer t"), (name, "Bearer t")]),
            (Field::Authorization, token())
        );
        for twice in [
            &[(name, "Bearer t"), (name, "Bearer t")],
            &[(proxy, "Bearer t"), (proxy, "Bearer u")],
            &[(proxy, "Bearer t"), (name, "Bearer u")],
        ] {
            assert!(given(twice).1.is_err(), "{twice:?}");
        }
    }

    #[test]
    fn concealed_and_removed_fields_are_printed_by_nobody() {
        let mut headers = headers(&[
            ("authorization", "Bearer planted-1"),
            ("authorization", "Bearer planted-2"),
            ("proxy-authorization", "Bearer planted-3"),
            ("accept", "shown"),
        ]);
        conceal(&mut headers);
        let text = format!("{headers:?}");
        assert!(
            text.contains("shown") && !text.contains("planted"),
            "{text}"
        );
        remove(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_a_panic_and_never_shown(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(AUTHORIZATION, value);
                let _ = read(&headers);
            }
        }

        #[test]
        fn every_name_and_password_comes_back(name in "[^:\\p{Cc}]{0,40}", password in "\\P{Cc}{0,40}") {
            let text = STANDARD.encode(format!("{name}:{password}"));
            for value in [format!("Basic {text}"), format!("basic  {}", text.trim_end_matches('='))] {
                let found = one(&value).unwrap().unwrap();
                prop_assert_eq!(&found, &user(&name, &password));
                if password.len() > 8 {
                    let shown = format!("{found:?}");
                    prop_assert!(!shown.contains(&password) || name.contains(&password));
                }
            }
        }

        #[test]
        fn every_token_comes_back(token in "[A-Za-z0-9._~+/-]{1,200}={0,2}") {
            let found = one(&format!("Bearer {token}")).unwrap();
            prop_assert_eq!(found, Some(Credentials::Bearer(Secret::new(token))));
        }
    }
}
