//! [`Access`]: who may use a mount, and [`Visitor`]: whether this one may.

use http::StatusCode;

use crate::auth::{self, Authenticator, Identity, IdentityKind};
use crate::error::{Error, Result};
use crate::request::Request;

/// Who may use a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everyone. Credentials are not looked at.
    #[default]
    Everyone,
    /// Whoever authenticates.
    Authenticated,
    /// Whoever holds all of these permissions.
    Permitted(Vec<String>),
}

/// Who sent one request. Found out when it is first asked for, and once.
pub(super) struct Visitor<'a> {
    authenticator: Option<&'a Authenticator>,
    found: Option<Result<Identity>>,
}

impl<'a> Visitor<'a> {
    pub(super) fn new(authenticator: Option<&'a Authenticator>) -> Self {
        Self {
            authenticator,
            found: None,
        }
    }

    /// Somebody who was found to be `identity` before. An identity that is no longer valid, or that
    /// nobody can have any more, counts for nothing.
    pub(super) fn known(authenticator: Option<&'a Authenticator>, identity: &Identity) -> Self {
        let is_valid =
            !identity.is_anonymous() && authenticator.is_some_and(|it| it.is_still_valid(identity));
        Self {
            authenticator,
            found: is_valid.then(|| Ok(identity.clone())),
        }
    }

    /// Finds out who sent `request`, which is not borrowed for as long as that takes.
    pub(super) fn look<'s>(
        &'s mut self,
        request: &Request,
    ) -> impl Future<Output = ()> + Send + use<'s, 'a> {
        let asked = match (&self.found, self.authenticator) {
            (Some(_), _) | (None, None) => None,
            (None, Some(authenticator)) => Some(authenticator.authenticate(request)),
        };
        async move {
            if let Some(asked) = asked {
                self.found = Some(asked.await);
            }
        }
    }

    /// The identity with which the visitor may use a mount with `access`.
    ///
    /// # Errors
    /// What [`Authenticator::authenticate`] said, once; 403 without the permission.
    pub(super) fn enter(&mut self, access: &Access) -> Result<Identity> {
        let required: &[String] = match access {
            Access::Everyone => return Ok(Identity::anonymous()),
            Access::Authenticated => &[],
            Access::Permitted(permissions) => permissions,
        };
        let identity = match &self.found {
            Some(Ok(identity)) => identity,
            _ => {
                let refusal = self.found.take().and_then(Result::err);
                let nobody = || Error::new(StatusCode::FORBIDDEN, "nobody can authenticate here");
                return Err(refusal.unwrap_or_else(nobody));
            }
        };
        match required.iter().all(|name| identity.holds(name)) {
            true => Ok(identity.clone()),
            false => Err(auth::not_permitted(
                identity.kind() == Some(IdentityKind::Bearer),
            )),
        }
    }

    /// Whether the visitor may use a mount with `access`. Takes nothing away from
    /// [`enter`](Self::enter).
    pub(super) fn may_enter(&self, access: &Access) -> bool {
        match (access, &self.found) {
            (Access::Everyone, _) => true,
            (Access::Authenticated, found) => matches!(found, Some(Ok(_))),
            (Access::Permitted(required), Some(Ok(identity))) => {
                required.iter().all(|name| identity.holds(name))
            }
            (Access::Permitted(_), _) => false,
        }
    }
}
