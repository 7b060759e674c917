//! Ranges of a file of ten bytes.

use http::Method;
use pasque::Response;

use super::{Fixture, content, header};

async fn digits() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.write("digits.txt", "0123456789");
    fixture.write("empty", "");
    fixture
}

async fn range(fixture: &Fixture, range: &str) -> Response {
    fixture
        .get_with("/files/digits.txt", &[("range", range)])
        .await
}

async fn assert_whole(fixture: &Fixture, field: &str) {
    let response = range(fixture, field).await;
    assert_eq!(response.status, 200, "{field}");
    assert!(!response.headers.contains_key("content-range"));
    assert_eq!(content(response).await, b"0123456789", "{field}");
}

#[tokio::test]
async fn fs_20_a_range_counts_only_on_get_and_when_it_is_valid() {
    let fixture = digits().await;
    let fields = [("range", "bytes=0-1")];
    let head = fixture
        .ask(Method::HEAD, "/files/digits.txt", &fields)
        .await;
    assert_eq!(head.status, 200);
    assert_eq!(header(&head, "content-length"), "10");
    for field in [
        "items=0-1",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes",
        "bytes 0-1",
        "bytes=0-1;2-3",
        "bytes=+0-1",
        "bytes=0x0-1",
        "bytes=0 - 1",
        "bytes=0-1,x",
        "bytes=--1",
    ] {
        assert_whole(&fixture, field).await;
    }
    let twice = [("range", "bytes=0-1"), ("range", "bytes=2-3")];
    assert_eq!(
        fixture.get_with("/files/digits.txt", &twice).await.status,
        200
    );
}

#[tokio::test]
async fn fs_21_one_range_is_206() {
    let fixture = digits().await;
    for (field, content_range, bytes) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=5-", "bytes 5-9/10", "56789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=-99", "bytes 0-9/10", "0123456789"),
        ("bytes=8-99", "bytes 8-9/10", "89"),
        ("Bytes=2-3", "bytes 2-3/10", "23"),
        ("bytes=20-,1-2", "bytes 1-2/10", "12"),
    ] {
        let response = range(&fixture, field).await;
        assert_eq!(response.status, 206, "{field}");
        assert_eq!(header(&response, "content-range"), content_range);
        assert_eq!(header(&response, "content-length"), bytes.len().to_string());
        assert_eq!(
            header(&response, "content-type"),
            "text/plain; charset=utf-8"
        );
        assert_eq!(content(response).await, bytes.as_bytes());
    }
}

#[tokio::test]
async fn fs_22_nothing_satisfiable_is_416() {
    let fixture = digits().await;
    for field in ["bytes=10-", "bytes=-0", "bytes=10-11,12-", "bytes=99-100"] {
        let response = range(&fixture, field).await;
        assert_eq!(response.status, 416, "{field}");
        assert_eq!(header(&response, "content-range"), "bytes */10");
        assert_eq!(header(&response, "content-length"), "0");
    }
    let empty = fixture
        .get_with("/files/empty", &[("range", "bytes=0-")])
        .await;
    assert_eq!(empty.status, 416);
    assert_eq!(header(&empty, "content-range"), "bytes */0");
    assert_eq!(
        fixture
            .get_with("/files/empty", &[("range", "bytes=-5")])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn fs_23_huge_numbers_do_not_overflow() {
    let fixture = digits().await;
    let whole = range(&fixture, "bytes=0-99999999999999999999999").await;
    assert_eq!(header(&whole, "content-range"), "bytes 0-9/10");
    assert_eq!(content(whole).await, b"0123456789");
    for field in [
        "bytes=18446744073709551616-",
        "bytes=18446744073709551615-18446744073709551615",
    ] {
        assert_eq!(range(&fixture, field).await.status, 416, "{field}");
    }
    let suffix = range(&fixture, "bytes=-18446744073709551616").await;
    assert_eq!(header(&suffix, "content-range"), "bytes 0-9/10");
}

#[tokio::test]
async fn fs_24_several_ranges_are_parts_in_the_asked_order() {
    let fixture = digits().await;
    let response = range(&fixture, "bytes=4-5, 0-1,,-1").await;
    assert_eq!(response.status, 206);
    assert!(!response.headers.contains_key("content-range"));
    let content_type = header(&response, "content-type").to_owned();
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let announced: usize = header(&response, "content-length").parse().unwrap();
    let body = content(response).await;
    assert_eq!(body.len(), announced);
    let part = |span: &str, bytes: &str| {
        format!(
            "--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-range: bytes {span}/10\r\n\r\n{bytes}\r\n"
        )
    };
    let expected =
        part("4-5", "45") + &part("0-1", "01") + &part("9-9", "9") + &format!("--{boundary}--\r\n");
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[tokio::test]
async fn fs_24_too_many_ranges_are_answered_with_the_whole() {
    let fixture = digits().await;
    let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
    assert_whole(&fixture, &many(1000)).await;
    assert_whole(&fixture, &many(3)).await;
    assert_eq!(range(&fixture, &many(2)).await.status, 206);
    let distinct = |count: u32| {
        let spans: Vec<_> = (0..count).map(|first| format!("{first}-{first}")).collect();
        format!("bytes={}", spans.join(","))
    };
    assert_eq!(range(&fixture, &distinct(16)).await.status, 206);
    assert_whole(&fixture, &distinct(17)).await;
}
