//! Names of targets to addresses: bounded, with one deadline, and never by way of a literal.
//!
//! A client chooses the names, so it chooses which name servers are asked and how slowly they
//! answer. Hence a look-up has a deadline that covers everything, waiting for its turn included,
//! and only so many run at once, of one client fewer than of all. What comes out are candidates, to be judged one by one by
//! [`EgressPolicy`](crate::policy::EgressPolicy); a name is never resolved a second time.

#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, Either};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::{DnsError, NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::{Instant, timeout_at};

use self::turns::Turns;
use crate::proxy_status::ProxyError;

/// How long a look-up may take altogether.
const DEADLINE: Duration = Duration::from_secs(5);

/// How many look-ups run at once; each holds a few sockets while it waits for answers.
const CONCURRENCY: usize = 64;

/// How many of these are of one client, so that names which nobody answers for hold up whoever asks for
/// them, and not everybody.
const PER_CLIENT: usize = 16;

/// How many addresses of one name are tried. Who publishes more is not looking for a connection.
const MAX_CANDIDATES: usize = 16;

/// How long the second family may take once the first one has addresses. RFC 8305 §3 waits 50 ms
/// for IPv6 and not at all for IPv4; but a resolver with a cold cache is slower than that, and IPv6
/// addresses alone are of no use to a server without IPv6.
const SECOND_FAMILY_GRACE: Duration = Duration::from_millis(250);

/// Answers kept, for as long as they live. A client whose domain has thousands of addresses can make each of them
/// 2 MiB.
const CACHED_ANSWERS: u64 = 64;

/// Finds the addresses of names that clients ask for.
pub struct Resolver {
    dns: TokioResolver,
    turns: Turns,
    deadline: Duration,
}

impl Resolver {
    /// Asks the name servers of the operating system; its hosts file comes first.
    ///
    /// Search domains do not apply: what a client names is absolute.
    pub fn system() -> io::Result<Self> {
        let builder = TokioResolver::builder_tokio().map_err(|error| {
            io::Error::other(format!(
                "cannot read the system's resolver settings: {error}"
            ))
        })?;
        Self::build(builder)
    }

    /// Asks the name server at `address`, and nothing else.
    pub fn with_nameserver(address: SocketAddr) -> io::Result<Self> {
        let transports = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .map(|mut transport| {
                transport.port = address.port();
                transport
            })
            .to_vec();
        let server = NameServerConfig::new(address.ip(), true, transports);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut options = ResolverOpts::default();
        options.use_hosts_file = ResolveHosts::Never;
        Self::build(
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
                .with_options(options),
        )
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> io::Result<Self> {
        let options = builder.options_mut();
        options.cache_size = CACHED_ANSWERS;
        Ok(Self {
            dns: builder.build().map_err(io::Error::other)?,
            turns: Turns::new(CONCURRENCY, PER_CLIENT),
            deadline: DEADLINE,
        })
    }

    /// Gives up a look-up after `deadline`, five seconds by default.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Runs at most `all` look-ups at once, 64 by default, and `per_client` of one client, 16 by default;
    /// more wait inside their deadline.
    #[must_use]
    pub fn with_concurrency(self, all: usize, per_client: usize) -> Self {
        Self {
            turns: Turns::new(all, per_client),
            ..self
        }
    }

    /// The addresses of `host`, at most 16: families take turns, IPv6 begins (RFC 8305 §4).
    ///
    /// `host` is a name, not an address literal; with or without its final dot it is absolute. `client`
    /// is who asks for it: [`Request::peer`](crate::Request::peer).
    ///
    /// # Errors
    /// Why there is none.
    pub async fn resolve(&self, client: IpAddr, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let name = absolute_name(host)?;
        let limit = Instant::now() + self.deadline;
        let Ok(_turn) = timeout_at(limit, self.turns.take(client)).await else {
            return Err(ResolveError::Timeout);
        };
        match self.both_families(name, limit).await {
            (Ok(v6), Ok(v4)) if v6.is_empty() && v4.is_empty() => Err(ResolveError::NoAddress),
            (Ok(v6), Ok(v4)) => Ok(interleave(&v6, &v4)),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => {
                Ok(interleave(&found, &[]))
            }
            // An answer says more than its absence.
            (Err(ResolveError::Timeout), Err(error)) => Err(error),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// What is found by `limit`, IPv6 first.
    async fn both_families(&self, name: Name, limit: Instant) -> (Family, Family) {
        let v6 = pin!(self.family(name.clone(), RecordType::AAAA, limit));
        let v4 = pin!(self.family(name, RecordType::A, limit));
        match future::select(v6, v4).await {
            Either::Left((v6, v4)) => {
                let v4 = within_grace(&v6, v4).await;
                (v6, v4)
            }
            Either::Right((v4, v6)) => {
                let v6 = within_grace(&v4, v6).await;
                (v6, v4)
            }
        }
    }

    async fn family(&self, name: Name, kind: RecordType, limit: Instant) -> Family {
        match timeout_at(limit, self.dns.lookup(name, kind)).await {
            Ok(Ok(lookup)) => Ok(lookup
                .answers()
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect()),
            Ok(Err(error)) => no_address(&error).map(|()| Vec::new()),
            Err(_) => Err(ResolveError::Timeout),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("free_turns", &self.turns.free())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Why a name has no usable address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The text is no host name: an odd spelling of an address, or characters that no host has.
    #[error("not a host name: expected letters, digits, hyphens and dots, and not a number")]
    NotAName,
    /// No answer before the deadline.
    #[error("the name server did not answer in time")]
    Timeout,
    /// The name server answered with an error, or could not be asked.
    #[error("the name server failed ({})", rcode.as_deref().unwrap_or("it cannot be reached"))]
    Failed {
        /// The response code, such as `NXDOMAIN` or `SERVFAIL`, if there was a response.
        rcode: Option<String>,
    },
    /// The name exists, but has no address of either family.
    #[error("the name has no address")]
    NoAddress,
}

impl ResolveError {
    /// The error to name in Proxy-Status; its [`status`](ProxyError::status) is the response's.
    pub fn proxy_error(&self) -> ProxyError {
        match self {
            Self::NotAName => ProxyError::HttpRequestError,
            Self::Timeout => ProxyError::DnsTimeout,
            Self::Failed { .. } | Self::NoAddress => ProxyError::DnsError,
        }
    }

    /// The response code to name in Proxy-Status (RFC 9209 §2.3.2).
    pub fn rcode(&self) -> Option<&str> {
        match self {
            Self::Failed { rcode } => rcode.as_deref(),
            // A missing record is not an error to the name server.
            Self::NoAddress => Some("NOERROR"),
            Self::NotAName | Self::Timeout => None,
        }
    }
}

/// Whether `host` is some spelling of an IPv4 address, the usual one included, or would be one to a
/// resolver that takes `0x7f.1`, `0177.0.0.1` or `2130706433`.
///
/// Such a host is either an address that the standard parser takes, or to be refused: resolvers
/// differ in what they make of it. As in the URL Standard (§3.5), a host is numeric if its last
/// label is a number, for no top-level domain is one.
pub fn looks_numeric(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// What one record type gave: an empty list is an answer, too.
type Family = Result<Vec<IpAddr>, ResolveError>;

async fn within_grace(first: &Family, second: impl Future<Output = Family>) -> Family {
    if !first.as_ref().is_ok_and(|found| !found.is_empty()) {
        return second.await;
    }
    tokio::time::timeout(SECOND_FAMILY_GRACE, second)
        .await
        .unwrap_or(Err(ResolveError::Timeout))
}

/// Both lists in turn, `first` first, cut to [`MAX_CANDIDATES`].
fn interleave(first: &[IpAddr], second: &[IpAddr]) -> Vec<IpAddr> {
    (0..first.len().max(second.len()))
        .flat_map(|at| [first.get(at), second.get(at)])
        .flatten()
        .copied()
        .take(MAX_CANDIDATES)
        .collect()
}

/// The name to ask for: of the bytes a host may have (RFC 1123 §2.1), and underscores, as in use.
fn absolute_name(host: &str) -> Result<Name, ResolveError> {
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if looks_numeric(host) || !host.bytes().all(is_host_byte) {
        return Err(ResolveError::NotAName);
    }
    let mut name = Name::from_ascii(host).map_err(|_| ResolveError::NotAName)?;
    name.set_fqdn(true);
    match name.is_root() {
        true => Err(ResolveError::NotAName),
        false => Ok(name),
    }
}

/// `Ok` if the error only says that there is no record of this type.
fn no_address(error: &NetError) -> Result<(), ResolveError> {
    let code = match error {
        NetError::Timeout => return Err(ResolveError::Timeout),
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        _ => return Err(ResolveError::Failed { rcode: None }),
    };
    match code {
        ResponseCode::NoError => Ok(()),
        _ => Err(ResolveError::Failed {
            rcode: Some(rcode_name(code)),
        }),
    }
}

/// The mnemonic of the IANA registry, which RFC 9209 §2.3.2 wants.
fn rcode_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
