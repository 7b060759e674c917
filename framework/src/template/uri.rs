//! The client's end: from a template to the target of a request.

use std::net::Ipv6Addr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::TemplateError;
use super::syntax::{self, Operator, Part};

/// Path of the default template for UDP proxying (RFC 9298 §2).
pub const DEFAULT_UDP_PATH: &str = "/.well-known/masque/udp/{target_host}/{target_port}/";

/// Path of the default template for IP proxying (RFC 9484 §3).
pub const DEFAULT_IP_PATH: &str = "/.well-known/masque/ip/{target}/{ipproto}/";

const SCHEME: &str = "https";
const DEFAULT_PORT: u16 = 443;

/// What a value's bytes must not be to go out as they are: anything but unreserved characters
/// (RFC 6570 §3.2.1).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An absolute URI template (RFC 9298 §2, RFC 9484 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate {
    host: String,
    port: u16,
    /// The path and the query.
    parts: Vec<Part>,
}

/// What a client asks for: three pseudo-header fields (RFC 9114 §4.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    /// `:scheme`
    pub scheme: &'static str,
    /// `:authority`, without the port if that is the scheme's default.
    pub authority: String,
    /// `:path`
    pub path_and_query: String,
}

impl UriTemplate {
    /// Checks a template against every rule of RFC 9298 §2, with these variables `required`.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn parse(template: &str, required: &[&str]) -> Result<Self, TemplateError> {
        let parts = syntax::parse(template)?;
        let Some((Part::Literal(first), rest)) = parts.split_first() else {
            return Err(TemplateError::NotHttps);
        };
        let after_scheme = strip_scheme(first).ok_or(TemplateError::NotHttps)?;
        let authority_len = after_scheme
            .find(['/', '?', '#'])
            .unwrap_or(after_scheme.len());
        let (authority, path) = after_scheme.split_at(authority_len);

        let next_is_variable = match rest.first() {
            Some(Part::Expression { operator, .. }) => *operator != Operator::Query,
            _ => false,
        };
        if path.is_empty() && next_is_variable {
            return Err(TemplateError::VariableOutsidePathAndQuery);
        }
        let (host, port) = parse_authority(authority)?;
        if !path.starts_with('/') {
            return Err(TemplateError::EmptyPath);
        }
        let path = Part::Literal(path.to_owned());
        let parts: Vec<_> = [path].into_iter().chain(rest.iter().cloned()).collect();
        syntax::check_no_fragment(&parts)?;
        syntax::check_required(&parts, required)?;
        Ok(Self { host, port, parts })
    }

    /// The template of a UDP proxy of which only `host` or `host:port` is known (RFC 9298 §2).
    ///
    /// # Errors
    ///
    /// If that is not what `authority` is.
    pub fn default_udp(authority: &str) -> Result<Self, TemplateError> {
        Self::at(authority, DEFAULT_UDP_PATH)
    }

    /// The template of an IP proxy of which only `host` or `host:port` is known (RFC 9484 §3).
    ///
    /// # Errors
    ///
    /// If that is not what `authority` is.
    pub fn default_ip(authority: &str) -> Result<Self, TemplateError> {
        Self::at(authority, DEFAULT_IP_PATH)
    }

    fn at(authority: &str, path: &str) -> Result<Self, TemplateError> {
        let (host, port) = parse_authority(authority)?;
        let parts = syntax::parse(path)?;
        Ok(Self { host, port, parts })
    }

    /// The server's name or address, the latter without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// The server's UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        syntax::names(&self.parts)
    }

    /// Puts `values` in (RFC 6570 §3.2). A variable without one vanishes together with its name.
    pub fn expand(&self, values: &[(&str, Option<&str>)]) -> RequestTarget {
        let mut path_and_query = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => path_and_query.push_str(text),
                Part::Expression { operator, names } => {
                    expand_expression(*operator, names, values, &mut path_and_query);
                }
            }
        }
        let authority = match self.port {
            DEFAULT_PORT => self.host.clone(),
            port => format!("{}:{port}", self.host),
        };
        RequestTarget {
            scheme: SCHEME,
            authority,
            path_and_query,
        }
    }
}

fn expand_expression(
    operator: Operator,
    names: &[String],
    values: &[(&str, Option<&str>)],
    out: &mut String,
) {
    let (mut lead, separator) = match operator {
        Operator::Simple => ("", ","),
        Operator::Query => ("?", "&"),
        Operator::Continuation => ("&", "&"),
    };
    for name in names {
        let Some((_, Some(value))) = values.iter().find(|(known, _)| known == name) else {
            continue;
        };
        out.push_str(lead);
        lead = separator;
        if operator != Operator::Simple {
            out.push_str(name);
            out.push('=');
        }
        out.extend(utf8_percent_encode(value, ENCODED));
    }
}

/// Schemes are case-insensitive (RFC 3986 §3.1).
fn strip_scheme(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once("://")?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

/// Host, with its brackets if it has them, and port. User information has no place in `:authority`
/// (RFC 9114 §4.3.1).
fn parse_authority(authority: &str) -> Result<(String, u16), TemplateError> {
    if authority.is_empty() {
        return Err(TemplateError::EmptyAuthority);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)),
        _ => (authority, Some(DEFAULT_PORT)),
    };
    match port {
        Some(port) if is_host(host) => Ok((host.to_owned(), port)),
        _ => Err(TemplateError::Authority(authority.to_owned())),
    }
}

fn parse_port(port: &str) -> Option<u16> {
    // `u16::from_str` takes a leading `+`.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    port.parse().ok().filter(|port| *port != 0)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !host.is_empty() && host.bytes().all(is_host_byte)
}
