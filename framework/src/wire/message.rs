//! Header sections of HTTP/3 messages: what may be read from one and what is written into one.
//!
//! A QPACK decoder hands over field lines as pairs of bytes and says nothing of their meaning. The
//! `parse_…` functions apply the rules of RFC 9114 §4.1 to §4.4 (messages), RFC 9220 §3 (extended
//! CONNECT) and RFC 9297 §3.2 (tunnels), and give a head that needs no further checks. Whatever
//! breaks a rule is [`Malformed`]: the engine resets that stream with `H3_MESSAGE_ERROR`, after a
//! 400 where it is the server (RFC 9114 §4.1.2), and leaves the connection alone.
//!
//! The `…_fields` functions write, and pass what they wrote through the parser: this end never
//! sends what it would refuse.

mod malformed;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode};

pub use self::malformed::Malformed;
use self::malformed::excerpt;

/// The most field lines that one section may have, pseudo-header fields included.
///
/// RFC 9114 §4.2.2 limits bytes. A line costs an entry in a map besides, however short it is;
/// browsers send about thirty.
pub const MAX_FIELDS: usize = 256;

const CAPSULE_PROTOCOL: HeaderName = HeaderName::from_static("capsule-protocol");

/// Fields that concern one HTTP/1.1 connection and do not exist in HTTP/3 (RFC 9114 §4.2).
const CONNECTION_SPECIFIC: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that describe content, which a tunnel has none of (RFC 9297 §3.2). That section names
/// `transfer-encoding` too; no message of HTTP/3 may have it.
const CONTENT_FIELDS: [HeaderName; 2] = [CONTENT_LENGTH, CONTENT_TYPE];

/// Fields whose values are secrets. They are marked as such, so that `Debug` hides them.
const SECRETS: [HeaderName; 4] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];

/// The lines of a section to send, in order: names in lower case, and values (RFC 9114 §4.2).
pub type Fields<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

/// The head of a well-formed request (RFC 9114 §4.3.1, RFC 9220 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The `:method`. It may be one that no RFC defines.
    pub method: Method,
    /// The `:protocol` of an extended CONNECT, as sent: a token (RFC 9220 §3).
    pub protocol: Option<String>,
    /// The `:scheme`, always `https`; `None` for a plain CONNECT (RFC 9114 §4.4).
    pub scheme: Option<String>,
    /// The `:authority`, or `host` where there was none (RFC 9114 §4.3.1).
    pub authority: String,
    /// The `:path`: path and query, still percent-encoded; `*` for some OPTIONS requests, and empty
    /// for a plain CONNECT (RFC 9114 §4.3.1, §4.4).
    pub path: String,
    /// The regular fields less `host`, which `authority` stands for (RFC 9114 §4.3.1).
    pub headers: HeaderMap,
    /// The announced number of bytes of content (RFC 9110 §8.6).
    pub content_length: Option<u64>,
}

impl RequestHead {
    /// Whether this is an extended CONNECT, which asks for a tunnel (RFC 9220 §3).
    pub fn is_tunnel(&self) -> bool {
        self.protocol.is_some()
    }

    /// Whether this is a CONNECT without `:protocol`, which asks for a TCP connection
    /// (RFC 9114 §4.4). It is well-formed all the same; whether it is offered is not decided here.
    pub fn is_plain_connect(&self) -> bool {
        self.method == Method::CONNECT && self.protocol.is_none()
    }
}

/// The head of a well-formed response, interim or final (RFC 9114 §4.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The `:status`.
    pub status: StatusCode,
    /// The regular fields (RFC 9114 §4.2).
    pub headers: HeaderMap,
    /// The announced number of bytes of content (RFC 9110 §8.6). A response to HEAD and a 304
    /// announce it without sending it.
    pub content_length: Option<u64>,
}

impl ResponseHead {
    /// Whether another response follows this one (RFC 9114 §4.1).
    pub fn is_informational(&self) -> bool {
        self.status.is_informational()
    }
}

/// Reads the header section of a request (RFC 9114 §4.3.1, §4.4, RFC 9220 §3).
///
/// ```
/// use pasque::wire::message::{Malformed, parse_request};
///
/// let fields: [(&[u8], &[u8]); 4] = [
///     (b":method", b"GET"),
///     (b":scheme", b"https"),
///     (b":authority", b"psq.example.net"),
///     (b":path", b"/files/a.txt"),
/// ];
/// assert_eq!(parse_request(fields).unwrap().path, "/files/a.txt");
/// assert_eq!(parse_request(fields[..3].to_vec()), Err(Malformed::Missing(":path")));
/// ```
///
/// # Errors
/// The first rule found broken. [`Malformed::Scheme`] alone says nothing of the rest.
pub fn parse_request<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<RequestHead, Malformed> {
    let (pseudo, mut headers) = read(fields, Section::Request)?;
    let method = token(":method", pseudo.method)?;
    let method =
        Method::from_bytes(method).map_err(|_| Malformed::Token(":method", excerpt(method)))?;
    let is_connect = method == Method::CONNECT;
    let protocol = match pseudo.protocol {
        Some(_) if !is_connect => return Err(Malformed::ProtocolWithoutConnect),
        Some(_) => Some(text(token(":protocol", pseudo.protocol)?)),
        None => None,
    };

    let (scheme, path) = if is_connect && protocol.is_none() {
        if pseudo.scheme.is_some() || pseudo.path.is_some() {
            return Err(Malformed::ConnectWithoutProtocol);
        }
        (None, String::new())
    } else {
        let scheme = parse_scheme(required(":scheme", pseudo.scheme)?)?;
        let path = parse_path(required(":path", pseudo.path)?, &method)?;
        (Some(scheme), path)
    };
    let authority = take_authority(pseudo.authority, &mut headers, &method)?;

    let content_length = unify_content_length(&mut headers)?;
    if protocol.is_some() {
        refuse_content_fields(&headers)?;
    }
    Ok(RequestHead {
        method,
        protocol,
        scheme,
        authority,
        path,
        headers,
        content_length,
    })
}

/// Reads the header section of a response, interim or final (RFC 9114 §4.3.2).
///
/// `tunnel` says that the request was an extended CONNECT. A 2xx then opens a tunnel and is held to
/// RFC 9297 §3.2; other statuses are ordinary responses.
///
/// # Errors
/// The first rule found broken.
pub fn parse_response<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    tunnel: bool,
) -> Result<ResponseHead, Malformed> {
    let (pseudo, mut headers) = read(fields, Section::Response)?;
    let status = required(":status", pseudo.status)?;
    let status = StatusCode::from_bytes(status).map_err(|_| Malformed::Status(excerpt(status)))?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed::SwitchingProtocols);
    }

    let content_length = unify_content_length(&mut headers)?;
    if tunnel && status.is_success() {
        if matches!(status.as_u16(), 204..=206) {
            return Err(Malformed::TunnelStatus(status));
        }
        refuse_content_fields(&headers)?;
    }
    Ok(ResponseHead {
        status,
        headers,
        content_length,
    })
}

/// Reads a trailer section, which has no pseudo-header fields (RFC 9114 §4.1, §4.3).
///
/// # Errors
/// The first rule found broken.
pub fn parse_trailers<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<HeaderMap, Malformed> {
    read(fields, Section::Trailers).map(|(_, trailers)| trailers)
}

/// Writes the header section of a request (RFC 9114 §4.3.1).
///
/// The pseudo-header fields come first, each once. With a `protocol` it is an extended CONNECT
/// (RFC 9220 §3): the token is written in lower case, `capsule-protocol: ?1` is added (RFC 9297
/// §3.4). A CONNECT without one has neither `scheme` nor `path` (RFC 9114 §4.4).
///
/// Fields that have no place there are left out: those of HTTP/1.1 connections, `host`, and in a
/// tunnel request those that describe content.
///
/// # Errors
/// The arguments make no well-formed request.
pub fn request_fields<'a>(
    method: &'a Method,
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    protocol: Option<&'a str>,
    headers: &'a HeaderMap,
) -> Result<Fields<'a>, Malformed> {
    let mut pseudo = vec![(":method".as_bytes(), method.as_str().as_bytes().into())];
    if let Some(protocol) = protocol {
        let token = protocol.to_ascii_lowercase().into_bytes();
        pseudo.push((b":protocol", token.into()));
    }
    pseudo.push((b":authority", authority.as_bytes().into()));
    if *method != Method::CONNECT || protocol.is_some() {
        pseudo.push((b":scheme", scheme.as_bytes().into()));
        pseudo.push((b":path", path.as_bytes().into()));
    }

    let fields = write(pseudo, headers, Section::Request, protocol.is_some());
    parse_request(borrow(&fields))?;
    Ok(fields)
}

/// Writes the header section of a response (RFC 9114 §4.3.2).
///
/// `tunnel` says that the request was an extended CONNECT. A 2xx then opens the tunnel: it has
/// `capsule-protocol: ?1` (RFC 9297 §3.4) and nothing that describes content (§3.2). No other
/// response has `capsule-protocol`. Fields of HTTP/1.1 connections are left out.
///
/// # Errors
/// The status is a 101, or one that never answers a tunnel request; or there are too many fields.
pub fn response_fields(
    status: StatusCode,
    headers: &HeaderMap,
    tunnel: bool,
) -> Result<Fields<'_>, Malformed> {
    let code = status.as_str().as_bytes().to_vec();
    let pseudo = vec![(":status".as_bytes(), code.into())];
    let opens_tunnel = tunnel && status.is_success();
    let fields = write(pseudo, headers, Section::Response, opens_tunnel);
    parse_response(borrow(&fields), tunnel)?;
    Ok(fields)
}

/// Compares the content of a message with its `content-length` (RFC 9114 §4.1.2).
#[derive(Clone, Debug)]
pub struct ContentLength {
    expected: Option<u64>,
    received: u64,
}

impl ContentLength {
    /// Expects as many bytes as the head announced, or any number when it announced none.
    pub fn new(expected: Option<u64>) -> Self {
        Self {
            expected,
            received: 0,
        }
    }

    /// Expects no content, whatever the head announced: for the response to a HEAD request, a 204
    /// and a 304 (RFC 9110 §6.4.1).
    pub fn none_expected() -> Self {
        Self::new(Some(0))
    }

    /// Counts the bytes of a DATA frame, or of a part of it.
    ///
    /// # Errors
    /// [`Malformed::Content`] as soon as there is more than expected.
    pub fn add(&mut self, len: usize) -> Result<(), Malformed> {
        self.received = self.received.saturating_add(len as u64);
        self.check(|received, expected| received <= expected)
    }

    /// Checks the sum when the message has ended.
    ///
    /// # Errors
    /// [`Malformed::Content`] when there is more or less than expected.
    pub fn finish(&self) -> Result<(), Malformed> {
        self.check(|received, expected| received == expected)
    }

    fn check(&self, is_good: impl FnOnce(u64, u64) -> bool) -> Result<(), Malformed> {
        let received = self.received;
        match self.expected {
            Some(expected) if !is_good(received, expected) => {
                Err(Malformed::Content { expected, received })
            }
            _ => Ok(()),
        }
    }
}

/// The kinds of field sections (RFC 9114 §4.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Request,
    Response,
    Trailers,
}

/// The values of the pseudo-header fields, which nobody has looked into yet.
#[derive(Default)]
struct PseudoFields<'a> {
    method: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
}

impl<'a> PseudoFields<'a> {
    fn set(&mut self, name: &[u8], value: &'a [u8], section: Section) -> Result<(), Malformed> {
        let (slot, name, home) = match name {
            b":method" => (&mut self.method, ":method", Section::Request),
            b":protocol" => (&mut self.protocol, ":protocol", Section::Request),
            b":scheme" => (&mut self.scheme, ":scheme", Section::Request),
            b":authority" => (&mut self.authority, ":authority", Section::Request),
            b":path" => (&mut self.path, ":path", Section::Request),
            b":status" => (&mut self.status, ":status", Section::Response),
            _ => return Err(Malformed::UnknownPseudo(excerpt(name))),
        };
        if section != home {
            return Err(Malformed::MisplacedPseudo(name));
        }
        match slot.replace(value) {
            Some(_) => Err(Malformed::Repeated(name)),
            None => Ok(()),
        }
    }
}

/// Sorts the lines of a section, checking each but none against another.
fn read<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    section: Section,
) -> Result<(PseudoFields<'a>, HeaderMap), Malformed> {
    let mut pseudo = PseudoFields::default();
    let mut headers = HeaderMap::new();
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index == MAX_FIELDS {
            return Err(Malformed::TooManyFields);
        }
        if !name.starts_with(b":") {
            let (name, value) = parse_field(name, value, section)?;
            headers.append(name, value);
        } else if headers.is_empty() {
            pseudo.set(name, value, section)?;
        } else {
            return Err(Malformed::LatePseudo(excerpt(name)));
        }
    }
    Ok((pseudo, headers))
}

fn parse_field(
    name: &[u8],
    value: &[u8],
    section: Section,
) -> Result<(HeaderName, HeaderValue), Malformed> {
    // `HeaderName` would turn upper case into lower: look first.
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(Malformed::UpperCaseName(excerpt(name)));
    }
    let parsed = HeaderName::from_bytes(name).map_err(|_| Malformed::FieldName(excerpt(name)))?;

    let bad_value = || Malformed::FieldValue(excerpt(name));
    // RFC 9110 §5.5: whitespace around a value is not part of it, so a decoder never yields any.
    if value.trim_ascii().len() != value.len() {
        return Err(bad_value());
    }
    // Refuses every control but HTAB. CR, LF and NUL are the dangerous ones (RFC 9114 §10.3).
    let mut value = HeaderValue::from_bytes(value).map_err(|_| bad_value())?;
    if is_connection_specific(&parsed, &value, section) {
        return Err(Malformed::ConnectionSpecific(parsed));
    }
    value.set_sensitive(SECRETS.contains(&parsed));
    Ok((parsed, value))
}

fn is_connection_specific(name: &HeaderName, value: &HeaderValue, section: Section) -> bool {
    let is_trailers = value.as_bytes().eq_ignore_ascii_case(b"trailers");
    let is_allowed_te = section == Section::Request && is_trailers;
    CONNECTION_SPECIFIC.contains(name) || *name == TE && !is_allowed_te
}

/// Whether the bytes are a `token` (RFC 9110 §5.6.2).
fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// The value of a field that must be there and not be empty.
fn required<'a>(name: &'static str, value: Option<&'a [u8]>) -> Result<&'a [u8], Malformed> {
    match value {
        None => Err(Malformed::Missing(name)),
        Some([]) => Err(Malformed::Empty(name)),
        Some(value) => Ok(value),
    }
}

fn token<'a>(name: &'static str, value: Option<&'a [u8]>) -> Result<&'a [u8], Malformed> {
    let value = required(name, value)?;
    if !is_token(value) {
        return Err(Malformed::Token(name, excerpt(value)));
    }
    Ok(value)
}

/// Takes `https` in any case (RFC 3986 §3.1) and gives it in lower case.
fn parse_scheme(value: &[u8]) -> Result<String, Malformed> {
    if !value.eq_ignore_ascii_case(b"https") {
        return Err(Malformed::Scheme(excerpt(value)));
    }
    Ok("https".to_owned())
}

/// Takes a path with an optional query.
///
/// Visible ASCII passes even where RFC 3986 wants an escape (`|`, `{`): browsers send it so, and
/// whoever decodes the path deals with it.
fn parse_path(value: &[u8], method: &Method) -> Result<String, Malformed> {
    let is_forbidden = |byte: &&u8| !byte.is_ascii_graphic() || **byte == b'#';
    if let Some(byte) = value.iter().find(is_forbidden) {
        return Err(Malformed::PathByte(*byte));
    }
    match value {
        [b'/', ..] => Ok(text(value)),
        b"*" if *method == Method::OPTIONS => Ok(text(value)),
        _ => Err(Malformed::PathForm),
    }
}

/// Gives the server's name from `:authority` or `host`, and takes `host` out of the fields.
///
/// The two are equal when they differ only in case, which a host name does not have. An explicit
/// default port in one of them is a difference: the RFC asks for the same value (§4.3.1). CONNECT,
/// of either kind, has an `:authority` (RFC 9114 §4.4, RFC 8441 §4).
fn take_authority(
    authority: Option<&[u8]>,
    headers: &mut HeaderMap,
    method: &Method,
) -> Result<String, Malformed> {
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::Repeated("host"));
    }
    let value = match (authority, host) {
        (None, Some(_)) if *method != Method::CONNECT => required("host", host)?,
        _ => required(":authority", authority)?,
    };
    if host.is_some_and(|host| !host.eq_ignore_ascii_case(value)) {
        return Err(Malformed::AuthorityMismatch);
    }
    if value.contains(&b'@') {
        return Err(Malformed::UserInfo);
    }
    if !is_authority(value) {
        return Err(Malformed::Authority(excerpt(value)));
    }
    let authority = text(value);
    headers.remove(HOST);
    Ok(authority)
}

/// Whether this is `host [":" port]` of RFC 3986 §3.2, with a host that is not empty
/// (RFC 9110 §4.2.2). Address literals of the future and zone identifiers are not taken.
fn is_authority(value: &[u8]) -> bool {
    let Ok(value) = str::from_utf8(value) else {
        return false;
    };

    let (is_host, rest) = match value.strip_prefix('[').and_then(|v| v.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, rest) = value.split_at(value.find(':').unwrap_or(value.len()));
            (is_registered_name(name.as_bytes()), rest)
        }
    };
    // A colon without a port is allowed there, and means the default one.
    let is_port = |port: &str| {
        port.is_empty() || parse_decimal(port.as_bytes()).is_some_and(|port| port <= 65535)
    };
    is_host && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// Whether this is a `reg-name` of RFC 3986 §3.2.2 that is not empty. IPv4 addresses are some.
fn is_registered_name(name: &[u8]) -> bool {
    let is_plain = |part: &[u8]| {
        let is_allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(b);
        part.iter().all(is_allowed)
    };
    let is_escape_first = |part: &[u8]| {
        let (digits, rest) = part.split_at(part.len().min(2));
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit) && is_plain(rest)
    };
    let mut parts = name.split(|byte| *byte == b'%');
    !name.is_empty() && parts.next().is_some_and(is_plain) && parts.all(is_escape_first)
}

/// Reads `content-length` and leaves one line of one value: equal values may come as lines or as a
/// list and count once (RFC 9110 §8.6), but nobody downstream shall choose among them.
fn unify_content_length(headers: &mut HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for value in line.as_bytes().split(|byte| *byte == b',') {
            let parsed = parse_decimal(value.trim_ascii()).ok_or(Malformed::ContentLength)?;
            if length.is_some_and(|length| length != parsed) {
                return Err(Malformed::ContentLengthConflict);
            }
            length = Some(parsed);
        }
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(length)
}

fn parse_decimal(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok()?;
    // A plus sign is all that `parse` takes besides digits.
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok()
}

fn refuse_content_fields(headers: &HeaderMap) -> Result<(), Malformed> {
    for name in CONTENT_FIELDS {
        if headers.contains_key(&name) {
            return Err(Malformed::TunnelField(name));
        }
    }
    Ok(())
}

/// Bytes that were found to be ASCII, so that nothing is lost.
fn text(ascii: &[u8]) -> String {
    String::from_utf8_lossy(ascii).into_owned()
}

/// Puts the lines of a section in order and leaves out what has no place in it.
fn write<'a>(
    pseudo: Fields<'a>,
    headers: &'a HeaderMap,
    section: Section,
    tunnel: bool,
) -> Fields<'a> {
    let is_left_out = |name: &HeaderName, value: &HeaderValue| {
        is_connection_specific(name, value, section)
            || [HOST, CAPSULE_PROTOCOL].contains(name)
            || tunnel && CONTENT_FIELDS.contains(name)
    };
    let mut fields = pseudo;
    if tunnel {
        fields.push((b"capsule-protocol", b"?1".into()));
    }
    for (name, value) in headers {
        if !is_left_out(name, value) {
            // `HeaderValue` takes whitespace at the ends; no field has it (RFC 9110 §5.5).
            let value = value.as_bytes().trim_ascii();
            fields.push((name.as_str().as_bytes(), value.into()));
        }
    }
    fields
}

fn borrow<'a>(fields: &'a Fields<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    fields.iter().map(|(name, value)| (*name, value.as_ref()))
}
