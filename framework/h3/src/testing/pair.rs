//! [`Pair`]: certificates for clients.

use std::time::{SystemTime, UNIX_EPOCH};

use boring::asn1::Asn1Time;
use boring::bn::{BigNum, MsbOption};
use boring::ec::{EcGroup, EcKey};
use boring::error::ErrorStack;
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::pkey::{PKey, Private};
use boring::x509::extension::{BasicConstraints, SubjectAlternativeName};
use boring::x509::{X509, X509NameBuilder};

use crate::tls::hex;

/// A day, in seconds.
const DAY: i64 = 86_400;

/// A certificate and its key.
pub struct Pair {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

impl Pair {
    /// A certificate for `name` that is in force, signed by `issuer` or by its own key, which makes it an
    /// authority.
    pub fn new(name: &str, issuer: Option<&Self>) -> Self {
        Self::with(name, None, issuer, [-10, 10])
    }

    /// The same with an alternative name, from one day to another, counted from now.
    pub(crate) fn with(
        name: &str,
        alternative: Option<&str>,
        issuer: Option<&Self>,
        days: [i64; 2],
    ) -> Self {
        Self::make(name, alternative, issuer, days).expect("a certificate")
    }

    fn make(
        name: &str,
        alternative: Option<&str>,
        issuer: Option<&Self>,
        [from, to]: [i64; 2],
    ) -> Result<Self, ErrorStack> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
        let mut subject = X509NameBuilder::new()?;
        subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
        let subject = subject.build();
        let mut serial = BigNum::new()?;
        serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
        let serial = serial.to_asn1_integer()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        let at = |days: i64| Asn1Time::from_unix(now + days * DAY);
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&serial)?;
        builder.set_subject_name(&subject)?;
        let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
        builder.set_issuer_name(issuer_name)?;
        builder.set_pubkey(&key)?;
        let (from, to) = (at(from)?, at(to)?);
        builder.set_not_before(&from)?;
        builder.set_not_after(&to)?;
        if issuer.is_none() {
            let is_authority = BasicConstraints::new().critical().ca().build()?;
            builder.append_extension(&is_authority)?;
        }
        if let Some(alternative) = alternative {
            let names = SubjectAlternativeName::new()
                .dns(alternative)
                .build(&builder.x509v3_context(None, None))?;
            builder.append_extension(&names)?;
        }
        let signer = issuer.map_or(&key, |issuer| &issuer.key);
        builder.sign(signer, MessageDigest::sha256())?;
        let certificate = builder.build();
        Ok(Self { certificate, key })
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("PEM")
    }

    /// The key, PKCS #8 in PEM.
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().expect("PEM")
    }

    /// The name of the key in a roster: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let spki = self.key.public_key_to_der().expect("DER");
        hex(&hash(MessageDigest::sha256(), &spki).expect("SHA-256"))
    }
}
