//! Bearer tokens: JSON Web Tokens (RFC 7519) signed with HMAC SHA-256 and one secret.

use std::fmt;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::holding::{Holding, Quantity, is_name};
use super::identity::IdentityLimits;
use super::refusal::Refusal;
use super::watched::{FileError, Privacy, Watched};
use crate::config::ConfigError;

/// How far the clock of whoever signs tokens may be from ours, for `exp` and `nbf`.
const LEEWAY: Duration = Duration::from_secs(5);

/// RFC 7518 §3.2: a key as long as the hash, or longer.
const SECRET_MIN_LEN: usize = 32;

/// The secret that tokens are signed with.
pub(super) struct TokenSecret {
    signing: EncodingKey,
    verifying: DecodingKey,
    /// Tells one secret from another.
    digest: [u8; 32],
}

/// What a token says, once its signature and its time were found good.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) holding: Holding,
}

/// What goes into a new token.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Whose token it is: the claim `sub`.
    pub name: String,
    /// What it permits.
    pub permissions: Vec<String>,
    /// How long it is good, from now.
    pub lifetime: Duration,
    /// What its owner may use.
    pub limits: IdentityLimits,
    /// What it is called, so that it alone can be revoked: the claim `jti`.
    pub id: String,
}

/// A token for `grant`, signed with the secret in the file at `path`. `refuse` makes an error of a
/// message about that file.
pub(crate) fn sign(
    path: &Path,
    grant: &Grant,
    refuse: impl Fn(String) -> ConfigError,
) -> Result<String, ConfigError> {
    let secret = match Watched::open(path, Privacy::Secret, TokenSecret::parse) {
        Ok(secret) => secret.get(),
        Err(FileError::Unreadable(message)) => return Err(refuse(message)),
        Err(FileError::Content(mistake)) => return Err(mistake),
    };
    secret.sign(grant).map_err(refuse)
}

#[derive(Deserialize, Serialize)]
struct Claims {
    sub: String,
    /// `NumericDate` (RFC 7519 §2) may have a fraction.
    exp: serde_json::Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<serde_json::Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tunnels: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<Quantity>,
}

impl TokenSecret {
    /// The secret in the text of a file: all of it but the end of its last line.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.len() < SECRET_MIN_LEN {
            return Err(ConfigError::whole(
                file,
                format!(
                    "the secret has {} bytes, expected at least {SECRET_MIN_LEN}: make one with \
                     `openssl rand -hex 32`",
                    secret.len()
                ),
            ));
        }
        install_hs256();
        Ok(Self {
            signing: EncodingKey::from_secret(secret.as_bytes()),
            verifying: DecodingKey::from_secret(secret.as_bytes()),
            digest: Sha256::digest(secret.as_bytes()).into(),
        })
    }

    /// What differs between any two secrets, and gives neither away.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// A token for `grant`.
    ///
    /// # Errors
    /// A lifetime beyond what a number of seconds can say.
    pub(super) fn sign(&self, grant: &Grant) -> Result<String, String> {
        let now = since_epoch(SystemTime::now());
        let end = now
            .checked_add(grant.lifetime)
            .ok_or("the lifetime is too long")?;
        let claims = Claims {
            sub: grant.name.clone(),
            exp: end.as_secs().into(),
            iat: Some(now.as_secs().into()),
            jti: Some(grant.id.clone()),
            permissions: grant.permissions.clone(),
            tunnels: grant.limits.tunnels.map(|count| Quantity(count as u64)),
            rate: grant.limits.rate.map(Quantity),
            volume: grant.limits.volume.map(Quantity),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|error| format!("cannot sign: {error}"))
    }

    /// What `token` says at the time `now`. Its signature is checked before any claim is read.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Token, Refusal> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        let token = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation);
        let token = token.map_err(|error| refusal(&error))?;
        // RFC 7515 §4.1.11: extensions that must be understood, and are not.
        if token.header.crit.is_some() {
            return Err(Refusal::Token("the token has critical extensions"));
        }
        let claims = token.claims;
        let expires = expiry(&claims.exp).ok_or(Refusal::Token("the token's exp is no time"))?;
        if expires <= now {
            return Err(Refusal::Expired);
        }
        if !is_name(&claims.sub) {
            return Err(Refusal::Token("the token's sub is no name"));
        }
        let tunnels = claims.tunnels.map(|Quantity(count)| count);
        Ok(Token {
            name: claims.sub,
            id: claims.jti,
            holding: Holding {
                permissions: claims.permissions,
                limits: IdentityLimits {
                    tunnels: tunnels.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
                    rate: claims.rate.map(|Quantity(rate)| rate),
                    volume: claims.volume.map(|Quantity(volume)| volume),
                },
                expires: Some(expires),
            },
        })
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

/// When a token with this `exp` is no longer good.
fn expiry(exp: &serde_json::Number) -> Option<SystemTime> {
    let end = Duration::try_from_secs_f64(exp.as_f64()?).ok()?;
    UNIX_EPOCH.checked_add(end)?.checked_add(LEEWAY)
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Which mistake it is, without anything of the token.
fn refusal(error: &JwtError) -> Refusal {
    match error.kind() {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::Token("the token is not valid yet"),
        ErrorKind::InvalidSignature => Refusal::Token("the token's signature is wrong"),
        ErrorKind::InvalidAlgorithm => Refusal::Token("the token is not signed with HS256"),
        ErrorKind::InvalidAudience => Refusal::Token("the token is for somebody else"),
        ErrorKind::MissingRequiredClaim(_) => Refusal::Token("the token lacks exp"),
        _ => Refusal::Token("the token is malformed"),
    }
}

/// HMAC SHA-256 for `jsonwebtoken`, which has one provider in a process. One that was installed before
/// serves as well: every provider knows HS256.
fn install_hs256() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            let hmac = Hs256::new(*algorithm, Ok(key.as_bytes()))?;
            Ok(Box::new(hmac))
        },
        verifier_factory: |algorithm, key| {
            let hmac = Hs256::new(*algorithm, key.try_get_as_bytes())?;
            Ok(Box::new(hmac))
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: Algorithm, key: Result<&[u8], JwtError>) -> Result<Self, JwtError> {
        if algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let hmac = Hmac::new_from_slice(key?).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Self(hmac))
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let hmac = self.0.clone().chain_update(message);
        Ok(hmac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let hmac = self.0.clone().chain_update(message);
        // In constant time.
        let result = hmac.verify_slice(signature);
        result.map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests;
