//! [`Request`]: what an endpoint is asked.

use std::net::SocketAddr;
use std::str::FromStr;

use http::{HeaderMap, Method, StatusCode};

use crate::auth::{ClientCertificate, Identity};
use crate::error::{Error, Result};
use crate::proxy_status::ProxyError;
use crate::response::Body;
use crate::template::Vars;

/// One HTTP request, already validated by the engine (RFC 9114 §4.1.2) and matched by the router.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// The method; `CONNECT` for a tunnel.
    pub method: Method,
    /// The `:protocol` of an extended CONNECT (RFC 9220), as sent.
    pub protocol: Option<String>,
    /// The `:authority`: this server's name as the client knows it. Never a target.
    pub authority: String,
    /// The `:path` as sent: path and query, still percent-encoded.
    pub path: String,
    /// The values of the mount's template variables, percent-decoded once.
    pub vars: Vars,
    /// The fields, without pseudo-header fields.
    pub headers: HeaderMap,
    /// The address of the client at the time of the request.
    pub peer: SocketAddr,
    /// Who asks. The router sets it before the endpoint sees the request.
    pub identity: Identity,
    /// The certificate that the client showed in its TLS handshake, if it showed one.
    pub client_certificate: Option<ClientCertificate>,
    /// The content. Empty for a tunnel request.
    pub body: Body,
    /// For a client's tunnel: its flow starts with the request instead of with the answer, so that
    /// the first datagrams save a round trip, and are lost if the tunnel is refused (RFC 9298 §5).
    pub starts_early: bool,
}

impl Request {
    /// A request with no fields and no content; `path` is path and query.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            protocol: None,
            authority: "localhost".into(),
            path: path.into(),
            vars: Vars::default(),
            headers: HeaderMap::new(),
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: Identity::anonymous(),
            client_certificate: None,
            body: Body::Empty,
            starts_early: false,
        }
    }

    /// A tunnel request: extended CONNECT with `protocol` (RFC 9220).
    pub fn tunnel(protocol: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            protocol: Some(protocol.into()),
            ..Self::new(Method::CONNECT, path)
        }
    }

    /// A GET request.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// The template variable `name`, parsed.
    ///
    /// # Errors
    /// 400 when the variable is missing or does not parse. On a tunnel request that carries
    /// `proxy-status: …; error=http_request_error` (RFC 9209 §2.3.24).
    pub fn var<T: FromStr>(&self, name: &str) -> Result<T> {
        let refuse = |what: &str| {
            let error = Error::bad_request(format!("{name} {what}"));
            match self.protocol {
                Some(_) => error.with_proxy_error(ProxyError::HttpRequestError),
                None => error,
            }
        };
        let value = self.vars.get(name).ok_or_else(|| refuse("is missing"))?;
        value.parse().map_err(|_| refuse("is malformed"))
    }

    /// Passes only an extended CONNECT with this `:protocol`, compared without regard to case.
    ///
    /// # Errors
    /// 405 with `allow: CONNECT` for another method (RFC 9110 §15.5.6), 501 for another protocol
    /// (RFC 9220 §3).
    pub fn require_protocol(&self, protocol: &str) -> Result<()> {
        if self.method != Method::CONNECT {
            self.require_method(&[], "CONNECT")?;
        }
        match &self.protocol {
            Some(asked) if asked.eq_ignore_ascii_case(protocol) => Ok(()),
            _ => Err(Error::new(
                StatusCode::NOT_IMPLEMENTED,
                format!("this endpoint speaks {protocol} only"),
            )),
        }
    }

    /// Passes only the methods in `allowed`; `allow` is the same list as a field value.
    ///
    /// # Errors
    /// 405 with `allow` for another method of RFC 9110 §9 or RFC 5789, 501 for any other.
    pub fn require_method(&self, allowed: &[Method], allow: &'static str) -> Result<()> {
        if allowed.contains(&self.method) {
            return Ok(());
        }
        if is_known_method(&self.method) {
            return Err(Error::method_not_allowed(allow));
        }
        Err(Error::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("method {} is not known", self.method),
        ))
    }
}

/// Whether the method is registered by RFC 9110 §9 or RFC 5789.
pub(crate) fn is_known_method(method: &Method) -> bool {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    KNOWN.contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xc_09_the_protocol_is_matched_without_regard_to_case() {
        let ask = |protocol: &str| Request::tunnel(protocol, "/").require_protocol("connect-udp");
        ask("Connect-UDP").unwrap();
        for other in ["connect-udp2", "connect-ip", ""] {
            assert_eq!(
                ask(other).unwrap_err().status(),
                StatusCode::NOT_IMPLEMENTED
            );
        }
    }

    #[test]
    fn another_method_is_405_with_allow_and_an_unknown_one_501() {
        let get = Request::get("/")
            .require_protocol("connect-udp")
            .unwrap_err();
        assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(get.headers()["allow"], "CONNECT");
        let foo = Request::new(Method::from_bytes(b"FOO").unwrap(), "/");
        assert_eq!(
            foo.require_protocol("connect-udp")
                .unwrap_err()
                .status()
                .as_u16(),
            501
        );
    }
}
