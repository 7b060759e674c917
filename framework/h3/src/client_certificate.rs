//! Certificates of clients: a server that knows what to do with one asks for it, and never insists.
//!
//! TLS only notes what is wrong with a chain. Whether a client is let in is decided for each request,
//! where other proofs of an identity count as well. That the client has the private key is a part of
//! every handshake (RFC 8446 §4.4.3).

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use boring::asn1::{Asn1Time, Asn1TimeRef};
use boring::error::ErrorStack;
use boring::ex_data::Index;
use boring::hash::{MessageDigest, hash};
use boring::nid::Nid;
use boring::ssl::{Ssl, SslContextBuilder, SslOptions, SslRef, SslVerifyMode};
use boring::stack::Stack;
use boring::x509::store::{X509Store, X509StoreBuilder};
use boring::x509::{X509, X509Ref, X509StoreContext};
use pasque::auth::{Authenticator, Authorities, ClientCertificate};
use pasque::config::AuthConfig;
use tracing::error;

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
            // No hint which of its certificates a client is to show: it would be that of the last reload,
            // and keep clients of an authority that has come since from showing theirs.
            builder.set_cert_store(store(&certificates)?);
        }
        // A resumed session shows no certificate, and keeps what was known of an old one.
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_verify_callback(SslVerifyMode::PEER, |_is_good, _chain| true);
        Ok(())
    }
}

fn store(authorities: &[X509]) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for authority in authorities {
        store.add_cert(authority)?;
    }
    Ok(store.build())
}

/// The store that a handshake verifies chains with, where that is not its context's.
static STORE: LazyLock<Option<Index<Ssl, X509Store>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// Has handshakes verify chains up to the authorities of now: those of their context are from the last
/// reload.
#[derive(Default)]
pub(crate) struct Verifier(Option<(Arc<Authorities>, Option<X509Store>)>);

impl Verifier {
    /// Makes the handshake of `ssl`, which has not begun, verify chains for `authenticator`.
    pub(crate) fn prepare(&mut self, ssl: &mut SslRef, authenticator: Option<&Authenticator>) {
        let Some(now) = authenticator.and_then(Authenticator::authorities) else {
            return;
        };
        if !matches!(&self.0, Some((known, _)) if Arc::ptr_eq(known, &now)) {
            let certificates = X509::stack_from_pem(now.pem().as_bytes());
            let store = certificates.and_then(|certificates| store(&certificates));
            // Said once of each file. Whom it no longer names is not let in, whatever a chain is verified
            // with.
            let said =
                store.inspect_err(|error| error!(%error, "authorities for client certificates"));
            self.0 = Some((now, said.ok()));
        }
        if let (Some((_, Some(store))), Some(index)) = (&self.0, *STORE)
            && ssl.set_verify_cert_store(store.clone()).is_ok()
        {
            ssl.set_ex_data(index, store.clone());
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// The certificate that the other end showed in the handshake; `None` when it showed none, or one
/// that nobody can make sense of.
pub(crate) fn shown(ssl: &SslRef) -> Option<ClientCertificate> {
    let leaf = ssl.peer_certificate()?;
    let spki = leaf.public_key().ok()?.public_key_to_der().ok()?;
    Some(ClientCertificate {
        spki_sha256: sha256(&spki)?,
        name: name(&leaf),
        not_after: time(leaf.not_after()),
        authority: authority(ssl, &leaf),
    })
}

/// Up to whom the handshake has verified the chain of `leaf`. TLS says only whether it has.
fn authority(ssl: &SslRef, leaf: &X509Ref) -> Option<[u8; 32]> {
    ssl.verify_result().ok()?;
    let of_handshake = STORE.and_then(|index| ssl.ex_data(index));
    let store = of_handshake.map_or_else(|| ssl.ssl_context().cert_store(), |store| &**store);
    let none = Stack::new().ok()?;
    let chain = ssl.peer_cert_chain().unwrap_or(&none);
    let mut cx = X509StoreContext::new().ok()?;
    let digest = cx.init(store, leaf, chain, |cx| {
        let is_verified = cx.verify_cert()?;
        let last = cx.chain().and_then(|chain| chain.iter().next_back());
        let der = last.filter(|_| is_verified).map(|last| last.to_der());
        Ok(der.transpose()?.and_then(|der| sha256(&der)))
    });
    digest.ok()?
}

fn sha256(bytes: &[u8]) -> Option<[u8; 32]> {
    let digest = hash(MessageDigest::sha256(), bytes).ok()?;
    digest.as_ref().try_into().ok()
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
