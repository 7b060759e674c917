//! [`Error`]: what an endpoint or a flow answers when it cannot go on.
//!
//! The peer sees the status and the `proxy-status` field (RFC 9209), or the code of the reset
//! stream; the log sees the cause.

use std::{error, fmt, io};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode, header};

use crate::policy::Refusal;
use crate::proxy_status::ProxyError;

/// The result of everything that a peer may cause to fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// HTTP/3 error codes with which a stream is reset (RFC 9114 §8.1, RFC 9297 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// `H3_NO_ERROR`: the rest of the message is not needed.
    NoError,
    /// `H3_DATAGRAM_ERROR`: a datagram arrived for a request that knows none.
    Datagram,
    /// `H3_INTERNAL_ERROR`: this end failed.
    Internal,
    /// `H3_EXCESSIVE_LOAD`: the peer asked for more than it may.
    ExcessiveLoad,
    /// `H3_REQUEST_REJECTED`: refused before anything was processed.
    RequestRejected,
    /// `H3_REQUEST_CANCELLED`: given up after processing began.
    RequestCancelled,
    /// `H3_REQUEST_INCOMPLETE`: the stream ended before a whole request.
    RequestIncomplete,
    /// `H3_MESSAGE_ERROR`: the message, or a capsule in it, is malformed.
    Message,
    /// `H3_CONNECT_ERROR`: what the tunnel leads to broke.
    Connect,
}

impl StreamError {
    /// The code on the wire.
    pub const fn code(self) -> u64 {
        match self {
            Self::NoError => 0x0100,
            Self::Datagram => 0x33,
            Self::Internal => 0x0102,
            Self::ExcessiveLoad => 0x0107,
            Self::RequestRejected => 0x010b,
            Self::RequestCancelled => 0x010c,
            Self::RequestIncomplete => 0x010d,
            Self::Message => 0x010e,
            Self::Connect => 0x010f,
        }
    }
}

/// A failed request or tunnel: a status for the peer, a cause for the log.
///
/// Boxed inside, so that a `Result` on the packet path stays small.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    stream: StreamError,
    proxy_error: Option<ProxyError>,
    rcode: Option<String>,
    headers: HeaderMap,
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a status for the peer and a message for the log.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            stream: StreamError::Internal,
            proxy_error: None,
            rcode: None,
            headers: HeaderMap::new(),
            message: message.into(),
            source: None,
        }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// What the operating system says, when it was asked for what `message` tells.
    pub(crate) fn system(message: impl Into<String>, source: io::Error) -> Self {
        Self::proxy(type_of(&source), message).with_source(source)
    }

    /// 500: this end failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 405 with the `allow` field that RFC 9110 §15.5.6 demands.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("method is not one of {allow}"),
        )
        .with_header(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// The peer broke the rules of the message it is sending: the stream is reset with
    /// `H3_MESSAGE_ERROR` (RFC 9114 §4.1.2, RFC 9297 §3.3).
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::bad_request(message).with_stream_error(StreamError::Message)
    }

    /// A tunnel error of RFC 9209 §2.3, with the status that goes with it.
    pub fn proxy(error: ProxyError, message: impl Into<String>) -> Self {
        Self::new(error.status(), message).with_proxy_error(error)
    }

    /// Adds a field to the error response, beside those of the same name.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Adds the `error` parameter of `proxy-status` (RFC 9209 §2.1.1); the status stays.
    #[must_use]
    pub fn with_proxy_error(mut self, error: ProxyError) -> Self {
        self.0.proxy_error = Some(error);
        self
    }

    /// Adds the `rcode` parameter of a `dns_error` (RFC 9209 §2.3.2).
    #[must_use]
    pub fn with_rcode(mut self, rcode: impl Into<String>) -> Self {
        self.0.rcode = Some(rcode.into());
        self
    }

    /// Sets the code with which the stream is reset when the response was already sent.
    #[must_use]
    pub fn with_stream_error(mut self, stream: StreamError) -> Self {
        self.0.stream = stream;
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The code with which the stream is reset when the response was already sent.
    pub fn stream_error(&self) -> StreamError {
        self.0.stream
    }

    /// The `error` parameter of `proxy-status`, if this is a tunnel's error.
    pub fn proxy_error(&self) -> Option<ProxyError> {
        self.0.proxy_error
    }

    /// The `rcode` parameter of `proxy-status`.
    pub fn rcode(&self) -> Option<&str> {
        self.0.rcode.as_deref()
    }

    /// Fields of the response beyond `proxy-status`.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<io::Error> for Error {
    /// The error type and status of RFC 9209 §2.3.
    fn from(source: io::Error) -> Self {
        Self::system("operating system", source)
    }
}

/// The error type of RFC 9209 §2.3 for what the operating system says.
fn type_of(source: &io::Error) -> ProxyError {
    use io::ErrorKind as Kind;
    match source.kind() {
        Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::AddrNotAvailable => {
            ProxyError::DestinationIpUnroutable
        }
        Kind::ConnectionRefused => ProxyError::ConnectionRefused,
        Kind::TimedOut => ProxyError::ConnectionTimeout,
        _ if is_exhaustion(source) => ProxyError::ConnectionLimitReached,
        _ => ProxyError::ProxyInternalError,
    }
}

/// Whether the process or the system ran out of descriptors or buffers.
fn is_exhaustion(error: &io::Error) -> bool {
    // EMFILE, ENFILE and ENOBUFS have no kind of their own in std.
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)
    ) || error.kind() == io::ErrorKind::OutOfMemory
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.to_string()).with_proxy_error(refusal.proxy_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps_03_operating_system_errors_have_their_status() {
        let table = [
            (
                libc_error(libc::ENETUNREACH),
                502,
                ProxyError::DestinationIpUnroutable,
            ),
            (
                libc_error(libc::EHOSTUNREACH),
                502,
                ProxyError::DestinationIpUnroutable,
            ),
            (
                libc_error(libc::ECONNREFUSED),
                502,
                ProxyError::ConnectionRefused,
            ),
            (
                libc_error(libc::EMFILE),
                503,
                ProxyError::ConnectionLimitReached,
            ),
            (libc_error(libc::EIO), 500, ProxyError::ProxyInternalError),
        ];
        for (source, status, error) in table {
            let text = source.to_string();
            let converted = Error::from(source);
            assert_eq!(converted.status().as_u16(), status, "{text}");
            assert_eq!(converted.proxy_error(), Some(error), "{text}");
        }
    }

    fn libc_error(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn the_log_sees_the_cause() {
        let error = Error::internal("cannot open the device").with_source("no such file");
        assert_eq!(error.to_string(), "cannot open the device: no such file");
    }
}
