//! [`Credentials`]: what a client shows a server to be let in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// The longest token that is taken, in bytes: what fits into the header section of one request, with
/// room for everything else (`limits.header_section_bytes` is 16 KiB by default).
const MAX_TOKEN_LEN: usize = 8 << 10;

/// The value of `authorization` (RFC 9110 §11.6.2), which a client sends to one server and no other.
///
/// `Debug` shows the scheme and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    scheme: &'static str,
    field: HeaderValue,
}

/// Why something cannot be used as [`Credentials`]. Never holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// There is nothing in it.
    #[error("there is no token in it")]
    NoToken,
    /// A token has letters, digits, `-._~+/` and `=` at its end (RFC 6750 §2.1).
    #[error("that is no bearer token: character {0} is none that a token can have")]
    NotAToken(usize),
    /// It fits into no request.
    #[error("the token is longer than {MAX_TOKEN_LEN} bytes")]
    TooLong,
    /// A colon ends the user's name (RFC 7617 §2).
    #[error("a user's name has no colon and no control characters")]
    User,
    /// Control characters are in no password (RFC 7617 §2).
    #[error("a password has no control characters")]
    Password,
}

impl Credentials {
    /// A bearer token, such as a JWT (RFC 6750 §2.1). White space around it is no part of it.
    ///
    /// # Errors
    /// It is empty, too long, or has a character that no token has.
    pub fn bearer(token: &str) -> Result<Self, CredentialsError> {
        let token = token.trim_ascii();
        if token.is_empty() {
            return Err(CredentialsError::NoToken);
        }
        if token.len() > MAX_TOKEN_LEN {
            return Err(CredentialsError::TooLong);
        }
        let body = token.trim_end_matches('=');
        let is_wrong = |byte: u8| !byte.is_ascii_alphanumeric() && !b"-._~+/".contains(&byte);
        if let Some(index) = body.bytes().position(is_wrong) {
            return Err(CredentialsError::NotAToken(index + 1));
        }
        let field = sensitive(format!("Bearer {token}"));
        Ok(Self {
            scheme: "Bearer",
            field: field.ok_or(CredentialsError::NotAToken(1))?,
        })
    }

    /// A user and a password, in UTF-8 (RFC 7617 §2).
    ///
    /// # Errors
    /// One of them has a character that it cannot have.
    pub fn basic(user: &str, password: &str) -> Result<Self, CredentialsError> {
        if user.is_empty() || user.contains(':') || user.contains(char::is_control) {
            return Err(CredentialsError::User);
        }
        if password.contains(char::is_control) {
            return Err(CredentialsError::Password);
        }
        if user.len() + password.len() > MAX_TOKEN_LEN / 2 {
            return Err(CredentialsError::TooLong);
        }
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        let field = sensitive(format!("Basic {encoded}"));
        Ok(Self {
            scheme: "Basic",
            field: field.ok_or(CredentialsError::Password)?,
        })
    }

    /// The value of the field. It is marked as sensitive: `Debug` does not show it, and it enters no
    /// table of a header compression (RFC 9204 §7.1.3).
    pub fn field(&self) -> HeaderValue {
        self.field.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} …)", self.scheme)
    }
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_what_rfc_6750_says() {
        let credentials = Credentials::bearer(" mF_9.B5f-4.1JqM==\n").unwrap();
        assert_eq!(credentials.field(), "Bearer mF_9.B5f-4.1JqM==");
        assert!(credentials.field().is_sensitive());
        for (wrong, error) in [
            ("", CredentialsError::NoToken),
            (" \n", CredentialsError::NoToken),
            ("two words", CredentialsError::NotAToken(4)),
            ("a\u{e9}", CredentialsError::NotAToken(2)),
            ("a=b", CredentialsError::NotAToken(2)),
            ("a\r\nx: y", CredentialsError::NotAToken(2)),
            ("\u{0}", CredentialsError::NotAToken(1)),
        ] {
            assert_eq!(Credentials::bearer(wrong), Err(error), "{wrong:?}");
        }
        let long = "x".repeat(MAX_TOKEN_LEN + 1);
        assert_eq!(Credentials::bearer(&long), Err(CredentialsError::TooLong));
        Credentials::bearer(&long[1..]).unwrap();
    }

    #[test]
    fn user_and_password_are_encoded_as_in_rfc_7617() {
        let field = |user, password| Credentials::basic(user, password).unwrap().field();
        // §2 and §2.1.
        assert_eq!(
            field("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(field("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(field("a", ":"), "Basic YTo6");
        assert_eq!(Credentials::basic("a:b", "x"), Err(CredentialsError::User));
        assert_eq!(Credentials::basic("", "x"), Err(CredentialsError::User));
        let split = Credentials::basic("a", "x\r\ny");
        assert_eq!(split, Err(CredentialsError::Password));
    }

    #[test]
    fn nothing_of_it_is_shown() {
        for credentials in [
            Credentials::bearer("hunter2").unwrap(),
            Credentials::basic("me", "hunter2").unwrap(),
        ] {
            let shown = format!("{credentials:?} {:?}", credentials.field());
            let encoded = STANDARD.encode("me:hunter2");
            assert!(
                !shown.contains("hunter2") && !shown.contains(&encoded),
                "{shown}"
            );
        }
        let error = Credentials::bearer("hunter2 hunter2").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
