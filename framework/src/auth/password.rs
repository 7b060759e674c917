//! [`PasswordHash`]: Argon2id (RFC 9106) as a PHC string.

use std::fmt;

use argon2::password_hash::{self, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq;

/// Bounds on what a hash of the users file may cost, so that one entry cannot stop everybody: memory
/// in KiB, passes over it, lanes.
const MAX_COST: (u32, u32, u32) = (256 << 10, 16, 16);

const SALT_LEN: usize = 16;
const OUTPUT_LEN: usize = 32;

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordHash {
    cost: Cost,
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// What a hash costs to compute. The order is that of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Memory to hash in. It is as large as the dearest hash needs, and kept: the allocator would keep as
/// much for each thread that ever hashed.
pub(super) type Scratch = Vec<Block>;

impl PasswordHash {
    /// Reads a PHC string. The error shows nothing of it: it may be a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "expected an Argon2id hash: make one with `psq-server hash-password`";
        let phc = password_hash::PasswordHash::new(text).map_err(|_| FORM)?;
        let is_known = phc.algorithm == Algorithm::Argon2id.ident()
            && phc.version == Some(Version::V0x13.into());
        let (Some(salt), Some(output), true) = (phc.salt, phc.hash, is_known) else {
            return Err(FORM);
        };
        let params = Params::try_from(&phc).map_err(|_| FORM)?;
        let cost = Cost {
            memory_kib: params.m_cost(),
            passes: params.t_cost(),
            lanes: params.p_cost(),
        };
        let (memory_kib, passes, lanes) = MAX_COST;
        if cost.memory_kib > memory_kib || cost.passes > passes || cost.lanes > lanes {
            return Err("expected a hash with at most m=262144, t=16 and p=16");
        }
        let mut buffer = [0; Salt::MAX_LENGTH];
        let salt = salt.decode_b64(&mut buffer).map_err(|_| FORM)?;
        if salt.len() < argon2::MIN_SALT_LEN {
            return Err("expected a salt of at least 8 bytes");
        }
        Ok(Self {
            cost,
            salt: salt.into(),
            output: output.as_bytes().into(),
        })
    }

    /// A hash that no password has.
    pub(super) fn stand_in(cost: Cost) -> Self {
        Self {
            cost,
            salt: rand::random::<[u8; SALT_LEN]>().into(),
            output: rand::random::<[u8; OUTPUT_LEN]>().into(),
        }
    }

    /// What a look at a password costs.
    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether this is the hash of `password`. Takes tens of milliseconds, and the comparison the
    /// same for every password.
    pub(super) fn matches(&self, password: &str, scratch: &mut Scratch) -> bool {
        let mut output = vec![0; self.output.len()];
        let done = self
            .cost
            .hash(password, &self.salt, &mut output, scratch)
            .is_ok();
        done & bool::from(output.ct_eq(&self.output))
    }
}

impl Cost {
    fn hash(
        self,
        password: &str,
        salt: &[u8],
        output: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(), argon2::Error> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(output.len()))?;
        let blocks = params.block_count();
        if scratch.len() < blocks {
            scratch.resize(blocks, Block::default());
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let memory = scratch.get_mut(..blocks).unwrap_or_default();
        argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, memory)
    }
}

impl Default for Cost {
    /// 19 MiB and two passes, which OWASP recommends.
    fn default() -> Self {
        Self {
            memory_kib: Params::DEFAULT_M_COST,
            passes: Params::DEFAULT_T_COST,
            lanes: Params::DEFAULT_P_COST,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// The Argon2id hash of `password` with a new salt, for the key `hash` of a users file. Takes tens of
/// milliseconds.
///
/// # Errors
/// There is not enough memory.
pub fn hash_password(password: &str) -> Result<String, String> {
    let refuse = |error: password_hash::Error| format!("cannot hash: {error}");
    let salt: [u8; SALT_LEN] = rand::random();
    let cost = Cost::default();
    let mut output = [0; OUTPUT_LEN];
    cost.hash(password, &salt, &mut output, &mut Scratch::new())
        .map_err(|error| format!("cannot hash: {error}"))?;
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)
        .map_err(|error| format!("cannot hash: {error}"))?;
    let salt = SaltString::encode_b64(&salt).map_err(refuse)?;
    let phc = password_hash::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: (&params).try_into().map_err(refuse)?,
        salt: Some(salt.as_salt()),
        hash: Some(password_hash::Output::new(&output).map_err(refuse)?),
    };
    Ok(phc.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1`.
    const REFERENCE: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
        CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn the_reference_implementation_is_agreed_with() {
        let hash = PasswordHash::parse(REFERENCE).unwrap();
        let mut scratch = Scratch::new();
        assert!(hash.matches("password", &mut scratch));
        assert!(!hash.matches("Password", &mut scratch));
        // Memory that a dearer hash has left behind changes nothing.
        let text = hash_password("p\u{f6}").unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let cheaper = PasswordHash::parse(&text).unwrap();
        assert!(cheaper.matches("p\u{f6}", &mut scratch));
        assert!(!cheaper.matches("", &mut scratch));
    }

    #[test]
    fn what_is_no_argon2id_hash_is_refused_without_being_shown() {
        let too_dear = [
            REFERENCE.replace("m=65536", "m=262145"),
            REFERENCE.replace("t=2", "t=17"),
            REFERENCE.replace("p=1", "p=17"),
        ];
        let wrong = [
            "hunter2-planted",
            "",
            "$2b$12$planted",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=65536,t=2,p=1$c29t$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            &REFERENCE.replace("argon2id", "argon2i"),
            &REFERENCE.replace("v=19", "v=16"),
            &REFERENCE.replace("v=19$", ""),
        ];
        for text in wrong.into_iter().chain(too_dear.iter().map(String::as_str)) {
            let error = PasswordHash::parse(text).unwrap_err();
            assert!(error.starts_with("expected "), "{text}: {error}");
        }
    }
}
