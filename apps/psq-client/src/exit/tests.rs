use http::HeaderValue;
use pasque::connection::CloseReason;

use super::*;

fn refused(status: u16, fields: &[(&'static str, &str)]) -> Failure {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Failure::refused(
        "udp 10.0.0.1:53",
        StatusCode::from_u16(status).unwrap(),
        &headers,
    )
}

#[test]
fn every_error_has_its_exit_code() {
    let table = [
        (
            ClientError::Unreachable {
                host: "h:443".into(),
            },
            Exit::NoConnection,
        ),
        (
            ClientError::Tls("unknown authority".into()),
            Exit::NoConnection,
        ),
        (ClientError::NoExtendedConnect, Exit::Refused),
        (ClientError::Malformed("two lengths".into()), Exit::Refused),
        (ClientError::Reset(0x10c), Exit::Refused),
        (ClientError::Timeout, Exit::Lost),
        (ClientError::Closed(CloseReason::TimedOut), Exit::Lost),
        (ClientError::Closed(CloseReason::Peer), Exit::Lost),
        (
            ClientError::Io(io::ErrorKind::AddrInUse.into()),
            Exit::Failed,
        ),
    ];
    for (error, exit) in table {
        let text = error.to_string();
        let failure = Failure::from_client("it", &error);
        assert_eq!(failure.exit, exit, "{text}");
        assert!(failure.to_string().contains(&text), "{failure}");
    }
}

#[test]
fn the_table_in_help_has_every_code_once_and_in_order() {
    for (row, exit) in Exit::ALL.into_iter().enumerate() {
        assert_eq!(row, exit as usize);
        assert!(Exit::help().contains(&format!("\n  {row}  ")));
    }
}

#[test]
fn ps_08_a_refusal_shows_what_the_last_proxy_says() {
    let failure = refused(
        403,
        &[
            ("proxy-status", "near; error=dns_error"),
            (
                "proxy-status",
                r#"far; error=destination_ip_prohibited; details="no"; new=?1"#,
            ),
        ],
    );
    assert_eq!(
        failure.to_string(),
        "udp 10.0.0.1:53: the server answered 403 Forbidden (far: destination_ip_prohibited, no); \
         the server's policy refuses this target"
    );
}

#[test]
fn ps_08_junk_is_ignored() {
    assert_eq!(
        refused(502, &[("proxy-status", "%%%")]).to_string(),
        "udp 10.0.0.1:53: the server answered 502 Bad Gateway; the server failed: its log says why"
    );
}

#[test]
fn xc_17_a_redirect_is_an_error_that_names_the_place() {
    let failure = refused(302, &[("location", "https://other.example/")]);
    assert_eq!(failure.exit, Exit::Refused);
    assert!(
        failure
            .to_string()
            .contains("not followed: ask for \"https://other.example/\"")
    );
}

#[test]
fn a_line_stays_one_line() {
    let failure = Failure::new(Exit::Failed, "a\nb\u{1b}[2J");
    assert_eq!(failure.to_string(), "a\\nb\\u{1b}[2J");
}
