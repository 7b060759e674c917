//! The `proxy-status` field (RFC 9209): why a tunnel was refused, in words both ends understand.
//!
//! The server writes one member, [`ProxyStatus`]; the client reads the last one, [`Summary`], of
//! whatever proxies on the way have put there.

#[cfg(test)]
mod tests;

use std::fmt;

use http::StatusCode;
use sfv::{
    BareItem, ItemSerializer, KeyRef, List, ListEntry, Parser, TokenRef, key_ref, token_ref,
};

/// The error types of RFC 9209 §2.3 that this server reports.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The resolver did not answer in time (§2.3.1).
    DnsTimeout,
    /// The resolver answered with an error (§2.3.2).
    DnsError,
    /// There is no next hop for the request (§2.3.3).
    DestinationNotFound,
    /// The next hop is known to be out of service (§2.3.4).
    DestinationUnavailable,
    /// Policy forbids the target's address (§2.3.5).
    DestinationIpProhibited,
    /// There is no route to the target's address (§2.3.6).
    DestinationIpUnroutable,
    /// The target refused (§2.3.7).
    ConnectionRefused,
    /// The target closed before it answered (§2.3.8).
    ConnectionTerminated,
    /// The target did not accept in time (§2.3.9).
    ConnectionTimeout,
    /// A limit on tunnels or sockets is reached (§2.3.12).
    ConnectionLimitReached,
    /// The request cannot be understood (§2.3.16).
    HttpRequestError,
    /// Policy forbids the request (§2.3.17).
    HttpRequestDenied,
    /// This server failed (§2.3.29).
    ProxyInternalError,
    /// This server is configured wrongly (§2.3.30).
    ProxyConfigurationError,
    /// The tunnel would lead back to this server (§2.3.31).
    ProxyLoopDetected,
}

impl ProxyError {
    /// The token on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns_timeout",
            Self::DnsError => "dns_error",
            Self::DestinationNotFound => "destination_not_found",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::DestinationIpProhibited => "destination_ip_prohibited",
            Self::DestinationIpUnroutable => "destination_ip_unroutable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::HttpRequestError => "http_request_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::ProxyInternalError => "proxy_internal_error",
            Self::ProxyConfigurationError => "proxy_configuration_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
        }
    }

    /// The status of a response that reports this error.
    ///
    /// It is the recommended one, but for a prohibited address: the RFC says 502, as if the next
    /// hop had failed; 403 tells the client that asking again is of no use.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::HttpRequestError => StatusCode::BAD_REQUEST,
            Self::DestinationIpProhibited | Self::HttpRequestDenied => StatusCode::FORBIDDEN,
            Self::DestinationNotFound
            | Self::ProxyInternalError
            | Self::ProxyConfigurationError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::DnsError
            | Self::DestinationIpUnroutable
            | Self::ConnectionRefused
            | Self::ConnectionTerminated
            | Self::ProxyLoopDetected => StatusCode::BAD_GATEWAY,
            Self::DestinationUnavailable | Self::ConnectionLimitReached => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::DnsTimeout | Self::ConnectionTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What this server says of one tunnel request; `to_string` is the field's value.
///
/// ```
/// use pasque::proxy_status::{ProxyError, ProxyStatus};
///
/// let status = ProxyStatus::new("psq.example.net").with_error(ProxyError::DnsTimeout);
/// assert_eq!(status.to_string(), "psq.example.net;error=dns_timeout");
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyStatus {
    /// The configured name of this deployment, not of the software (§2).
    pub name: String,
    /// What went wrong (§2.1.1).
    pub error: Option<ProxyError>,
    /// Address and port the tunnel leads to, IPv6 in brackets (§2.1.2).
    pub next_hop: Option<String>,
    /// The status another server answered with (§2.1.4).
    pub received_status: Option<StatusCode>,
    /// The resolver's response code, such as `NXDOMAIN`, of a DNS error (§2.3.2).
    pub rcode: Option<String>,
    /// The resolver's extended error (RFC 8914), of a DNS error (§2.3.2).
    pub info_code: Option<u16>,
    /// More for a human. It may tell of what is behind the proxy (§4), so it is not in the field's
    /// value unless [`to_string_with_details`](Self::to_string_with_details) makes it.
    pub details: Option<String>,
}

impl ProxyStatus {
    /// A status from the deployment `name` that says nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Says what went wrong.
    #[must_use]
    pub fn with_error(self, error: ProxyError) -> Self {
        Self {
            error: Some(error),
            ..self
        }
    }

    /// Says where the tunnel leads.
    #[must_use]
    pub fn with_next_hop(self, next_hop: impl Into<String>) -> Self {
        Self {
            next_hop: Some(next_hop.into()),
            ..self
        }
    }

    /// Adds the resolver's response code.
    #[must_use]
    pub fn with_rcode(self, rcode: impl Into<String>) -> Self {
        Self {
            rcode: Some(rcode.into()),
            ..self
        }
    }

    /// Adds text for a human, of which [`to_string`](ToString::to_string) shows nothing.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self {
            details: Some(details.into()),
            ..self
        }
    }

    /// The field's value with the details, for deployments whose clients may know the network.
    pub fn to_string_with_details(&self) -> String {
        self.serialize(self.details.as_deref())
    }

    fn serialize(&self, details: Option<&str>) -> String {
        let name = printable(&self.name);
        // A list of one member is written as that member.
        let mut member = match TokenRef::from_str(name.as_str()) {
            Ok(token) => ItemSerializer::new().bare_item(token),
            Err(_) => ItemSerializer::new().bare_item(&name),
        };
        if let Some(error) = self.error {
            member = member.parameter(ERROR, token_ref(error.as_str()));
        }
        if let Some(rcode) = &self.rcode {
            member = member.parameter(RCODE, &printable(rcode));
        }
        if let Some(info_code) = self.info_code {
            member = member.parameter(INFO_CODE, info_code);
        }
        if let Some(next_hop) = &self.next_hop {
            member = member.parameter(NEXT_HOP, &printable(next_hop));
        }
        if let Some(status) = self.received_status {
            member = member.parameter(RECEIVED_STATUS, status.as_u16());
        }
        if let Some(details) = details {
            member = member.parameter(DETAILS, &printable(details));
        }
        member.finish()
    }
}

impl fmt::Display for ProxyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.serialize(None))
    }
}

/// What the proxy nearest to the client says; read leniently, because the text is only shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The name of the proxy (RFC 9209 §2).
    pub proxy: String,
    /// The error type, known or not (§2.1.1).
    pub error: Option<String>,
    /// The resolver's response code (§2.3.2).
    pub rcode: Option<String>,
    /// The resolver's extended error (§2.3.2).
    pub info_code: Option<u16>,
    /// Where the tunnel leads (§2.1.2).
    pub next_hop: Option<String>,
    /// The status another server answered with (§2.1.4).
    pub received_status: Option<u16>,
    /// More for a human (§2.1.5).
    pub details: Option<String>,
    /// Every other parameter: name and value, in order.
    pub other: Vec<(String, String)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.proxy)?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        if let Some(rcode) = &self.rcode {
            write!(f, ", {rcode}")?;
        }
        if let Some(details) = &self.details {
            write!(f, ", {details}")?;
        }
        Ok(())
    }
}

/// The last proxy's member of a `proxy-status` value, several lines of which are joined by commas.
///
/// `None` if the value is not a list or names no proxy: RFC 9651 §4.2 has such a field ignored.
pub fn parse(value: &str) -> Option<Summary> {
    let members: List = Parser::new(value).parse().ok()?;
    let (proxy, parameters) = members.into_iter().rev().find_map(|member| match member {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::Token(name) => Some((name.to_string(), item.params)),
            BareItem::String(name) => Some((name.as_str().to_owned(), item.params)),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    })?;
    let mut summary = Summary {
        proxy,
        ..Summary::default()
    };
    for (key, value) in &parameters {
        let text = text_of(value);
        match key.as_str() {
            "error" => summary.error = Some(text),
            "rcode" => summary.rcode = Some(text),
            "next-hop" => summary.next_hop = Some(text),
            "details" => summary.details = Some(text),
            "info-code" if text.parse::<u16>().is_ok() => summary.info_code = text.parse().ok(),
            "received-status" if text.parse::<u16>().is_ok() => {
                summary.received_status = text.parse().ok();
            }
            other => summary.other.push((other.to_owned(), text)),
        }
    }
    Some(summary)
}

const ERROR: &KeyRef = key_ref("error");
const RCODE: &KeyRef = key_ref("rcode");
const INFO_CODE: &KeyRef = key_ref("info-code");
const NEXT_HOP: &KeyRef = key_ref("next-hop");
const RECEIVED_STATUS: &KeyRef = key_ref("received-status");
const DETAILS: &KeyRef = key_ref("details");

/// The text with what a Structured Field string cannot carry replaced (RFC 9651 §3.3.3).
fn printable(text: &str) -> sfv::String {
    let ascii = text
        .chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect();
    sfv::String::from_string(ascii).unwrap_or_default()
}

/// The characters of a string or token, the serialized form of any other item.
fn text_of(item: &BareItem) -> String {
    match item {
        BareItem::String(text) => text.as_str().to_owned(),
        BareItem::Token(text) => text.to_string(),
        other => ItemSerializer::new().bare_item(other).finish(),
    }
}
