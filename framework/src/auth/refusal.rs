//! [`Refusal`]: why somebody is not let in, and the answer that says so.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE};

use super::credentials::Field;
use crate::error::Error;

/// The protection space of every challenge (RFC 9110 §11.5): a server has only one.
macro_rules! realm {
    () => {
        r#"realm="pasque""#
    };
}

/// The schemes that a server takes, and so asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schemes {
    pub(super) bearer: bool,
    pub(super) basic: bool,
}

/// Why nobody was found behind a request. Holds nothing of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are no credentials, or none of a kind that is taken.
    Missing,
    /// They cannot be understood.
    Malformed(&'static str),
    /// A token that is not valid here.
    Token(&'static str),
    /// A token whose time has passed.
    Expired,
    /// A wrong name or password.
    Password,
    /// Too many wrong passwords came from there: seconds until one is looked at again.
    TooMany(u64),
    /// Too many passwords are waiting to be looked at.
    Busy,
    /// Known, and shut out.
    Revoked,
}

impl Refusal {
    /// The answer to a client that used `field`, of a server that takes `schemes`.
    pub(super) fn into_error(self, field: Field, schemes: Schemes) -> Error {
        let (status, name) = match field {
            Field::Authorization => (StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE),
            Field::ProxyAuthorization => (
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                PROXY_AUTHENTICATE,
            ),
        };
        // RFC 6750 §3.1: no error code for who has sent no token.
        let (message, bearer) = match self {
            Self::Malformed(reason) => return Error::bad_request(reason),
            Self::TooMany(seconds) => {
                let text = "too many wrong passwords from this address";
                return Error::new(StatusCode::TOO_MANY_REQUESTS, text)
                    .with_header(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Busy => {
                let text = "too many passwords are waiting to be looked at";
                return Error::new(StatusCode::SERVICE_UNAVAILABLE, text)
                    .with_header(RETRY_AFTER, HeaderValue::from(1));
            }
            Self::Missing => ("no credentials", concat!("Bearer ", realm!())),
            Self::Password => ("wrong name or password", concat!("Bearer ", realm!())),
            Self::Token(reason) => (
                reason,
                concat!("Bearer ", realm!(), r#", error="invalid_token""#),
            ),
            Self::Expired => (
                "the token has expired",
                concat!(
                    "Bearer ",
                    realm!(),
                    r#", error="invalid_token", error_description="expired""#
                ),
            ),
            Self::Revoked => (
                "revoked",
                concat!(
                    "Bearer ",
                    realm!(),
                    r#", error="invalid_token", error_description="revoked""#
                ),
            ),
        };
        if schemes == Schemes::default() {
            // A challenge is what 401 is for (RFC 9110 §15.5.2), and certificates have none.
            return Error::new(StatusCode::FORBIDDEN, message);
        }
        let error = Error::new(status, message);
        challenge(error, &name, schemes, bearer)
    }
}

fn challenge(error: Error, name: &HeaderName, schemes: Schemes, bearer: &'static str) -> Error {
    let basic = concat!("Basic ", realm!(), r#", charset="UTF-8""#);
    [(schemes.bearer, bearer), (schemes.basic, basic)]
        .into_iter()
        .filter(|(is_taken, _)| *is_taken)
        .fold(error, |error, (_, text)| {
            error.with_header(name.clone(), HeaderValue::from_static(text))
        })
}

/// 403: somebody known, without `permission`.
pub(crate) fn not_permitted(is_bearer: bool) -> Error {
    let error = Error::new(StatusCode::FORBIDDEN, "the identity lacks the permission");
    if !is_bearer {
        return error;
    }
    // RFC 6750 §3.1.
    let text = concat!("Bearer ", realm!(), r#", error="insufficient_scope""#);
    error.with_header(WWW_AUTHENTICATE, HeaderValue::from_static(text))
}
