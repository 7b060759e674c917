//! [`Identity`]: a name that was proven, and what it carries.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::holding::Holding;
use super::users::User;

/// The identity behind a request. Cheap to clone.
///
/// Names are of one space: a token for `alice` and the password of `alice` are the same client, with
/// the same leases and the same quotas.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity(Option<Arc<Inner>>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    name: String,
    kind: IdentityKind,
    permissions: Vec<String>,
    expires: Option<SystemTime>,
    limits: IdentityLimits,
    proof: Proof,
}

/// What an identity rests on, and ends with.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Somebody's word.
    None,
    /// A token: what its secret is known by, and its own ID.
    Token {
        secret: [u8; 32],
        id: Option<String>,
    },
    /// A password: the entry that it is the right one for.
    Password(Arc<User>),
    /// A certificate.
    Certificate(ClientCertificate),
}

/// How an identity was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdentityKind {
    /// A bearer token (RFC 6750).
    Bearer,
    /// A name and a password (RFC 7617).
    Basic,
    /// A TLS client certificate.
    Certificate,
}

/// What one identity may use, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityLimits {
    /// Tunnels at a time; `None`: as many as the server lets one connection have.
    pub tunnels: Option<usize>,
    /// Bits per second, both directions and all tunnels together; `None`: no limit.
    pub rate: Option<u64>,
    /// Bytes, both directions and all tunnels together; `None`: no limit.
    pub volume: Option<u64>,
}

/// What the engine knows of the certificate that a client showed in its TLS handshake. Its private
/// key was proven to be there; who it belongs to is for the [`Authenticator`](super::Authenticator)
/// to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the leaf's SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), DER.
    pub spki_sha256: [u8; 32],
    /// The first name of the subject's alternative names, or else its common name.
    pub name: Option<String>,
    /// When the certificate expires.
    pub not_after: Option<SystemTime>,
    /// The authority of `client_ca_file` that its chain was verified up to: the SHA-256 of that
    /// authority's certificate, DER. `None`: its chain leads to none of them.
    pub authority: Option<[u8; 32]>,
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The identity `name`, without permissions, expiry and limits.
    pub fn new(name: impl Into<String>, kind: IdentityKind) -> Self {
        Self(Some(Arc::new(Inner {
            name: name.into(),
            kind,
            permissions: Vec::new(),
            expires: None,
            limits: IdentityLimits::default(),
            proof: Proof::None,
        })))
    }

    /// The same identity with these permissions. Nobody in particular holds none.
    #[must_use]
    pub fn with_permissions<T: Into<String>>(
        self,
        permissions: impl IntoIterator<Item = T>,
    ) -> Self {
        let permissions = permissions.into_iter().map(Into::into).collect();
        self.change(|inner| inner.permissions = permissions)
    }

    /// The same identity until `expires`.
    #[must_use]
    pub fn with_expiry(self, expires: Option<SystemTime>) -> Self {
        self.change(|inner| inner.expires = expires)
    }

    /// The same identity with these limits.
    #[must_use]
    pub fn with_limits(self, limits: IdentityLimits) -> Self {
        self.change(|inner| inner.limits = limits)
    }

    pub(super) fn holding(self, holding: &Holding) -> Self {
        self.change(|inner| {
            inner.permissions.clone_from(&holding.permissions);
            inner.limits = holding.limits;
            inner.expires = holding.expires;
        })
    }

    pub(super) fn proven_by(self, proof: Proof) -> Self {
        self.change(|inner| inner.proof = proof)
    }

    pub(super) fn proof(&self) -> &Proof {
        self.0.as_ref().map_or(&Proof::None, |inner| &inner.proof)
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = &mut self.0 {
            change(Arc::make_mut(inner));
        }
        self
    }

    /// Whether nobody in particular asks.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }

    /// The authenticated name, or `None` for an anonymous client.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|inner| inner.name.as_str())
    }

    /// How the name was proven, or `None` for an anonymous client.
    pub fn kind(&self) -> Option<IdentityKind> {
        self.0.as_ref().map(|inner| inner.kind)
    }

    /// Whether the identity holds `permission`. An anonymous client holds none.
    pub fn holds(&self, permission: &str) -> bool {
        self.permissions().iter().any(|held| held == permission)
    }

    /// All permissions that the identity holds.
    pub fn permissions(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |inner| &inner.permissions)
    }

    /// When the identity ends by itself; `None`: it does not.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.as_ref().and_then(|inner| inner.expires)
    }

    /// What the identity may use. An anonymous client has no limits of its own.
    pub fn limits(&self) -> &IdentityLimits {
        const UNLIMITED: IdentityLimits = IdentityLimits {
            tunnels: None,
            rate: None,
            volume: None,
        };
        self.0.as_ref().map_or(&UNLIMITED, |inner| &inner.limits)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(inner) = &self.0 else {
            return f.write_str("Identity(anonymous)");
        };
        f.debug_struct("Identity")
            .field("name", &inner.name)
            .field("kind", &inner.kind)
            .field("permissions", &inner.permissions)
            .field("expires", &inner.expires)
            .field("limits", &inner.limits)
            .finish()
    }
}
