//! What is wrong with a message.

use http::StatusCode;
use http::header::HeaderName;

use super::MAX_FIELDS;

/// The most bytes of a peer's that an error repeats.
pub(super) const MAX_EXCERPT_LEN: usize = 64;

/// The rule that a message breaks (RFC 9114 §4.1.2).
///
/// The text may be logged: it repeats at most 64 bytes of the peer's, escaped, and nothing of
/// what may be a secret (paths, user names, values of regular fields but `host`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The section has more than [`MAX_FIELDS`] lines (RFC 9114 §4.2.2).
    #[error("more than {MAX_FIELDS} field lines")]
    TooManyFields,
    /// A field name is empty or not a token (RFC 9110 §5.1, RFC 9114 §10.3).
    #[error("field name \"{0}\" is not a token")]
    FieldName(String),
    /// A field name has upper-case letters (RFC 9114 §4.2).
    #[error("field name \"{0}\" has upper-case letters")]
    UpperCaseName(String),
    /// The value of the named field has a forbidden byte, or whitespace at an end (RFC 9110 §5.5,
    /// RFC 9114 §10.3).
    #[error("the value of field \"{0}\" has forbidden bytes")]
    FieldValue(String),
    /// The field concerns one HTTP/1.1 connection. Of these, only `te: trailers` may come, and only
    /// in a request (RFC 9114 §4.2).
    #[error("{0} is specific to an HTTP/1.1 connection")]
    ConnectionSpecific(HeaderName),
    /// No RFC that this end implements defines the pseudo-header field (RFC 9114 §4.3).
    #[error("pseudo-header field \"{0}\" is not defined")]
    UnknownPseudo(String),
    /// The pseudo-header field belongs to another kind of section; none belongs to trailers
    /// (RFC 9114 §4.3).
    #[error("{0} does not belong in this section")]
    MisplacedPseudo(&'static str),
    /// A pseudo-header field comes after a regular field (RFC 9114 §4.3).
    #[error("pseudo-header field \"{0}\" comes after a regular field")]
    LatePseudo(String),
    /// The field may come only once (RFC 9114 §4.3.1, §4.3.2, RFC 9110 §7.2).
    #[error("{0} is repeated")]
    Repeated(&'static str),
    /// The field must be there (RFC 9114 §4.3.1, §4.3.2, §4.4, RFC 8441 §4).
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The field must have a value (RFC 9114 §4.3.1, RFC 8441 §4).
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The `:method` or `:protocol` is not a token (RFC 9110 §9.1, §7.8, RFC 9220 §3).
    #[error("{0} \"{1}\" is not a token")]
    Token(&'static str, String),
    /// There is a `:protocol`, but the method is not CONNECT (RFC 8441 §4).
    #[error(":protocol without the method CONNECT")]
    ProtocolWithoutConnect,
    /// There is no `:protocol`, but a CONNECT has a `:scheme` or `:path` (RFC 9114 §4.4).
    #[error("CONNECT with :scheme or :path, but without :protocol")]
    ConnectWithoutProtocol,
    /// The `:scheme` is not `https`. Such a message may be well-formed by rules that this end does
    /// not know: a 400 is answer enough (RFC 9114 §4.3.1).
    #[error("scheme \"{0}\" is not https")]
    Scheme(String),
    /// The `:authority` or `host` is not `host [":" port]` (RFC 3986 §3.2, RFC 9114 §4.3.1).
    #[error("\"{0}\" is not a host with an optional port")]
    Authority(String),
    /// The `:authority` or `host` has a user name (RFC 9114 §4.3.1).
    #[error("the authority has a user name")]
    UserInfo,
    /// `:authority` and `host` differ (RFC 9114 §4.3.1).
    #[error(":authority and host differ")]
    AuthorityMismatch,
    /// The `:path` neither starts with `/` nor is the `*` of an OPTIONS request (RFC 9114 §4.3.1).
    #[error(":path does not start with `/`")]
    PathForm,
    /// The `:path` has a byte that no path and no query has: a control, a space, `#` or one outside
    /// ASCII (RFC 9114 §4.3.1, RFC 3986 §3.3).
    #[error(":path has the byte {0:#04x}")]
    PathByte(u8),
    /// The `:status` is not a number of three digits from 100 (RFC 9114 §4.3.2, RFC 9110 §15).
    #[error("status \"{0}\" is not a number of three digits")]
    Status(String),
    /// The response is a 101, which HTTP/3 does not have (RFC 9114 §4.5).
    #[error("status 101 in HTTP/3")]
    SwitchingProtocols,
    /// The field describes content, and the message is a tunnel's (RFC 9297 §3.2).
    #[error("{0} in a tunnel's message")]
    TunnelField(HeaderName),
    /// The status is a 2xx that never answers a tunnel request (RFC 9297 §3.2).
    #[error("status {} for a tunnel", .0.as_str())]
    TunnelStatus(StatusCode),
    /// A `content-length` is not a decimal number below 2^64 (RFC 9110 §8.6).
    #[error("content-length is not a number")]
    ContentLength,
    /// Two values of `content-length` differ (RFC 9110 §8.6).
    #[error("content-length has two values")]
    ContentLengthConflict,
    /// The content is not as long as announced, or there should be none (RFC 9114 §4.1.2).
    #[error("{received} bytes of content instead of {expected}")]
    Content {
        /// The number of bytes announced.
        expected: u64,
        /// The number of bytes that came, so far when there are more.
        received: u64,
    },
}

/// The first bytes of something the peer sent, escaped: fit for a log, where raw ones may mean
/// something to whoever reads them (RFC 9114 §10.3).
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let (kept, rest) = bytes.split_at(bytes.len().min(MAX_EXCERPT_LEN));
    let ellipsis = if rest.is_empty() { "" } else { "…" };
    format!("{}{ellipsis}", kept.escape_ascii())
}
