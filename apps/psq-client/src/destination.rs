//! [`Destination`]: the server to connect to.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of `https` (RFC 9110 §4.2.2).
const DEFAULT_PORT: u16 = 443;

/// Host and port of a server, from a URL such as `https://example.org:4433`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// A name in lower case or an address; IPv6 without brackets.
    pub(crate) host: String,
    /// The UDP port.
    pub(crate) port: u16,
}

impl Destination {
    /// The `:authority` of requests to this server (RFC 9114 §4.3.1).
    pub(crate) fn authority(&self) -> String {
        match self.port {
            DEFAULT_PORT => self.bracketed(),
            port => format!("{}:{port}", self.bracketed()),
        }
    }

    fn bracketed(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.bracketed(), self.port)
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| format!("expected https://HOST[:PORT], found {url:?}"))?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(format!("only https is spoken, not {scheme:?}"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(format!(
                "names a server, not a page on it: leave out {path:?}"
            ));
        }
        if authority.contains('@') {
            // Not repeated: it is a secret.
            return Err("credentials do not belong into a URL: use --user".into());
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self {
            host: parse_host(host)?,
            port,
        })
    }
}

/// Splits at the colon before a port, if there is one; brackets stay with the host.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    let colon = match authority.rfind(']') {
        Some(bracket) => match authority.as_bytes().get(bracket + 1) {
            None => None,
            Some(b':') => Some(bracket + 1),
            Some(_) => return Err(format!("expected HOST[:PORT], found {authority:?}")),
        },
        None => authority.find(':'),
    };
    Ok(match colon {
        Some(colon) => (&authority[..colon], Some(&authority[colon + 1..])),
        None => (authority, None),
    })
}

fn parse_port(digits: &str) -> Result<u16, String> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(format!("expected a port from 1 to 65535, found {digits:?}")),
    }
}

fn parse_host(host: &str) -> Result<String, String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address
            .trim_end_matches(']')
            .parse()
            .map_err(|_| format!("expected an IPv6 address in brackets, found {host:?}"))?;
        return Ok(address.to_string());
    }
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if !host.is_ascii() {
        return Err(format!(
            "{host:?} is not ASCII: write the name in its xn-- form"
        ));
    }
    if !host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        return Err(format!(
            "{host:?} is no host name; IPv6 addresses stand in brackets"
        ));
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        let table = [
            ("https://example.org", "example.org:443", "example.org"),
            ("HTTPS://Example.org/", "example.org:443", "example.org"),
            ("https://127.0.0.1:4433", "127.0.0.1:4433", "127.0.0.1:4433"),
            (
                "https://[2001:DB8::1]",
                "[2001:db8::1]:443",
                "[2001:db8::1]",
            ),
            ("https://[::1]:4433/", "[::1]:4433", "[::1]:4433"),
        ];
        for (url, shown, authority) in table {
            let destination: Destination = url.parse().unwrap();
            assert_eq!(destination.to_string(), shown);
            assert_eq!(destination.authority(), authority);
        }
    }

    #[test]
    fn whatever_is_no_server_is_refused() {
        for url in [
            "",
            "example.org",
            "http://example.org",
            "https://",
            "https://:443",
            "https://example.org:",
            "https://example.org:0",
            "https://example.org:65536",
            "https://example.org:+1",
            "https://example.org:1:2",
            "https://example.org/files/",
            "https://example.org?x",
            "https://::1",
            "https://[::1",
            "https://[::1]x",
            "https://[fe80::1%eth0]",
            "https://bücher.example",
            "https://exa mple.org",
        ] {
            assert!(url.parse::<Destination>().is_err(), "{url}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_not_repeated() {
        let error = "https://me:secret@example.org"
            .parse::<Destination>()
            .unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}
