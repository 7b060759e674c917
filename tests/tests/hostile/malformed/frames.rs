//! What is malformed beyond the fields of a request: frames, streams and settings.

use super::*;

#[tokio::test]
async fn h3_13_the_control_stream_is_one_begins_with_settings_and_stays() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let settings_frame = frame(0x04, &[]);
    let twice = [&settings_frame[..], &settings_frame].concat();
    for (name, actions, code) in [
        (
            "GOAWAY before SETTINGS",
            vec![control(&frame(0x07, &[0x00]))],
            MISSING_SETTINGS,
        ),
        ("a second SETTINGS", vec![control(&twice)], FRAME_UNEXPECTED),
        (
            "DATA on the control stream",
            vec![control(&[&settings_frame[..], &[0, 0]].concat())],
            FRAME_UNEXPECTED,
        ),
        (
            "a second control stream",
            vec![settings(), bytes_on(6, &[0x00], false)],
            STREAM_CREATION_ERROR,
        ),
        (
            "a push stream",
            vec![settings(), bytes_on(6, &[0x01, 0x00], false)],
            STREAM_CREATION_ERROR,
        ),
        (
            "a second QPACK encoder",
            vec![
                settings(),
                bytes_on(6, &[0x02], false),
                bytes_on(10, &[0x02], false),
            ],
            STREAM_CREATION_ERROR,
        ),
        (
            "an end of the control stream",
            vec![bytes_on(
                CONTROL,
                &[&[0x00], &settings_frame[..]].concat(),
                true,
            )],
            CLOSED_CRITICAL_STREAM,
        ),
    ] {
        assert_eq!(
            provoke(&victim, actions).await,
            Answer::Closed(code),
            "{name}"
        );
        victim.assert_serves(name).await;
    }
}

#[tokio::test]
async fn h3_14_settings_of_http_2_are_refused_and_unknown_things_ignored() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    for setting in [0x02, 0x03, 0x04, 0x05] {
        let actions = vec![control(&frame(0x04, &[setting, 0x00]))];
        let answer = provoke(&victim, actions).await;
        assert_eq!(answer, Answer::Closed(SETTINGS_ERROR), "{setting:#x}");
        victim.assert_serves("a setting of HTTP/2").await;
    }
    // The reserved setting 0x21, a reserved frame on either stream, a stream of a reserved type.
    let unknown = frame(0x21, b"anything");
    let actions = vec![
        control(&[frame(0x04, &[0x21, 0x2a, 0x33, 0x01]), unknown.clone()].concat()),
        bytes_on(6, &[0x21, 0x00], true),
        bytes_on(REQUEST, &unknown, false),
        headers(&good(), false),
        bytes_on(REQUEST, &unknown, true),
    ];
    assert_eq!(provoke(&victim, actions).await, status("200"));
}

#[tokio::test]
async fn hdg_02_settings_that_are_neither_0_nor_1_close_the_connection() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    for (setting, value) in [(0x33, 0x02), (0x33, 0x3f), (0x08, 0x02)] {
        let actions = vec![control(&frame(0x04, &[setting, value]))];
        let answer = provoke(&victim, actions).await;
        assert_eq!(
            answer,
            Answer::Closed(SETTINGS_ERROR),
            "{setting:#x} = {value}"
        );
        victim.assert_serves("a setting out of range").await;
    }
}

#[tokio::test]
async fn h3_15_a_stream_that_ends_inside_a_frame_is_never_taken_for_whole() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    // DATA of ten bytes is announced, three come.
    let fields = with(good(), "content-length", "10");
    let cut = [0x00, 10, b'x', b'x', b'x'];
    let actions = vec![
        settings(),
        headers(&fields, false),
        bytes_on(REQUEST, &cut, true),
    ];
    let answer = provoke(&victim, actions).await;
    assert!(
        [MALFORMED, Answer::Closed(FRAME_ERROR)].contains(&answer),
        "{answer:?}"
    );
    victim.assert_serves("a cut frame").await;
}

#[tokio::test]
async fn h3_16_a_stream_without_a_request_is_reset() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    for (name, bytes) in [("nothing", &b""[..]), ("half a frame", &[0x01, 0x20, 0x00])] {
        let answer = provoke(&victim, vec![settings(), bytes_on(REQUEST, bytes, true)]).await;
        let expected = [
            Answer::Reset(REQUEST_INCOMPLETE),
            Answer::Closed(FRAME_ERROR),
        ];
        assert!(expected.contains(&answer), "{name}: {answer:?}");
        victim.assert_serves(name).await;
    }
}

#[tokio::test]
async fn h3_22_a_header_section_that_is_too_large_is_refused() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let mut small_ones = good();
    small_ones.extend((0..1000).map(|n| (format!("x-{n}"), String::new())));
    for (name, fields) in [
        (
            "a field of 64 KiB",
            with(good(), "x-a", &"a".repeat(64 << 10)),
        ),
        (
            "a field of 20 KiB",
            with(good(), "x-a", &"a".repeat(20 << 10)),
        ),
        (
            "a path of 20 KiB",
            changed(good(), ":path", &format!("/{}", "a".repeat(20 << 10))),
        ),
        ("a thousand fields", small_ones),
    ] {
        let answer = provoke(&victim, vec![settings(), large_headers(&fields)]).await;
        let expected = [
            status("431"),
            Answer::Reset(EXCESSIVE_LOAD),
            Answer::Closed(EXCESSIVE_LOAD),
        ];
        assert!(expected.contains(&answer), "{name}: {answer:?}");
        victim.assert_serves(name).await;
    }
}

#[tokio::test]
async fn xc_05_an_extended_connect_is_complete() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let mut cases = vec![
        (
            "GET with :protocol".into(),
            changed(tunnel(&victim), ":method", "GET"),
        ),
        (
            "two protocols".into(),
            doubled(tunnel(&victim), ":protocol"),
        ),
        (
            "an empty protocol".into(),
            changed(tunnel(&victim), ":protocol", ""),
        ),
    ];
    for name in [":scheme", ":authority", ":path"] {
        cases.push((format!("no {name}"), without(tunnel(&victim), name)));
        cases.push((
            format!("an empty {name}"),
            changed(tunnel(&victim), name, ""),
        ));
    }
    check(&victim, cases, &[MALFORMED, status("400")]).await;
}

#[tokio::test]
async fn xc_10_a_plain_connect_is_not_offered() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let plain = fields(&[(":method", "CONNECT"), (":authority", "192.0.2.1:80")]);
    let cases = vec![("a plain CONNECT".into(), plain.clone())];
    check(&victim, cases, &[status("501")]).await;
    let cases = vec![
        (
            "with :scheme".into(),
            with(plain.clone(), ":scheme", "https"),
        ),
        ("with :path".into(), with(plain.clone(), ":path", "/")),
        ("with both".into(), without(tunnel(&victim), ":protocol")),
        ("without :authority".into(), without(plain, ":authority")),
    ];
    check(&victim, cases, &[MALFORMED]).await;
}

#[tokio::test]
async fn hdg_25_a_tunnel_has_no_content() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let cases = [
        ("content-length", "0"),
        ("content-length", "5"),
        ("content-type", "application/octet-stream"),
        ("transfer-encoding", "chunked"),
    ]
    .map(|(name, value)| {
        (
            format!("{name}: {value}"),
            with(tunnel(&victim), name, value),
        )
    });
    check(&victim, cases.into(), &[MALFORMED, status("400")]).await;
    assert_eq!(victim.target.count(), 0);
}

#[tokio::test]
async fn udp_10_targets_that_are_none_get_400() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let start = "/.well-known/masque/udp";
    let paths = [
        "127.0.0.1/0/",
        "127.0.0.1/65536/",
        "127.0.0.1/+9/",
        "127.0.0.1/-1/",
        "127.0.0.1/0x50/",
        "127.0.0.1/9a/",
        "127.0.0.1/4%203/",
        "127.0.0.1//",
        "/9/",
        "%zz/9/",
        "a%00b/9/",
        "a%2Fb/9/",
        "%5B::1%5D/9/",
        "fe80::1%25eth0/9/",
        "%253A%253A1/9/",
    ];
    let cases = paths.map(|path| {
        (
            path.to_owned(),
            changed(tunnel(&victim), ":path", &format!("{start}/{path}")),
        )
    });
    check(&victim, cases.into(), &[status("400")]).await;
}

/// Opens a tunnel, then does `actions`.
async fn on_tunnel(victim: &Victim, actions: Vec<Action>) -> Answer {
    let open = vec![
        settings(),
        headers(&tunnel(victim), false),
        wait_for(StreamEventType::Headers),
    ];
    provoke(victim, [open, actions].concat()).await
}

#[tokio::test]
async fn hdg_36_a_tunnel_has_only_data() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    for (name, action) in [
        ("trailers", headers(&fields(&[("x-a", "1")]), false)),
        ("GOAWAY", bytes_on(REQUEST, &frame(0x07, &[0x00]), false)),
    ] {
        let answer = on_tunnel(&victim, vec![action]).await;
        assert_eq!(answer, Answer::Closed(FRAME_UNEXPECTED), "{name}");
        victim.assert_serves(name).await;
    }
    let unknown = vec![bytes_on(REQUEST, &frame(0x21, b"ignored"), true)];
    assert_eq!(on_tunnel(&victim, unknown).await, status("200"));
}

#[tokio::test]
async fn hdg_21_capsules_that_are_cut_or_too_long_reset_the_stream() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    let aborted = Answer::StatusThenReset("200".into(), MESSAGE_ERROR);
    for (name, capsules, fin) in [
        ("the end inside a type", &[0x40][..], true),
        ("the end inside a length", &[0x00, 0x80, 0x00], true),
        ("the end inside a value", &[0x00, 0x05, 0x00, 0x68], true),
        (
            "the end inside an unknown capsule",
            &[0x17, 0x05, 0x00],
            true,
        ),
        // RFC 9298 §5: more than any UDP packet holds; refused at its header.
        (
            "65,528 bytes of payload",
            &[0x00, 0x80, 0x00, 0xff, 0xf9, 0x00],
            false,
        ),
        (
            "2^62 bytes of payload",
            &[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00],
            false,
        ),
        ("no context ID", &[0x00, 0x00], false),
    ] {
        let answer = on_tunnel(
            &victim,
            vec![bytes_on(REQUEST, &frame(0x00, capsules), fin)],
        )
        .await;
        assert_eq!(answer, aborted, "{name}");
        victim.assert_serves(name).await;
    }
    let whole = frame(0x00, &[0x17, 0x01, 0x00, 0x00, 0x03, 0x00, 0x68, 0x69]);
    assert_eq!(
        on_tunnel(&victim, vec![bytes_on(REQUEST, &whole, true)]).await,
        status("200")
    );
}

#[tokio::test]
async fn hdg_08_datagrams_of_impossible_streams_close_the_connection() {
    let _quiet = QUIET.read().await;
    let victim = Victim::start().await;
    for payload in [
        &[][..],
        &[0x40],
        &[0x80, 0x00, 0x00],
        &[0xc0],
        &[0xd0, 0, 0, 0, 0, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let answer = on_tunnel(
            &victim,
            vec![Action::SendDatagram {
                payload: payload.into(),
            }],
        )
        .await;
        assert_eq!(answer, Answer::Closed(DATAGRAM_ERROR), "{payload:x?}");
        victim.assert_serves("a datagram of no stream").await;
    }
    // The largest that there may be, streams of the future and of the past, no context ID: dropped.
    let harmless = [
        &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &[0xc0, 0, 1, 0, 0, 0, 0, 0, 0],
        &[0x05, 0x00, 0x61],
        &[0x00],
    ];
    let datagrams = harmless.map(|payload| Action::SendDatagram {
        payload: payload.into(),
    });
    let pause = WaitType::WaitDuration(Duration::from_millis(100)).into();
    let end = [pause, bytes_on(REQUEST, &[], true)];
    let actions = [&datagrams[..], &end].concat();
    assert_eq!(on_tunnel(&victim, actions).await, status("200"));
    assert_eq!(victim.target.count(), 0);
}
