//! Fields, and the requests whose answer depends on what the client holds.

use std::time::{Duration, SystemTime};

use http::Method;
use pasque::Body;

use super::{Fixture, content, header, set_age};

const CACHED: &str = r#", "cache_control": "max-age=60""#;

#[tokio::test]
async fn fs_12_the_type_comes_from_the_extension_and_is_final() {
    let fixture = Fixture::new().await;
    for (name, content_type) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.PNG", "image/png"),
        ("a.json", "application/json"),
        ("a.unheardof", "application/octet-stream"),
        ("README", "application/octet-stream"),
    ] {
        fixture.write(name, "<html>");
        let response = fixture.get(&format!("/files/{name}")).await;
        assert_eq!(header(&response, "content-type"), content_type, "{name}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn fs_14_a_file_that_just_changed_has_a_weak_tag() {
    let fixture = Fixture::new().await;
    let path = fixture.write("a.txt", "one");
    let settled = header(&fixture.get("/files/a.txt").await, "etag").to_owned();
    assert!(settled.starts_with('"'));
    std::fs::write(&path, "two").unwrap();
    let fresh = header(&fixture.get("/files/a.txt").await, "etag").to_owned();
    assert!(fresh.starts_with("W/\""), "{fresh}");
    assert_ne!(fresh.trim_start_matches("W/"), settled);
}

#[tokio::test]
async fn fs_15_last_modified_is_never_later_than_date() {
    let fixture = Fixture::new().await;
    let path = fixture.write("a.txt", "a");
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400))
        .unwrap();
    let response = fixture.get("/files/a.txt").await;
    assert_eq!(
        header(&response, "last-modified"),
        header(&response, "date")
    );
    assert!(header(&response, "etag").starts_with("W/"));
}

#[tokio::test]
async fn fs_16_a_precondition_that_fails_is_412_whatever_the_range() {
    let fixture = Fixture::new().await;
    fixture.write("a.txt", "0123456789");
    for condition in [
        ("if-match", "\"other\""),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let fields = [condition, ("range", "bytes=0-1"), ("if-none-match", "*")];
            let response = fixture.ask(method, "/files/a.txt", &fields).await;
            assert_eq!(response.status, 412);
            assert_eq!(header(&response, "content-length"), "0");
            assert!(matches!(response.body, Body::Empty));
        }
    }
}

#[tokio::test]
async fn fs_18_preconditions_leave_other_answers_alone() {
    let fixture = Fixture::new().await;
    fixture.write("folder/index.html", "");
    for condition in [
        ("if-none-match", "*"),
        ("if-match", "\"other\""),
        ("if-match", "*"),
    ] {
        let ask = async |method, path| fixture.ask(method, path, &[condition]).await.status;
        assert_eq!(ask(Method::GET, "/files/missing").await, 404);
        assert_eq!(ask(Method::GET, "/files/%zz").await, 400);
        assert_eq!(ask(Method::GET, "/files/folder").await, 301);
        assert_eq!(ask(Method::POST, "/files/folder/").await, 405);
    }
}

#[tokio::test]
async fn fs_19_a_304_carries_the_fields_of_the_200_that_a_cache_needs() {
    let fixture = Fixture::with(CACHED).await;
    fixture.write("a.txt", "0123456789");
    let whole = fixture.get("/files/a.txt").await;
    let modified = header(&whole, "last-modified");
    for held in [
        ("if-none-match", header(&whole, "etag")),
        ("if-modified-since", modified),
    ] {
        let response = fixture.get_with("/files/a.txt", &[held]).await;
        assert_eq!(response.status, 304);
        assert!(matches!(response.body, Body::Empty));
        for name in ["etag", "cache-control"] {
            assert_eq!(header(&response, name), header(&whole, name));
        }
        assert!(header(&response, "date").ends_with("GMT"));
        for name in ["content-length", "content-type", "content-range"] {
            assert!(!response.headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn fs_25_if_range_decides_between_the_range_and_the_whole() {
    let fixture = Fixture::new().await;
    let path = fixture.write("a.txt", "0123456789");
    let whole = fixture.get("/files/a.txt").await;
    let etag = header(&whole, "etag").to_owned();
    let ask = async |value: &str, range: &str| {
        let fields = [("if-range", value), (range, "bytes=2-3")];
        content(fixture.get_with("/files/a.txt", &fields).await).await
    };
    let weak = format!("W/{etag}");
    assert_eq!(ask(&etag, "range").await, b"23");
    assert_eq!(ask(header(&whole, "last-modified"), "range").await, b"23");
    assert_eq!(ask(&weak, "range").await, b"0123456789");
    assert_eq!(ask("\"old\"", "range").await, b"0123456789");
    assert_eq!(
        ask("Sun, 06 Nov 1994 08:49:37 GMT", "range").await,
        b"0123456789"
    );
    assert_eq!(ask("\"old\"", "x-no-range").await, b"0123456789");

    // While the tag is weak, so is the date.
    set_age(&path, Duration::ZERO);
    let fresh = fixture.get("/files/a.txt").await;
    for name in ["etag", "last-modified"] {
        assert_eq!(ask(header(&fresh, name), "range").await, b"0123456789");
    }
}

#[tokio::test]
async fn fs_26_a_206_carries_the_fields_of_the_200_that_a_cache_needs() {
    let fixture = Fixture::with(CACHED).await;
    fixture.write("a.txt", "0123456789");
    let whole = fixture.get("/files/a.txt").await;
    for range in ["bytes=0-1", "bytes=0-1,4-5"] {
        let response = fixture.get_with("/files/a.txt", &[("range", range)]).await;
        assert_eq!(response.status, 206);
        for name in [
            "etag",
            "cache-control",
            "last-modified",
            "x-content-type-options",
        ] {
            assert_eq!(header(&response, name), header(&whole, name), "{name}");
        }
        assert!(header(&response, "date").ends_with("GMT"));
    }
}

#[tokio::test]
async fn fs_27_a_304_wins_over_a_206() {
    let fixture = Fixture::new().await;
    fixture.write("a.txt", "0123456789");
    let etag = header(&fixture.get("/files/a.txt").await, "etag").to_owned();
    let fields = [
        ("if-none-match", &*etag),
        ("range", "bytes=0-1"),
        ("if-range", &*etag),
    ];
    assert_eq!(fixture.get_with("/files/a.txt", &fields).await.status, 304);
}

#[tokio::test]
async fn fs_28_cache_control_is_as_configured_and_vary_is_never_sent() {
    for (keys, expected) in [("", ""), (CACHED, "max-age=60")] {
        let fixture = Fixture::with(keys).await;
        fixture.write("a.txt", "a");
        for fields in [
            &[][..],
            &[("if-none-match", "*")],
            &[("range", "bytes=0-0")],
        ] {
            let response = fixture.get_with("/files/a.txt", fields).await;
            assert_eq!(header(&response, "cache-control"), expected);
            assert!(!response.headers.contains_key("vary"));
        }
    }
}
