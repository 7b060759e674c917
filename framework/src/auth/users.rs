//! What the files of names say: [`Users`] with passwords, the [`Roster`] of certificates, and whoever
//! is [`Revoked`].

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::holding::{Holding, HoldingKeys, entry_of, is_name};
use super::password::{Cost, PasswordHash};
use crate::config::{ConfigError, End, JsonPath, Source};

/// The users file: names, and the hashes of their passwords.
#[derive(Debug)]
pub(super) struct Users {
    users: HashMap<String, Arc<User>>,
    /// What the hashes of all users cost, sorted.
    costs: Vec<Cost>,
}

/// Which stand-in a name has, from one reload to the next.
static CHOICE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// One entry of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) hash: PasswordHash,
    pub(super) holding: Holding,
}

impl Users {
    /// Reads `{ "NAME": { "hash": "$argon2id$…", "permissions": […], … }, … }`.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut users = HashMap::new();
        for entry in Entries::read(text, file)?.iter() {
            let (name, at, keys) = entry?;
            if !is_name(name) || name.contains(':') {
                let message = "expected a name of 1 to 255 bytes without colons (RFC 7617)";
                return Err(keys.source.error(&at, End::Key, message));
            }
            let hash = keys.text("hash", &at)?;
            let hash = PasswordHash::parse(hash)
                .map_err(|message| keys.source.error(&at.key("hash"), End::Value, message))?;
            let user = User {
                name: name.into(),
                hash,
                holding: keys.holding("hash", &at)?,
            };
            users.insert(name.into(), Arc::new(user));
        }
        let mut costs: Vec<_> = users.values().map(|user| user.hash.cost()).collect();
        costs.sort_unstable();
        Ok(Self { users, costs })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// A hash that is nobody's, for a name that is nobody's: always one of the same cost. Where users have
    /// hashes of several costs, names without a user have them as often, so that the time tells nothing.
    pub(super) fn stand_in(&self, name: &str) -> PasswordHash {
        let count = self.costs.len().max(1) as u64;
        let choice = (CHOICE.hash_one(name) % count) as usize;
        PasswordHash::stand_in(self.costs.get(choice).copied().unwrap_or_default())
    }
}

/// The roster: certificates by the SHA-256 of their public key, whoever signed them.
#[derive(Debug)]
pub(super) struct Roster(HashMap<[u8; 32], Member>);

/// One entry of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) holding: Holding,
}

impl Roster {
    /// Reads `{ "HEX": { "name": "…", "permissions": […], … }, … }`.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut members = HashMap::new();
        for entry in Entries::read(text, file)?.iter() {
            let (key, at, keys) = entry?;
            let refuse = |at: &JsonPath, end, message: &str| keys.source.error(at, end, message);
            let digest = parse_digest(key).ok_or_else(|| {
                let message = "expected the SHA-256 of a public key, 64 hexadecimal digits";
                refuse(&at, End::Key, message)
            })?;
            let name = keys.text("name", &at)?;
            if !is_name(name) {
                let message = "expected a name of 1 to 255 bytes without control characters";
                return Err(refuse(&at.key("name"), End::Value, message));
            }
            let member = Member {
                name: name.into(),
                holding: keys.holding("name", &at)?,
            };
            if members.insert(digest, member).is_some() {
                return Err(refuse(&at, End::Key, "this key is already in the file"));
            }
        }
        Ok(Self(members))
    }

    pub(super) fn get(&self, spki_sha256: &[u8; 32]) -> Option<&Member> {
        self.0.get(spki_sha256)
    }
}

/// Who is shut out, whatever they present: names, IDs of tokens and digests of keys, one to a line.
/// Digests are spelled as in the roster.
#[derive(Debug)]
pub(super) struct Revoked(HashSet<String>);

impl Revoked {
    /// Reads one entry from each line. Empty lines, and those that begin with `#`, say nothing.
    #[expect(clippy::unnecessary_wraps, reason = "all files are read by one type")]
    pub(super) fn parse(text: &str, _file: &Path) -> Result<Self, ConfigError> {
        let lines = text.lines().map(entry_of);
        let mut entries = HashSet::new();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            // Beside itself, because it may be the ID of a token.
            entries.extend(parse_digest(line).map(|digest| hex(&digest)));
            entries.insert(line.to_owned());
        }
        Ok(Self(entries))
    }

    pub(super) fn contains(&self, entry: &str) -> bool {
        self.0.contains(entry)
    }
}

/// What the files of `auth` say, for the fuzz targets: names, or whatever else tells entries apart.
#[doc(hidden)]
pub mod contents {
    use std::path::Path;

    use super::{Revoked, Roster, Users, hex};
    use crate::config::ConfigError;

    /// The names in a users file.
    pub fn users(text: &str, file: &Path) -> Result<Vec<String>, ConfigError> {
        let users = Users::parse(text, file)?.users;
        Ok(users.into_keys().collect())
    }

    /// The digests and the names in a roster.
    pub fn roster(text: &str, file: &Path) -> Result<Vec<(String, String)>, ConfigError> {
        let members = Roster::parse(text, file)?.0.into_iter();
        Ok(members
            .map(|(digest, member)| (hex(&digest), member.name))
            .collect())
    }

    /// The entries of a file of those who are shut out.
    pub fn revoked(text: &str, file: &Path) -> Result<Vec<String>, ConfigError> {
        Ok(Revoked::parse(text, file)?.0.into_iter().collect())
    }
}

/// 64 hexadecimal digits, as `sha256sum` prints them; colons between bytes are passed over.
fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    Some(digest)
}

/// A digest as it stands in files.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is one object of objects.
struct Entries {
    source: Source,
    entries: Map<String, Value>,
}

/// One object of it.
struct Keys<'a> {
    source: &'a Source,
    keys: Map<String, Value>,
}

impl Entries {
    fn read(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let (source, value) = Source::parse(text, file)?;
        let entries = source.read(&value, &JsonPath::default())?;
        Ok(Self { source, entries })
    }

    fn iter(&self) -> impl Iterator<Item = Result<(&str, JsonPath, Keys<'_>), ConfigError>> {
        self.entries.iter().map(|(name, value)| {
            let at = JsonPath::default().key(name);
            let Value::Object(keys) = value else {
                let message = "expected an object";
                return Err(self.source.error(&at, End::Value, message));
            };
            let (source, keys) = (&self.source, keys.clone());
            Ok((name.as_str(), at, Keys { source, keys }))
        })
    }
}

impl Keys<'_> {
    /// The text that must stand under `key`. An error does not show what was found: it may be a
    /// password.
    fn text(&self, key: &str, at: &JsonPath) -> Result<&str, ConfigError> {
        match self.keys.get(key) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self
                .source
                .error(&at.key(key), End::Value, "expected a string")),
            None => Err(self
                .source
                .error(at, End::Value, format!("missing key {key:?}"))),
        }
    }

    /// All keys but `own`.
    fn holding(&self, own: &str, at: &JsonPath) -> Result<Holding, ConfigError> {
        let mut keys = self.keys.clone();
        keys.remove(own);
        let value = Value::Object(keys);
        let keys: HoldingKeys = serde_path_to_error::deserialize(&value)
            .map_err(|error| self.source.explain(&value, at, &error, &[own]))?;
        Ok(keys.into())
    }
}

#[cfg(test)]
mod tests;
