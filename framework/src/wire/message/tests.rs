use http::header::{ACCEPT, CONTENT_ENCODING};
use proptest::prelude::*;

use super::malformed::MAX_EXCERPT_LEN;
use super::*;

/// Malformed messages: the row they show, the message, what is wrong with it.
///
/// The message is one of [`Lines::base`] with edits: `-name` removes lines, `name=value` replaces a
/// line or adds it in its place, `+name=value` adds one at the end. Escapes are those of Rust.
const MALFORMED: &str = r#"
h3_02  | get -:method                          | Missing(":method")
h3_02  | get -:scheme                          | Missing(":scheme")
h3_02  | get -:path                            | Missing(":path")
h3_02  | get +:method=GET                      | Repeated(":method")
h3_02  | get +:scheme=https                    | Repeated(":scheme")
h3_02  | get +:authority=a.example             | Repeated(":authority")
h3_02  | get +:path=/f                         | Repeated(":path")
h3_02  | get :method=                          | Empty(":method")
h3_02  | get :scheme=                          | Empty(":scheme")
h3_02  | get :method=G\x20T                    | Token(":method", "G T")
h3_02  | get :method=GET\r\n                   | Token(":method", "GET\\r\\n")
h3_03  | get +accept=x +:path=/f               | LatePseudo(":path")
h3_03  | get -:path accept=x +:path=/f         | LatePseudo(":path")
h3_03  | 200 -:status accept=x +:status=200    | LatePseudo(":status")
h3_03  | get :foo=1                            | UnknownPseudo(":foo")
h3_03  | get :=1                               | UnknownPseudo(":")
h3_03  | get :Path=/                           | UnknownPseudo(":Path")
h3_03  | get :status=200                       | MisplacedPseudo(":status")
h3_03  | 200 :method=GET                       | MisplacedPseudo(":method")
h3_03  | trailers :path=/                      | MisplacedPseudo(":path")
h3_03  | trailers :status=200                  | MisplacedPseudo(":status")
h3_03  | trailers :foo=1                       | UnknownPseudo(":foo")
h3_04  | get X-A=1                             | UpperCaseName("X-A")
h3_04  | get TE=trailers                       | UpperCaseName("TE")
h3_04  | 200 Content-Length=1                  | UpperCaseName("Content-Length")
h3_04  | trailers X-A=1                        | UpperCaseName("X-A")
h3_05  | get te=gzip                           | ConnectionSpecific("te")
h3_05  | get te=trailers,\x20gzip              | ConnectionSpecific("te")
h3_05  | get te=trailers +te=gzip              | ConnectionSpecific("te")
h3_05  | 200 te=trailers                       | ConnectionSpecific("te")
h3_05  | trailers te=trailers                  | ConnectionSpecific("te")
h3_06  | get =1                                | FieldName("")
h3_06  | get x\x20a=1                          | FieldName("x a")
h3_06  | get x\r\ny=1                          | FieldName("x\\r\\ny")
h3_06  | get x-a=a\r\nb                        | FieldValue("x-a")
h3_06  | get x-a=\0                            | FieldValue("x-a")
h3_06  | get x-a=\x20                          | FieldValue("x-a")
h3_06  | get x-a=a\t                           | FieldValue("x-a")
h3_06  | trailers x-a=\x7f                     | FieldValue("x-a")
h3_07  | get -:authority                       | Missing(":authority")
h3_07  | get -:authority host=                 | Empty("host")
h3_07  | get -:authority host=u@h              | UserInfo
h3_07  | get -:authority host=a\x20b           | Authority("a b")
h3_07  | get host=a.example +host=a.example    | Repeated("host")
h3_07  | get :authority=                       | Empty(":authority")
h3_07  | get :authority= host=a.example        | Empty(":authority")
h3_07  | get :authority=u@h                    | UserInfo
h3_07  | get :authority=@h                     | UserInfo
h3_07  | get host=                             | AuthorityMismatch
h3_07  | get host=b.example                    | AuthorityMismatch
h3_07  | get host=a.example:443                | AuthorityMismatch
h3_07  | tunnel host=b.example                 | AuthorityMismatch
h3_08  | get :path=                            | Empty(":path")
h3_08  | get :path=a/b                         | PathForm
h3_08  | get :path=https://a.example/f         | PathForm
h3_08  | get :path=*                           | PathForm
h3_08  | tunnel :path=*                        | PathForm
h3_08  | get :method=OPTIONS :path=**          | PathForm
h3_08  | get :path=/a#b                        | PathByte(35)
h3_08  | get :path=/a\x20b                     | PathByte(32)
h3_08  | tunnel :path=/\xc3\xa9                | PathByte(195)
h3_08  | get :scheme=http                      | Scheme("http")
h3_08  | get :scheme=https:                    | Scheme("https:")
h3_08  | get :scheme=h\r\n                     | Scheme("h\\r\\n")
h3_09  | get content-length=5 +content-length=6   | ContentLengthConflict
h3_09  | get content-length=5,\x206               | ContentLengthConflict
h3_09  | get content-length=                      | ContentLength
h3_09  | get content-length=-1                    | ContentLength
h3_09  | get content-length=+1                    | ContentLength
h3_09  | get content-length=0x5                   | ContentLength
h3_09  | get content-length=5a                    | ContentLength
h3_09  | get content-length=5,                    | ContentLength
h3_09  | get content-length=\xd9\xa5              | ContentLength
h3_09  | get content-length=18446744073709551616  | ContentLength
h3_09  | 200 content-length=99999999999999999999  | ContentLength
h3_11  | 200 -:status                          | Missing(":status")
h3_11  | 200 +:status=200                      | Repeated(":status")
h3_11  | 200 :status=                          | Empty(":status")
h3_11  | 200 :status=20                        | Status("20")
h3_11  | 200 :status=2000                      | Status("2000")
h3_11  | 200 :status=099                       | Status("099")
h3_11  | 200 :status=\xd9\xa50                 | Status("\\xd9\\xa50")
xc_05  | get :protocol=connect-udp             | ProtocolWithoutConnect
xc_05  | tunnel :method=POST                   | ProtocolWithoutConnect
xc_05  | tunnel :method=connect                | ProtocolWithoutConnect
xc_05  | tunnel -:method                       | Missing(":method")
xc_05  | tunnel -:scheme                       | Missing(":scheme")
xc_05  | tunnel -:path                         | Missing(":path")
xc_05  | tunnel -:authority                    | Missing(":authority")
xc_05  | tunnel -:authority host=a.example     | Missing(":authority")
xc_05  | tunnel :scheme=                       | Empty(":scheme")
xc_05  | tunnel :path=                         | Empty(":path")
xc_05  | tunnel :authority=                    | Empty(":authority")
xc_05  | tunnel :protocol=                     | Empty(":protocol")
xc_05  | tunnel :protocol=a\x20b               | Token(":protocol", "a b")
xc_05  | tunnel :protocol=\xe9                 | Token(":protocol", "\\xe9")
xc_05  | tunnel +:protocol=connect-ip          | Repeated(":protocol")
xc_10  | tunnel -:protocol                     | ConnectWithoutProtocol
xc_10  | connect :scheme=https                 | ConnectWithoutProtocol
xc_10  | connect :path=/                       | ConnectWithoutProtocol
xc_10  | connect -:authority                   | Missing(":authority")
xc_10  | connect -:authority host=b.example    | Missing(":authority")
xc_10  | connect :authority=                   | Empty(":authority")
xc_10  | connect :authority=u@b.example:22     | UserInfo
xc_15  | 200 :status=101                       | SwitchingProtocols
xc_15  | opened :status=101                    | SwitchingProtocols
xc_15  | opened :status=101 upgrade=x          | ConnectionSpecific("upgrade")
xc_15  | tunnel upgrade=connect-udp            | ConnectionSpecific("upgrade")
xc_15  | tunnel connection=upgrade             | ConnectionSpecific("connection")
hdg_25 | tunnel content-length=0               | TunnelField("content-length")
hdg_25 | tunnel content-length=5               | TunnelField("content-length")
hdg_25 | tunnel content-type=a/b               | TunnelField("content-type")
hdg_25 | tunnel transfer-encoding=chunked      | ConnectionSpecific("transfer-encoding")
hdg_25 | opened content-length=0               | TunnelField("content-length")
hdg_25 | opened :status=201 content-type=a/b   | TunnelField("content-type")
hdg_25 | opened transfer-encoding=chunked      | ConnectionSpecific("transfer-encoding")
hdg_26 | opened :status=204                    | TunnelStatus(204)
hdg_26 | opened :status=205                    | TunnelStatus(205)
hdg_26 | opened :status=206                    | TunnelStatus(206)
"#;

/// Checks that every message of the row is refused for the reason it is there for.
#[track_caller]
fn refuse(row: &str) {
    let mut count = 0;
    for line in MALFORMED.lines() {
        let cells: Vec<_> = line.split(" | ").map(str::trim).collect();
        if let [name, message, expected] = cells[..]
            && name == row
        {
            let malformed = format!("{:?}", outcome(message).unwrap_err());
            assert_eq!(malformed, expected, "{message}");
            count += 1;
        }
    }
    assert!(count > 2, "{row} has {count} messages");
}

/// Parses a message as what its base is.
fn outcome(message: &str) -> Result<(), Malformed> {
    let lines = Lines::new(message);
    match message.split(' ').next() {
        Some("get" | "tunnel" | "connect") => lines.request().map(drop),
        Some("trailers") => parse_trailers(lines.iter()).map(drop),
        base => lines.response(base == Some("opened")).map(drop),
    }
}

/// The lines of a section under test.
#[derive(Clone, Debug)]
struct Lines(Vec<(Vec<u8>, Vec<u8>)>);

impl Lines {
    /// A message in the notation of [`MALFORMED`].
    fn new(message: &str) -> Self {
        let mut words = message.split(' ');
        let mut lines = Self(Vec::new());
        for line in Self::base(words.next().unwrap()).split(' ') {
            let (name, value) = line.split_once('=').unwrap();
            lines.0.push((name.into(), value.into()));
        }
        for edit in words {
            lines.edit(edit);
        }
        lines
    }

    fn base(name: &str) -> &'static str {
        match name {
            "get" => ":method=GET :scheme=https :authority=a.example :path=/f",
            "tunnel" => {
                ":method=CONNECT :protocol=connect-udp :scheme=https :authority=a.example \
                 :path=/udp/192.0.2.6/443/"
            }
            "connect" => ":method=CONNECT :authority=b.example:22",
            "200" | "opened" => ":status=200",
            "trailers" => "x-sum=1",
            other => panic!("{other}?"),
        }
    }

    fn edit(&mut self, edit: &str) {
        if let Some(name) = edit.strip_prefix('-') {
            return self.0.retain(|(other, _)| other != name.as_bytes());
        }
        let (name, value) = edit.split_once('=').unwrap();
        let is_added = name.starts_with('+');
        let (name, value) = (unescape(name.trim_start_matches('+')), unescape(value));
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) if !is_added => *old = value,
            _ if name.starts_with(b":") && !is_added => self.0.insert(0, (name, value)),
            _ => self.0.push((name, value)),
        }
    }

    fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    fn request(&self) -> Result<RequestHead, Malformed> {
        parse_request(self.iter())
    }

    fn response(&self, tunnel: bool) -> Result<ResponseHead, Malformed> {
        parse_response(self.iter(), tunnel)
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, len) = match &part[..1] {
            "r" => (b'\r', 1),
            "n" => (b'\n', 1),
            "t" => (b'\t', 1),
            "0" => (0, 1),
            _ => (u8::from_str_radix(&part[1..3], 16).unwrap(), 3),
        };
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[len..]);
    }
    bytes
}

fn request(message: &str) -> Result<RequestHead, Malformed> {
    Lines::new(message).request()
}

/// Fields in the notation of [`MALFORMED`], for comparison.
fn shown(fields: &Fields<'_>) -> Vec<String> {
    let show = |(name, value)| format!("{}={}", text(name), text(value));
    borrow(fields).map(show).collect()
}

fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(' ') {
        let (name, value) = line.split_once('=').unwrap();
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(&unescape(value)).unwrap());
    }
    headers
}

#[test]
fn h3_02_method_scheme_and_path_come_exactly_once() {
    refuse("h3_02");
    let head = request("get accept=x").unwrap();
    assert_eq!(head.method, Method::GET);
    assert_eq!(head.scheme.as_deref(), Some("https"));
    assert_eq!((&*head.authority, &*head.path), ("a.example", "/f"));
    assert_eq!(head.headers[ACCEPT], "x");
    assert!(!head.is_tunnel() && !head.is_plain_connect());
    // A method that nobody knows is the router's to refuse, also one that only looks like CONNECT.
    for method in ["FOO", "connect"] {
        let head = request(&format!("get :method={method}")).unwrap();
        assert_eq!(head.method.as_str(), method);
        assert!(!head.is_plain_connect());
    }
}

#[test]
fn h3_03_pseudo_header_fields_are_known_and_come_first() {
    refuse("h3_03");
    let trailers = parse_trailers(Lines::new("trailers +x-sum=2").iter()).unwrap();
    assert_eq!(trailers.get_all("x-sum").iter().count(), 2);
    assert_eq!(outcome("trailers -x-sum"), Ok(()));
}

#[test]
fn h3_04_upper_case_names_are_malformed() {
    refuse("h3_04");
}

#[test]
fn h3_05_connection_specific_fields_are_malformed() {
    refuse("h3_05");
    for name in CONNECTION_SPECIFIC {
        for base in ["get", "tunnel", "connect", "200", "opened", "trailers"] {
            for value in ["", "x", "trailers"] {
                let outcome = outcome(&format!("{base} {name}={value}"));
                assert_eq!(outcome, Err(Malformed::ConnectionSpecific(name.clone())));
            }
        }
    }
    assert_eq!(outcome("get te=trailers"), Ok(()));
    assert_eq!(outcome("get te=Trailers"), Ok(()));
}

#[test]
fn h3_06_bad_characters_in_names_and_values_are_malformed() {
    refuse("h3_06");
    let get = Lines::new("get");
    for byte in 0..=255_u8 {
        let name = [b'x', byte];
        let is_good = is_token(&name) && !byte.is_ascii_uppercase();
        let parsed = get.clone().with(name, "1").request();
        assert_eq!(parsed.is_ok(), is_good, "name with {byte:#x}");

        let is_good = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let parsed = get.clone().with("x-a", [b'a', byte, b'b']).request();
        assert_eq!(parsed.is_ok(), is_good, "value with {byte:#x}");

        let is_good = is_good && !byte.is_ascii_whitespace();
        for value in [[byte, b'b'], [b'a', byte]] {
            let parsed = get.clone().with("x-a", value).request();
            assert_eq!(parsed.is_ok(), is_good, "value with {byte:#x} at an end");
        }
    }
    assert_eq!(outcome("get x-a="), Ok(()));
}

#[test]
fn h3_06_errors_repeat_little_of_the_peer_and_none_of_it_raw() {
    let name = format!("{}\r\n\x1b[31m", "A".repeat(200));
    let error = Lines::new("get").with(name, "1").request().unwrap_err();
    let cut = format!("{}…", "A".repeat(MAX_EXCERPT_LEN));
    assert_eq!(error, Malformed::UpperCaseName(cut));

    let error = Lines::new("get").with("x\x1b\u{e9}\"", "1").request();
    let escaped = r#"x\x1b\xc3\xa9\""#.to_owned();
    assert_eq!(error, Err(Malformed::FieldName(escaped)));

    for message in [
        "get x-a=s3cret\\n",
        "get :authority=s3cret:s3cret@a",
        "get :path=f?s3cret",
        "get :path=/f?s3cret#",
        "get content-length=s3cret",
        "get content-length=5,s3cret",
    ] {
        let error = outcome(message).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
    for name in SECRETS {
        let head = request(&format!("get {name}=s3cret")).unwrap();
        assert_eq!(head.headers[&name], "s3cret");
        assert!(!format!("{head:?}").contains("s3cret"));
    }
}

#[test]
fn h3_07_the_authority_is_one_host_with_an_optional_port() {
    refuse("h3_07");
    let bad = ":443 a:b a:+1 a:65536 a:99999999999999999999 a:1:2 a/b a?b a#b a\\x5cb a% a%4 a%zz \
               a%4%41 ::1 [::1 ::1] [] [a] [::1]a [::1]a:1 [fe80::1%25x] [v1.a] [192.0.2.1] a\\0 \
               a\\r\\n \\xc3\\xa9 \\xff a\\x20b a|b <a>";
    for value in bad.split(' ') {
        let malformed = || Malformed::Authority(excerpt(&unescape(value)));
        for base in ["get", "tunnel", "connect"] {
            let outcome = outcome(&format!("{base} :authority={value}"));
            assert_eq!(outcome, Err(malformed()), "{base}");
        }
    }
    let good = "a a.example a.example. A_b-c~ a:443 a: a:0 a:65535 192.0.2.1:8443 [2001:db8::1] \
                [::1]:443 [::ffff:192.0.2.1] a%4A a%4a%5B.example a!$&'()*+,;=";
    for value in good.split(' ') {
        let head = request(&format!("get :authority={value}")).unwrap();
        assert_eq!(head.authority, value);
    }
}

#[test]
fn h3_07_host_stands_in_for_the_authority_and_goes() {
    for message in [
        "get -:authority host=a.example",
        "get host=a.example",
        "get host=A.Example",
        "tunnel host=a.example",
    ] {
        let head = request(message).unwrap();
        assert_eq!(head.authority, "a.example");
        assert!(!head.headers.contains_key(HOST));
    }
}

#[test]
fn h3_08_the_path_is_absolute_and_the_scheme_https() {
    refuse("h3_08");
    for byte in 0..=255_u8 {
        let is_bad = byte <= b' ' || byte >= 0x7f || byte == b'#';
        let parsed = Lines::new("get -:path")
            .with(":path", [b'/', byte])
            .request();
        let bad = is_bad.then_some(Malformed::PathByte(byte));
        assert_eq!(parsed.err(), bad, "path with {byte:#x}");
    }
    let path = "/a%2fb//../?x={y}|z&%zz";
    assert_eq!(request(&format!("get :path={path}")).unwrap().path, path);
    let head = request("get :method=OPTIONS :path=*").unwrap();
    assert_eq!(head.path, "*");
    let head = request("get :scheme=HTTPS").unwrap();
    assert_eq!(head.scheme.as_deref(), Some("https"));
}

#[test]
fn h3_09_content_length_is_one_number() {
    refuse("h3_09");
    for message in [
        "get content-length=5",
        "get content-length=5 +content-length=5",
        "get content-length=5,\\x205",
        "get content-length=005,5 +content-length=5",
    ] {
        let head = request(message).unwrap();
        assert_eq!(head.content_length, Some(5), "{message}");
        let left: Vec<_> = head.headers.get_all(CONTENT_LENGTH).iter().collect();
        assert_eq!(left, ["5"]);
    }
    let longest = request("get content-length=18446744073709551615").unwrap();
    assert_eq!(longest.content_length, Some(u64::MAX));
    assert_eq!(request("get").unwrap().content_length, None);
}

#[test]
fn h3_09_content_is_as_long_as_announced() {
    let feed = |mut length: ContentLength, parts: &[usize]| {
        parts.iter().try_for_each(|part| length.add(*part))?;
        length.finish()
    };
    let expect = |expected| ContentLength::new(Some(expected));
    let differs = |expected, received| Err(Malformed::Content { expected, received });
    assert_eq!(feed(expect(5), &[3]), differs(5, 3));
    assert_eq!(feed(expect(10), &[8]), differs(10, 8));
    assert_eq!(feed(expect(5), &[]), differs(5, 0));
    assert_eq!(feed(expect(5), &[3, 3, 1]), differs(5, 6));
    assert_eq!(feed(ContentLength::none_expected(), &[1]), differs(0, 1));
    assert_eq!(feed(ContentLength::none_expected(), &[0]), Ok(()));
    assert_eq!(feed(expect(0), &[]), Ok(()));
    assert_eq!(feed(expect(5), &[2, 0, 3]), Ok(()));
    assert_eq!(feed(ContentLength::new(None), &[7, 9]), Ok(()));

    let mut exceeded = expect(1);
    assert!(exceeded.add(2).is_err());
    assert_eq!(exceeded.finish(), differs(1, 2));
}

#[test]
fn h3_11_a_response_has_one_status_of_three_digits() {
    refuse("h3_11");
    for (status, is_informational) in [("100", true), ("103", true), ("200", false), ("599", false)]
    {
        let lines = Lines::new(&format!("200 :status={status}"));
        let head = lines.response(false).unwrap();
        assert_eq!(head.status.as_str(), status);
        assert_eq!(head.is_informational(), is_informational);
    }
}

#[test]
fn ten_thousand_tiny_fields_are_refused() {
    let padded = |count| {
        let mut lines = Lines::new("get");
        lines.0.resize(count, (b"a".to_vec(), Vec::new()));
        lines.request()
    };
    assert!(padded(MAX_FIELDS).is_ok());
    assert_eq!(padded(MAX_FIELDS + 1), Err(Malformed::TooManyFields));
    assert_eq!(padded(10_000), Err(Malformed::TooManyFields));

    let head = request("get cookie=a=1 +cookie=b=2").unwrap();
    assert_eq!(head.headers.get_all(COOKIE).iter().count(), 2);
}

#[test]
fn xc_04_a_tunnel_request_is_the_five_then_capsule_protocol() {
    let headers = headers(
        "authorization=x host=b.example connection=upgrade upgrade=connect-udp keep-alive=5 \
         proxy-connection=close transfer-encoding=chunked content-length=0 content-type=a/b \
         capsule-protocol=?0 te=gzip",
    );
    let (method, authority, path) = (Method::CONNECT, "a.example:8443", "/udp/a/443/");
    let udp = Some("Connect-UDP");
    let fields = request_fields(&method, "https", authority, path, udp, &headers).unwrap();
    assert_eq!(
        shown(&fields),
        [
            ":method=CONNECT",
            ":protocol=connect-udp",
            ":authority=a.example:8443",
            ":scheme=https",
            ":path=/udp/a/443/",
            "capsule-protocol=?1",
            "authorization=x",
        ]
    );
}

#[test]
fn xc_04_what_cannot_be_well_formed_is_not_written() {
    use Malformed::{Empty, PathByte, ProtocolWithoutConnect, Scheme, Token, UserInfo};
    let none = HeaderMap::new();
    let ask = |method: Method, scheme, authority, path| {
        request_fields(&method, scheme, authority, path, Some("a"), &none).map(drop)
    };
    let connect = || Method::CONNECT;
    assert_eq!(ask(connect(), "https", "a", ""), Err(Empty(":path")));
    assert_eq!(ask(connect(), "https", "u@a", "/"), Err(UserInfo));
    assert_eq!(ask(connect(), "https", "a", "/ b"), Err(PathByte(b' ')));
    assert_eq!(ask(connect(), "http", "a", "/"), Err(Scheme("http".into())));
    assert_eq!(
        ask(Method::GET, "https", "a", "/"),
        Err(ProtocolWithoutConnect)
    );
    let fields = request_fields(&Method::CONNECT, "https", "a", "/", Some("a b"), &none);
    assert_eq!(fields, Err(Token(":protocol", "a b".into())));
}

#[test]
fn xc_05_protocol_and_extended_connect_need_each_other() {
    refuse("xc_05");
    let head = request("tunnel :protocol=Connect-UDP").unwrap();
    assert_eq!(head.protocol.as_deref(), Some("Connect-UDP"));
    assert!(head.is_tunnel() && !head.is_plain_connect());
}

#[test]
fn xc_10_a_plain_connect_has_neither_scheme_nor_path() {
    refuse("xc_10");
    let head = request("connect").unwrap();
    assert!(head.is_plain_connect() && !head.is_tunnel());
    assert_eq!((head.scheme, &*head.path), (None, ""));
    assert_eq!(head.authority, "b.example:22");

    let none = HeaderMap::new();
    let fields = request_fields(&Method::CONNECT, "https", "b:22", "/", None, &none).unwrap();
    assert_eq!(shown(&fields), [":method=CONNECT", ":authority=b:22"]);
}

#[test]
fn xc_15_there_is_no_101_and_no_upgrade() {
    refuse("xc_15");
    let none = HeaderMap::new();
    for tunnel in [false, true] {
        let fields = response_fields(StatusCode::SWITCHING_PROTOCOLS, &none, tunnel);
        assert_eq!(fields, Err(Malformed::SwitchingProtocols));
    }
}

#[test]
fn hdg_24_ours_describe_no_content_in_a_tunnel() {
    let headers = headers(
        "content-length=0 content-type=a/b connection=close te=trailers accept=\\x20x\\x20 \
         capsule-protocol=?0",
    );
    let fields = response_fields(StatusCode::CREATED, &headers, true).unwrap();
    assert_eq!(
        shown(&fields),
        [":status=201", "capsule-protocol=?1", "accept=x"]
    );

    // HDG-28: what refuses a tunnel may have content, and no capsules. A file has none either.
    for (status, tunnel) in [(StatusCode::NOT_FOUND, true), (StatusCode::OK, false)] {
        let fields = response_fields(status, &headers, tunnel).unwrap();
        let expected = ["content-length=0", "content-type=a/b", "accept=x"];
        assert_eq!(shown(&fields)[1..], expected);
    }
}

#[test]
fn hdg_25_a_tunnel_describes_no_content() {
    refuse("hdg_25");
    let head = request("tunnel content-encoding=br").unwrap();
    assert_eq!(head.headers[CONTENT_ENCODING], "br");
    // Without a tunnel these are ordinary: after another status, and when none was asked for.
    for (status, tunnel) in [(404, true), (302, true), (103, true), (200, false)] {
        let lines = Lines::new(&format!(
            "200 :status={status} content-length=3 content-type=a/b"
        ));
        assert_eq!(lines.response(tunnel).unwrap().content_length, Some(3));
    }
}

#[test]
fn hdg_26_statuses_of_no_content_never_open_a_tunnel() {
    refuse("hdg_26");
    let none = HeaderMap::new();
    for status in [204, 205, 206].map(|status| StatusCode::from_u16(status).unwrap()) {
        let fields = response_fields(status, &none, true);
        assert_eq!(fields, Err(Malformed::TunnelStatus(status)));
        assert!(response_fields(status, &none, false).is_ok());
    }
    for status in ["200", "201", "203", "207", "299"] {
        assert_eq!(outcome(&format!("opened :status={status}")), Ok(()));
    }
}

#[test]
fn hdg_30_a_tunnel_needs_no_capsule_protocol() {
    assert_eq!(outcome("tunnel"), Ok(()));
    assert_eq!(outcome("opened"), Ok(()));
    assert_eq!(outcome("tunnel capsule-protocol=?0"), Ok(()));
}

/// Words of messages: any is put in the place of any other.
const WORDS: &str = ":method :protocol :scheme :authority :path :status :foo host te x-a X-A \
                     content-length content-type connection capsule-protocol GET CONNECT OPTIONS \
                     https http a.example A.example u@h / * 5 5,5 trailers 200 101 ?1 a\\r\\nb \
                     \\xc3\\xa9 ";

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<_> = WORDS.split(' ').map(unescape).collect();
    prop_oneof![
        3 => prop::sample::select(words),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ]
}

/// A section that is nothing in particular, or a good one with a few lines put in.
fn any_lines() -> impl Strategy<Value = Lines> {
    let bases = prop::sample::select(vec!["get", "tunnel", "connect", "200", "trailers -x-sum"]);
    let line = (any::<prop::sample::Index>(), any_bytes(), any_bytes());
    let lines = prop::collection::vec(line, 0..6);
    (bases, lines).prop_map(|(base, lines)| {
        let mut all = Lines::new(base);
        for (index, name, value) in lines {
            all.0.insert(index.index(all.0.len() + 1), (name, value));
        }
        all
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_taken_or_named(lines in any_lines(), tunnel in any::<bool>()) {
        let request = lines.request();
        let errors = [
            request.clone().err(),
            lines.response(tunnel).err(),
            parse_trailers(lines.iter()).err(),
        ];
        for error in errors.into_iter().flatten() {
            let message = error.to_string();
            prop_assert!(message.chars().all(|c| c == '…' || c == ' ' || c.is_ascii_graphic()));
            prop_assert!(message.len() < 4 * MAX_EXCERPT_LEN + 60, "{}", message);
        }
        // What is taken can be sent on, and is then taken as the same.
        if let Ok(mut head) = request {
            let scheme = head.scheme.as_deref().unwrap_or_default();
            let protocol = head.protocol.as_deref();
            let RequestHead { method, authority, path, headers, .. } = &head;
            let fields = request_fields(method, scheme, authority, path, protocol, headers);
            let again = parse_request(borrow(&fields.unwrap())).unwrap();
            head.headers.remove(CAPSULE_PROTOCOL);
            if let Some(protocol) = &mut head.protocol {
                protocol.make_ascii_lowercase();
                head.headers.insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
            }
            prop_assert_eq!(again, head);
        }
    }

    #[test]
    fn what_is_written_is_read(
        method in "[A-Z]{1,6}",
        tunnel in any::<bool>(),
        authority in "[a-z]([a-z0-9.-]{0,20}[a-z])?(:[0-9]{1,4})?",
        path in "/[!-\"$-~]{0,60}",
        lines in prop::collection::vec(("x-[a-z0-9]{1,8}", "([!-~é]([ -~]{0,20}[!-~])?)?"), 0..9),
    ) {
        let method = if tunnel { Method::CONNECT } else { method.parse().unwrap() };
        let protocol = tunnel.then_some("connect-ip");
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let fields = request_fields(&method, "https", &authority, &path, protocol, &headers);
        let head = parse_request(borrow(&fields.unwrap())).unwrap();
        if tunnel {
            headers.insert(CAPSULE_PROTOCOL, HeaderValue::from_static("?1"));
        }
        prop_assert_eq!(head.is_tunnel(), tunnel);
        prop_assert_eq!(head.method, method);
        prop_assert_eq!(head.protocol.as_deref(), protocol);
        prop_assert_eq!(head.authority, authority);
        prop_assert_eq!(head.path, path);
        prop_assert_eq!(head.headers, headers);
    }
}
