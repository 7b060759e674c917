//! Certificates of clients: a server that knows what to do with one asks for it, and never insists.
//!
//! TLS only notes what is wrong with a chain. Whether a client is let in is decided for each request,
//! where other proofs of an identity count as well. That the client has the private key is a part of
//! every handshake (RFC 8446 §4.4.3).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use boring::asn1::{Asn1Time, Asn1TimeRef};
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::ssl::{SslContextBuilder, SslOptions, SslRef, SslVerifyMode};
use boring::x509::store::X509StoreBuilder;
use boring::x509::{X509, X509Ref};
use pasque::auth::ClientCertificate;
use pasque::config::AuthConfig;

use crate::tls::TlsError;

/// Whether a server asks its clients for certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientCertificates {
    /// It does not, and clients show none.
    #[default]
    NotAsked,
    /// It does. Chains are verified up to the authorities in this PEM file; without one none is.
    Asked { authorities: Option<PathBuf> },
}

impl ClientCertificates {
    /// What a configuration asks for.
    pub(crate) fn of(auth: Option<&AuthConfig>) -> Self {
        match auth {
            Some(auth) if auth.asks_for_certificates() => Self::Asked {
                authorities: auth.client_ca_file.clone(),
            },
            _ => Self::NotAsked,
        }
    }

    /// Makes the handshakes of `builder` ask.
    ///
    /// # Errors
    /// The file of authorities cannot be read, or holds no certificate.
    pub(crate) fn apply(&self, builder: &mut SslContextBuilder) -> Result<(), TlsError> {
        let Self::Asked { authorities } = self else {
            return Ok(());
        };
        if let Some(file) = authorities {
            let pem = fs::read(file).map_err(|error| TlsError::Io(file.clone(), error))?;
            let unusable = |error| TlsError::ClientCa(file.clone(), error);
            let certificates = X509::stack_from_pem(&pem).map_err(unusable)?;
            if certificates.is_empty() {
                return Err(TlsError::NoClientCa(file.clone()));
            }
            let mut store = X509StoreBuilder::new()?;
            for certificate in certificates {
                // A hint which of its certificates the client is to show.
                builder.add_client_ca(&certificate)?;
                store.add_cert(certificate)?;
            }
            builder.set_cert_store_builder(store);
        }
        // A resumed session shows no certificate, and keeps what was known of an old one.
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_verify_callback(SslVerifyMode::PEER, |_is_good, _chain| true);
        Ok(())
    }
}

/// The certificate that the other end showed in the handshake; `None` when it showed none, or one
/// that nobody can make sense of.
pub(crate) fn shown(ssl: &SslRef) -> Option<ClientCertificate> {
    let leaf = ssl.peer_certificate()?;
    let spki = leaf.public_key().ok()?.public_key_to_der().ok()?;
    let mut spki_sha256 = [0; 32];
    spki_sha256.copy_from_slice(&hash(MessageDigest::sha256(), &spki).ok()?);
    Some(ClientCertificate {
        spki_sha256,
        name: name(&leaf),
        not_after: time(leaf.not_after()),
        is_chain_verified: ssl.verify_result().is_ok(),
    })
}

/// The first name of the subject's alternative names, or else its common name. One with control
/// characters is none.
fn name(certificate: &X509Ref) -> Option<String> {
    let alternatives = certificate.subject_alt_names();
    let alternative = alternatives.iter().flatten().find_map(|name| {
        let text = name.dnsname().or_else(|| name.email());
        text.or_else(|| name.uri()).map(str::to_owned)
    });
    let common = || {
        let mut entries = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        let text = entries.next()?.data().as_utf8().ok()?;
        Some(text.to_string())
    };
    let name = alternative.or_else(common)?;
    (!name.is_empty() && !name.contains(char::is_control)).then_some(name)
}

fn time(time: &Asn1TimeRef) -> Option<SystemTime> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    let seconds = i64::from(since.days) * 24 * 3600 + i64::from(since.secs);
    let seconds = u64::try_from(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
