//! Certificates and keys: loading them, making them, and deciding whom a client trusts.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use boring::asn1::Asn1Time;
use boring::bn::{BigNum, MsbOption};
use boring::ec::{EcGroup, EcKey};
use boring::error::ErrorStack;
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::ssl::{SslContextBuilder, SslFiletype, SslMethod};
use boring::x509::extension::{BasicConstraints, SubjectAlternativeName};
use boring::x509::{X509, X509NameBuilder};
use thiserror::Error;

use crate::client_certificate::ClientCertificates;

/// A TLS context that still has to become a [`quiche::Config`].
pub(crate) struct TlsContext(pub(crate) SslContextBuilder);

/// Why certificates or keys cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate file holds none, or is not PEM.
    #[error("cert_file {0}: no usable PEM certificate ({1})")]
    Certificate(PathBuf, ErrorStack),
    /// The key file holds none, or is not PEM.
    #[error("key_file {0}: no usable PEM private key ({1})")]
    Key(PathBuf, ErrorStack),
    /// Certificate and key are not a pair.
    #[error("key_file {0} does not belong to the certificate in cert_file {1}")]
    Mismatch(PathBuf, PathBuf),
    /// The certificate's time is over, or has not come.
    #[error(
        "cert_file {0}: the certificate is not valid now ({1} to {2}); renew it, or check the clock"
    )]
    Expired(PathBuf, String, String),
    /// The file of trusted certificates cannot be read.
    #[error("CA file {0}: no usable PEM certificates ({1})")]
    Ca(PathBuf, ErrorStack),
    /// The file of the authorities of clients is not PEM.
    #[error("client_ca_file {0}: no usable PEM certificates ({1})")]
    ClientCa(PathBuf, ErrorStack),
    /// The file of the authorities of clients is empty.
    #[error("client_ca_file {0}: no certificate in it; put there whose clients are to be let in")]
    NoClientCa(PathBuf),
    /// A file cannot be written or read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// The TLS library failed.
    #[error("TLS: {0}")]
    Library(#[from] ErrorStack),
}

/// Whom a client trusts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Trust {
    /// The certificate authorities of the system.
    #[default]
    System,
    /// The certificate authorities in a PEM file, and no others.
    CaFile(PathBuf),
    /// The one certificate whose DER encoding has this SHA-256 digest, whatever its name or issuer.
    Pin([u8; 32]),
    /// Any certificate: no protection against somebody in the middle.
    AcceptAny,
}

impl Trust {
    /// The TLS context of a client.
    pub(crate) fn context(&self) -> Result<TlsContext, TlsError> {
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        match self {
            Self::System => builder.set_default_verify_paths()?,
            Self::CaFile(file) => {
                builder
                    .set_ca_file(file)
                    .map_err(|error| TlsError::Ca(file.clone(), error))?;
            }
            Self::Pin(_) | Self::AcceptAny => {}
        }
        Ok(TlsContext(builder))
    }

    /// Whether TLS checks the chain, and the name if it is one.
    pub(crate) fn verifies_chain(&self) -> bool {
        matches!(self, Self::System | Self::CaFile(_))
    }

    /// Checks what TLS did not: the pin, or an address in place of a name.
    ///
    /// # Errors
    /// What is wrong with `certificate`, a DER encoding, for `host`.
    pub(crate) fn check(&self, host: &str, certificate: Option<&[u8]>) -> Result<(), String> {
        let Some(certificate) = certificate else {
            return Err("the server sent no certificate".into());
        };
        match self {
            Self::AcceptAny => Ok(()),
            Self::Pin(expected) => {
                let found = fingerprint(certificate).map_err(|error| error.to_string())?;
                if boring::memcmp::eq(&found, expected) {
                    return Ok(());
                }
                Err(format!(
                    "the certificate's SHA-256 is {}, not the pinned one",
                    hex(&found)
                ))
            }
            Self::System | Self::CaFile(_) => {
                let Ok(address) = host.parse::<IpAddr>() else {
                    return Ok(());
                };
                if names_address(certificate, address) {
                    return Ok(());
                }
                Err(format!(
                    "the certificate does not name the address {address}"
                ))
            }
        }
    }
}

/// The certificate that a client shows to a server which asks for one, and its key: files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKeyPair {
    /// The certificate, followed by those of its issuers where the server does not know them.
    pub cert_file: PathBuf,
    /// The private key of the certificate.
    pub key_file: PathBuf,
}

impl ClientKeyPair {
    /// Checks that both can be used, are a pair, and valid now. What they hold when a connection is made
    /// counts then, so a renewed certificate is used for the next one.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn check(&self) -> Result<(), TlsError> {
        Identity::load(&self.cert_file, &self.key_file).map(drop)
    }

    /// `context` with this certificate in it.
    pub(crate) fn show_in(&self, mut context: TlsContext) -> Result<TlsContext, TlsError> {
        Identity::load(&self.cert_file, &self.key_file)?.install(&mut context.0)?;
        Ok(context)
    }
}

/// Whether the certificate has `address` among its subject alternative names.
fn names_address(certificate: &[u8], address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let Ok(certificate) = X509::from_der(certificate) else {
        return false;
    };
    let Some(names) = certificate.subject_alt_names() else {
        return false;
    };
    names.iter().any(|name| name.ipaddress() == Some(&octets))
}

/// SHA-256 of a certificate's DER encoding: what `psq-client --pin` takes.
pub(crate) fn fingerprint(certificate: &[u8]) -> Result<[u8; 32], ErrorStack> {
    let digest = hash(MessageDigest::sha256(), certificate)?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&digest);
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A certificate and its key, checked.
#[derive(Debug)]
pub(crate) struct Identity {
    cert_file: PathBuf,
    key_file: PathBuf,
    /// SHA-256 of the certificate.
    pub(crate) fingerprint: [u8; 32],
}

impl Identity {
    /// Reads and checks certificate and key: both usable, a pair, valid now.
    pub(crate) fn load(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let pem = |file: &Path| fs::read(file).map_err(|error| TlsError::Io(file.into(), error));
        let certificate = X509::from_pem(&pem(cert_file)?)
            .map_err(|error| TlsError::Certificate(cert_file.into(), error))?;
        let key = PKey::private_key_from_pem(&pem(key_file)?)
            .map_err(|error| TlsError::Key(key_file.into(), error))?;
        if !certificate.public_key()?.public_eq(&key) {
            return Err(TlsError::Mismatch(key_file.into(), cert_file.into()));
        }
        let now = Asn1Time::days_from_now(0)?;
        if certificate.not_after() < now || certificate.not_before() > now {
            return Err(TlsError::Expired(
                cert_file.into(),
                certificate.not_before().to_string(),
                certificate.not_after().to_string(),
            ));
        }
        let fingerprint = fingerprint(&certificate.to_der()?)?;
        Ok(Self {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            fingerprint,
        })
    }

    /// The TLS context of a server that asks for the certificates of `clients`. Cheap enough to make
    /// once per worker.
    pub(crate) fn context(&self, clients: &ClientCertificates) -> Result<TlsContext, TlsError> {
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        self.install(&mut builder)?;
        clients.apply(&mut builder)?;
        Ok(TlsContext(builder))
    }

    fn install(&self, builder: &mut SslContextBuilder) -> Result<(), TlsError> {
        builder
            .set_certificate_chain_file(&self.cert_file)
            .map_err(|error| TlsError::Certificate(self.cert_file.clone(), error))?;
        builder
            .set_private_key_file(&self.key_file, SslFiletype::PEM)
            .map_err(|error| TlsError::Key(self.key_file.clone(), error))
    }
}

/// Makes a certificate for `localhost` and the loopback addresses, signed by its own key, and
/// writes both files; the key is readable by its owner only.
///
/// Fails rather than overwrites.
pub(crate) fn make_self_signed(cert_file: &Path, key_file: &Path) -> Result<(), TlsError> {
    let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(
        Nid::X9_62_PRIME256V1,
    )?)?)?;
    let certificate = self_signed(&key)?;
    write_new(key_file, 0o600, &key.private_key_to_pem_pkcs8()?)?;
    write_new(cert_file, 0o644, &certificate.to_pem()?)
}

fn self_signed(key: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, "localhost")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(3650)?)?;
    // A certificate that may sign is one that `--ca` accepts as its own authority.
    builder.append_extension(&*BasicConstraints::new().critical().ca().build()?)?;
    let names = SubjectAlternativeName::new()
        .dns("localhost")
        .ip("127.0.0.1")
        .ip("::1")
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(&names)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn write_new(file: &Path, mode: u32, content: &[u8]) -> Result<(), TlsError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut open| open.write_all(content))
        .map_err(|error| TlsError::Io(file.into(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn made() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        make_self_signed(&cert, &key).unwrap();
        (folder, cert, key)
    }

    #[test]
    fn a_self_signed_pair_loads_and_its_key_is_private() {
        let (_folder, cert, key) = made();
        let identity = Identity::load(&cert, &key).unwrap();
        identity.context(&ClientCertificates::NotAsked).unwrap();
        assert_eq!(
            fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let der = X509::from_pem(&fs::read(&cert).unwrap())
            .unwrap()
            .to_der()
            .unwrap();
        assert_eq!(fingerprint(&der).unwrap(), identity.fingerprint);
        Trust::Pin(identity.fingerprint)
            .check("anything", Some(&der))
            .unwrap();
        assert!(Trust::Pin([0; 32]).check("anything", Some(&der)).is_err());
        Trust::CaFile(cert.clone())
            .check("127.0.0.1", Some(&der))
            .unwrap();
        assert!(Trust::CaFile(cert).check("192.0.2.1", Some(&der)).is_err());
    }

    #[test]
    fn a_key_of_another_certificate_is_named() {
        let (_one, cert, key) = made();
        let (_two, _, other) = made();
        assert!(matches!(
            Identity::load(&cert, &other),
            Err(TlsError::Mismatch(..))
        ));
        assert!(matches!(
            Identity::load(&key, &key),
            Err(TlsError::Certificate(..))
        ));
        assert!(matches!(
            Identity::load(&cert, &cert),
            Err(TlsError::Key(..))
        ));
    }

    #[test]
    fn existing_files_are_never_overwritten() {
        let (_folder, cert, key) = made();
        let before = fs::read(&key).unwrap();
        assert!(make_self_signed(&cert, &key).is_err());
        assert_eq!(fs::read(&key).unwrap(), before);
    }
}
