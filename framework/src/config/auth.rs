//! [`AuthConfig`]: the key `auth`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::locate::{End, JsonPath};
use super::source::Source;
use super::{keys, wording};
use crate::auth::{Authenticator, Grant, Permission, sign};

/// The key `auth`: by what clients are told apart. Several kinds serve at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthConfig {
    /// The secret that bearer tokens are signed with (HS256).
    pub jwt_secret_file: Option<PathBuf>,
    /// Names, and the Argon2id hashes of their passwords.
    pub users_file: Option<PathBuf>,
    /// Authorities that vouch for client certificates, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// What those clients may.
    pub client_ca_permissions: Vec<String>,
    /// Client certificates by the SHA-256 of their public key.
    pub client_keys_file: Option<PathBuf>,
    /// Names, IDs of tokens and digests of keys that are shut out.
    pub revoked_file: Option<PathBuf>,
}

/// Its keys, as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthKeys {
    #[serde(default, deserialize_with = "keys::some_file")]
    jwt_secret_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::some_file")]
    users_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::some_file")]
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_ca_permissions: Vec<Permission>,
    #[serde(default, deserialize_with = "keys::some_file")]
    client_keys_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::some_file")]
    revoked_file: Option<PathBuf>,
}

impl AuthConfig {
    /// Reads the value at `at`. Relative paths start in `base_dir`.
    pub(super) fn read(
        source: &Source,
        value: &serde_json::Value,
        at: &JsonPath,
        base_dir: &Path,
    ) -> Result<Self, ConfigError> {
        if !value.is_object() {
            // serde would take a list for an object without its keys.
            let found = wording::describe(value);
            let message = format!("found {found}, expected an object");
            return Err(source.error(at, End::Value, message));
        }
        let keys: AuthKeys = source.read(value, at)?;
        let resolve = |path: Option<PathBuf>| path.map(|path| base_dir.join(path));
        let permissions = keys.client_ca_permissions.into_iter();
        let config = Self {
            jwt_secret_file: resolve(keys.jwt_secret_file),
            users_file: resolve(keys.users_file),
            client_ca_file: resolve(keys.client_ca_file),
            client_ca_permissions: permissions.map(|permission| permission.0).collect(),
            client_keys_file: resolve(keys.client_keys_file),
            revoked_file: resolve(keys.revoked_file),
        };
        let kinds = [
            &config.jwt_secret_file,
            &config.users_file,
            &config.client_ca_file,
            &config.client_keys_file,
        ];
        if kinds.iter().all(|kind| kind.is_none()) {
            let message = "nobody could authenticate: expected \"jwt_secret_file\", \
                           \"users_file\", \"client_ca_file\" or \"client_keys_file\"";
            return Err(source.error(at, End::Value, message));
        }
        if config.client_ca_file.is_none() && !config.client_ca_permissions.is_empty() {
            let message = "needs \"client_ca_file\": these are the permissions of its clients";
            return Err(source.error(&at.key("client_ca_permissions"), End::Key, message));
        }
        Ok(config)
    }

    /// Whether clients are asked for a certificate in the TLS handshake.
    pub fn asks_for_certificates(&self) -> bool {
        self.client_ca_file.is_some() || self.client_keys_file.is_some()
    }
}

impl super::ServerConfig {
    /// A bearer token for `grant`, signed with the secret of this configuration.
    ///
    /// # Errors
    /// The configuration names no secret, it is of no use, or the lifetime is too long.
    pub fn sign_token(&self, grant: &Grant) -> Result<String, ConfigError> {
        let at = JsonPath::default().key("auth");
        let auth = self.auth.as_ref();
        let Some(path) = auth.and_then(|auth| auth.jwt_secret_file.as_ref()) else {
            let message = "needs \"jwt_secret_file\": tokens are signed with a secret";
            return Err(self.source.error(&at, End::Value, message));
        };
        let at = at.key("jwt_secret_file");
        sign(path, grant, |message| {
            self.source.error(&at, End::Value, message)
        })
    }

    /// What finds out who asks, its files read; `None` without the key `auth`.
    pub(crate) fn authenticator(&self) -> Result<Option<Authenticator>, ConfigError> {
        let Some(auth) = &self.auth else {
            return Ok(None);
        };
        let at = JsonPath::default().key("auth");
        let refuse = |key: &str, message| self.source.error(&at.key(key), End::Value, message);
        Authenticator::open(auth, refuse).map(Some)
    }
}
