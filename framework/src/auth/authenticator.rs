//! [`Authenticator`]: from a request's credentials to an identity.

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::authorities::Authorities;
use super::credentials::{self, Credentials, Field, Malformed, Secret};
use super::gate::Gate;
use super::holding::Holding;
use super::identity::{ClientCertificate, Identity, IdentityKind, Proof};
use super::refusal::{Refusal, Schemes};
use super::token::TokenSecret;
use super::users::{Revoked, Roster, User, Users, hex};
use super::watched::{FileError, Privacy, Watched};
use crate::config::{AuthConfig, ConfigError};
use crate::error::Result;
use crate::request::Request;

/// How often files are looked at, at most. What changes in them is in force within ten seconds: this,
/// and the time between two questions of a tunnel.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Finds out who sent a request. Shared by all workers, behind an `Arc`.
///
/// Files are looked at when somebody asks, at most every two seconds: that needs no thread, and a
/// server without requests and tunnels has nothing to let go.
#[derive(Debug)]
pub struct Authenticator {
    tokens: Option<Watched<TokenSecret>>,
    users: Option<Watched<Users>>,
    roster: Option<Watched<Roster>>,
    authorities: Option<Watched<Authorities>>,
    /// What everybody has whom one of them vouches for.
    vouched: Holding,
    revoked: Option<Watched<Revoked>>,
    gate: Mutex<Gate>,
    next_look: Mutex<Instant>,
}

/// What a request presents, apart from it: futures that outlive a borrow of its body cannot be sent.
struct Presented {
    field: Field,
    credentials: Result<Option<Credentials>, Malformed>,
    certificate: Option<ClientCertificate>,
    peer: IpAddr,
}

impl Authenticator {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// The first mistake in one of them, or a file that is not there: then `refuse` makes the error
    /// from its key and a message.
    pub(crate) fn open(
        config: &AuthConfig,
        refuse: impl Fn(&str, String) -> ConfigError,
    ) -> Result<Self, ConfigError> {
        let open = Opener { refuse };
        Ok(Self {
            tokens: open.file(
                "jwt_secret_file",
                config.jwt_secret_file.as_deref(),
                Privacy::Secret,
                TokenSecret::parse,
            )?,
            users: open.file(
                "users_file",
                config.users_file.as_deref(),
                Privacy::Secret,
                Users::parse,
            )?,
            roster: open.file(
                "client_keys_file",
                config.client_keys_file.as_deref(),
                Privacy::Public,
                Roster::parse,
            )?,
            revoked: open.file(
                "revoked_file",
                config.revoked_file.as_deref(),
                Privacy::Public,
                Revoked::parse,
            )?,
            authorities: open.file(
                "client_ca_file",
                config.client_ca_file.as_deref(),
                Privacy::Public,
                Authorities::parse,
            )?,
            vouched: Holding {
                permissions: config.client_ca_permissions.clone(),
                ..Holding::default()
            },
            gate: Mutex::new(Gate::new()),
            next_look: Mutex::new(Instant::now() + LOOK_EVERY),
        })
    }

    /// Goes on where `before` ends: with the passwords that were found right, and with those who guess.
    pub(crate) fn take_over(&self, before: &Self) {
        let gate = before.gate();
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = gate;
    }

    fn gate(&self) -> Gate {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.clone()
    }

    /// The authorities that vouch for client certificates now, for the engine to verify chains with;
    /// `None`: nobody does.
    pub fn authorities(&self) -> Option<Arc<Authorities>> {
        self.look_at_files();
        self.authorities.as_ref().map(Watched::get)
    }

    /// Who sent `request`. Credentials in its fields go before a certificate. Slow work, such as
    /// hashing a password, is done on a blocking thread of the runtime that this is polled on.
    ///
    /// # Errors
    /// 401 or 407 with challenges when no valid credentials came, or 403 where only certificates are
    /// taken; 400 when they are malformed; 429 after too many wrong passwords; 503 when too many
    /// others are being looked at.
    pub fn authenticate(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Identity>> + Send + use<'_> {
        let (field, credentials) = credentials::read(&request.headers);
        let presented = Presented {
            field,
            credentials,
            certificate: request.client_certificate.clone(),
            peer: request.peer.ip(),
        };
        async move {
            let field = presented.field;
            self.find(presented)
                .await
                .map_err(|refusal| refusal.into_error(field, self.schemes()))
        }
    }

    async fn find(&self, presented: Presented) -> Result<Identity, Refusal> {
        self.look_at_files();
        let identity = match (presented.credentials, &self.tokens, &self.users) {
            (Err(Malformed(reason)), _, _) => return Err(Refusal::Malformed(reason)),
            (Ok(Some(Credentials::Bearer(token))), Some(secret), _) => {
                from_token(&secret.get(), &token)?
            }
            (Ok(Some(Credentials::Basic { name, password })), _, Some(users)) => {
                let gate = self.gate();
                let user = gate.pass(users.get(), &name, password, presented.peer);
                from_user(&user.await?)
            }
            // A scheme that is not taken here says as little as none.
            _ => match &presented.certificate {
                Some(certificate) => self.member(certificate).ok_or(Refusal::Missing)?,
                None => return Err(Refusal::Missing),
            },
        };
        if self.is_revoked(&identity) {
            return Err(Refusal::Revoked);
        }
        match identity.expires() {
            Some(expires) if expires <= SystemTime::now() => Err(Refusal::Expired),
            _ => Ok(identity),
        }
    }

    /// Whether `identity`, which this or an earlier authenticator found, would still be let in: it
    /// has not expired, was not revoked, and has lost none of its permissions. Cheap enough for
    /// every tunnel to ask every few seconds. An anonymous client is always let in. Limits that have
    /// changed are those of the next tunnel.
    pub fn is_still_valid(&self, identity: &Identity) -> bool {
        if identity.is_anonymous() {
            return true;
        }
        self.look_at_files();
        let now = SystemTime::now();
        let has_expired = |expires: Option<SystemTime>| expires.is_some_and(|end| end <= now);
        if has_expired(identity.expires()) || self.is_revoked(identity) {
            return false;
        }
        let current = match identity.proof() {
            Proof::None => return true,
            Proof::Token { secret, .. } => {
                let tokens = self.tokens.as_ref().map(Watched::get);
                return tokens.is_some_and(|tokens| tokens.digest() == secret);
            }
            Proof::Password(user) => {
                let users = self.users.as_ref().map(Watched::get);
                let current = users.and_then(|users| users.get(&user.name).cloned());
                let current = current.filter(|current| current.hash == user.hash);
                current.map(|user| user.holding.clone())
            }
            Proof::Certificate(certificate) => {
                let current = self.member(certificate);
                let current = current.filter(|current| current.name() == identity.name());
                current.map(|current| Holding {
                    permissions: current.permissions().into(),
                    limits: *current.limits(),
                    expires: current.expires(),
                })
            }
        };
        current.is_some_and(|current| {
            let mut held = identity.permissions().iter();
            !has_expired(current.expires) && held.all(|held| current.permissions.contains(held))
        })
    }

    /// Who a certificate belongs to: by its key, or else by the authority that vouches for its name.
    fn member(&self, certificate: &ClientCertificate) -> Option<Identity> {
        let roster = self.roster.as_ref().map(Watched::get);
        let member = roster
            .as_ref()
            .and_then(|roster| roster.get(&certificate.spki_sha256));
        let identity = |name: &str, holding: &Holding, expires| {
            Identity::new(name, IdentityKind::Certificate)
                .holding(holding)
                .with_expiry(expires)
                .proven_by(Proof::Certificate(certificate.clone()))
        };
        if let Some(member) = member {
            // The entry vouches for the key, so the certificate around it may be old.
            return Some(identity(
                &member.name,
                &member.holding,
                member.holding.expires,
            ));
        }
        let authorities = self.authorities.as_ref().map(Watched::get)?;
        certificate
            .authority
            .filter(|authority| authorities.contains(authority))?;
        let name = certificate.name.as_deref()?;
        super::holding::is_name(name).then(|| identity(name, &self.vouched, certificate.not_after))
    }

    fn is_revoked(&self, identity: &Identity) -> bool {
        let Some(revoked) = self.revoked.as_ref().map(Watched::get) else {
            return false;
        };
        let is_listed = |entry: &str| revoked.contains(entry);
        let proof = match identity.proof() {
            Proof::Token { id, .. } => id.as_deref().is_some_and(is_listed),
            Proof::Certificate(certificate) => is_listed(&hex(&certificate.spki_sha256)),
            Proof::Password(_) | Proof::None => false,
        };
        proof || identity.name().is_some_and(is_listed)
    }

    fn schemes(&self) -> Schemes {
        Schemes {
            bearer: self.tokens.is_some(),
            basic: self.users.is_some(),
        }
    }

    /// Reads files that have changed. One caller in two seconds does it; the others go on.
    fn look_at_files(&self) {
        let Ok(mut next) = self.next_look.try_lock() else {
            return;
        };
        let now = Instant::now();
        if now < *next {
            return;
        }
        *next = now + LOOK_EVERY;
        self.refresh();
    }

    pub(super) fn refresh(&self) {
        self.tokens.iter().for_each(Watched::refresh);
        self.users.iter().for_each(Watched::refresh);
        self.roster.iter().for_each(Watched::refresh);
        self.authorities.iter().for_each(Watched::refresh);
        self.revoked.iter().for_each(Watched::refresh);
    }
}

fn from_token(secret: &Arc<TokenSecret>, token: &Secret) -> Result<Identity, Refusal> {
    let token = secret.verify(token.expose(), SystemTime::now())?;
    let proof = Proof::Token {
        secret: *secret.digest(),
        id: token.id,
    };
    Ok(Identity::new(token.name, IdentityKind::Bearer)
        .holding(&token.holding)
        .proven_by(proof))
}

fn from_user(user: &Arc<User>) -> Identity {
    Identity::new(user.name.clone(), IdentityKind::Basic)
        .holding(&user.holding)
        .proven_by(Proof::Password(user.clone()))
}

/// Opens files that a configuration may name.
struct Opener<F> {
    refuse: F,
}

impl<F: Fn(&str, String) -> ConfigError> Opener<F> {
    fn file<T>(
        &self,
        key: &str,
        path: Option<&Path>,
        privacy: Privacy,
        parse: fn(&str, &Path) -> Result<T, ConfigError>,
    ) -> Result<Option<Watched<T>>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        match Watched::open(path, privacy, parse) {
            Ok(file) => Ok(Some(file)),
            Err(FileError::Unreadable(message)) => Err((self.refuse)(key, message)),
            Err(FileError::Content(mistake)) => Err(mistake),
        }
    }
}

#[cfg(test)]
mod tests;
