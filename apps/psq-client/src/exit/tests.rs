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
fn who_asks_is_one_thing_and_what_for_another() {
    for (status, fields, exit, advice) in [
        (401, &[][..], Exit::Denied, "--token-file"),
        (407, &[], Exit::Denied, "--token-file"),
        (
            401,
            &[(
                "www-authenticate",
                r#"Bearer realm="x", error="invalid_token""#,
            )],
            Exit::Denied,
            "no longer",
        ),
        (403, &[], Exit::Denied, "whom your credentials name"),
        (
            403,
            &[("proxy-status", "x; error=destination_ip_prohibited")],
            Exit::Refused,
            "this target",
        ),
    ] {
        let failure = refused(status, fields);
        assert_eq!(failure.exit, exit, "{failure}");
        assert!(failure.to_string().contains(advice), "{failure}");
    }
}

#[test]
fn a_refused_certificate_is_told_from_other_ends() {
    // certificate_required and bad_certificate (RFC 8446 §6.2), and H3_NO_ERROR.
    for (code, exit) in [
        (0x174, Exit::Denied),
        (0x12a, Exit::Denied),
        (0x100, Exit::Lost),
        (0x128, Exit::Lost),
    ] {
        let reason = CloseReason::PeerError(code, String::new());
        let failure = Failure::from_client("it", &ClientError::Closed(reason));
        assert_eq!(failure.exit, exit, "{code:#x}");
    }
}

#[test]
fn the_cause_is_told_without_the_advice() {
    let failure = Failure::from_client("it", &ClientError::Timeout).with_advice("and this");
    let whole = "it: the server did not answer the request in time";
    assert_eq!(failure.cause().to_string(), whole);
    assert_eq!(
        failure.to_string(),
        format!("{whole}; try again, or raise --timeout; and this")
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
