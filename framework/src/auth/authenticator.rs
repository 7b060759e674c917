//! [`Authenticator`]: from a request's credentials to an identity.

use std::time::SystemTime;

use http::StatusCode;

use super::identity::Identity;
use crate::error::{Error, Result};
use crate::request::Request;

/// Finds out who sent a request. Shared by all workers, behind an `Arc`.
#[derive(Debug)]
pub struct Authenticator {
    _private: (),
}

impl Authenticator {
    /// Who sent `request`. Slow work, such as hashing a password, is done on a blocking thread.
    ///
    /// # Errors
    /// 401 or 407 with challenges when no valid credentials came, 400 when they are malformed, 429
    /// after too many wrong passwords, 503 when too many others are being looked at.
    pub async fn authenticate(&self, _request: &Request) -> Result<Identity> {
        Err(Error::new(StatusCode::UNAUTHORIZED, "no credentials"))
    }

    /// Whether `identity`, which this or an earlier authenticator found, would still be let in: it
    /// has not expired, was not revoked, and has lost none of its permissions. Cheap enough for
    /// every tunnel to ask every few seconds. An anonymous client is always let in.
    pub fn is_still_valid(&self, identity: &Identity) -> bool {
        identity
            .expires()
            .is_none_or(|expires| SystemTime::now() < expires)
    }
}
