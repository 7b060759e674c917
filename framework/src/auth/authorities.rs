//! [`Authorities`]: who may vouch for the names in client certificates.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::config::ConfigError;

/// The file of authorities, PEM (RFC 7468). Whether a chain leads to one of them is for TLS to find out;
/// this says who they are now.
pub struct Authorities {
    pem: String,
    /// SHA-256 of each certificate, DER.
    digests: HashSet<[u8; 32]>,
}

impl Authorities {
    /// Finds the certificates in the text of a file, where TLS finds them: between lines that are a marker
    /// and nothing else.
    pub(super) fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut digests = HashSet::new();
        let refuse = |message: &str| ConfigError::whole(file, message);
        let mut lines = text.lines().map(str::trim_end);
        while lines.any(|line| line == "-----BEGIN CERTIFICATE-----") {
            let mut base64 = String::new();
            loop {
                match lines.next() {
                    None => return Err(refuse("a certificate has no end")),
                    Some("-----END CERTIFICATE-----") => break,
                    Some(line) => base64.extend(line.split_ascii_whitespace()),
                }
            }
            let der = STANDARD.decode(base64);
            let der = der.map_err(|_| refuse("a certificate is not base64"))?;
            digests.insert(Sha256::digest(der).into());
        }
        if digests.is_empty() {
            let message = "found no certificate, expected those of authorities, PEM";
            return Err(ConfigError::whole(file, message));
        }
        let pem = text.to_owned();
        Ok(Self { pem, digests })
    }

    /// The text of the file.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether the authority is one of them whose certificate has this SHA-256.
    pub(super) fn contains(&self, digest: &[u8; 32]) -> bool {
        self.digests.contains(digest)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.digests.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Authorities, ConfigError> {
        Authorities::parse(text, Path::new("clients.pem"))
    }

    fn pem(der: &str) -> String {
        let base64 = STANDARD.encode(der);
        let (first, second) = base64.split_at(base64.len() / 2);
        format!("-----BEGIN CERTIFICATE-----\n{first}\r\n{second}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn each_certificate_of_the_file_is_an_authority() {
        let text = format!("first\n{}\nsecond\n{}", pem("one"), pem("another"));
        let authorities = parse(&text).unwrap();
        for der in ["one", "another"] {
            assert!(authorities.contains(&Sha256::digest(der).into()), "{der}");
        }
        assert!(!authorities.contains(&Sha256::digest("a third").into()));
        assert_eq!(authorities.pem(), text);
    }

    #[test]
    fn one_that_is_commented_out_is_none() {
        let out: String = pem("one")
            .lines()
            .map(|line| format!("# {line}\n"))
            .collect();
        let authorities = parse(&format!("{out}{}", pem("another"))).unwrap();
        assert!(!authorities.contains(&Sha256::digest("one").into()));
        assert!(authorities.contains(&Sha256::digest("another").into()));
        assert!(parse(&out).is_err());
    }

    #[test]
    fn a_file_without_one_or_cut_short_is_refused() {
        let whole = pem("one");
        let cut = whole.trim_end().strip_suffix("-----END CERTIFICATE-----");
        for text in ["", "text", cut.unwrap(), &whole.replace("\r", "*")] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
