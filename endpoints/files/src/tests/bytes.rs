//! What is sent: whole files, HEAD, and content that comes with the request.

use std::fs;
use std::time::Duration;

use http::Method;
use pasque::{Body, Request};

use super::{Fixture, content, header};

#[tokio::test]
async fn fs_01_get_sends_the_bytes_and_the_fields() {
    let fixture = Fixture::new().await;
    for len in [0, 1, 1 << 20, 100 << 20] {
        let bytes: Vec<u8> = (0..len)
            .map(|index: u32| (index >> 8) as u8 ^ index as u8)
            .collect();
        fixture.write("file.txt", &bytes);
        let response = fixture.get("/files/file.txt").await;
        assert_eq!(response.status, 200);
        assert_eq!(header(&response, "content-length"), len.to_string());
        assert_eq!(
            header(&response, "content-type"),
            "text/plain; charset=utf-8"
        );
        assert_eq!(header(&response, "accept-ranges"), "bytes");
        assert!(header(&response, "etag").starts_with('"'));
        for name in ["last-modified", "date"] {
            assert!(header(&response, name).ends_with(" GMT"), "{name}");
        }
        assert_eq!(matches!(response.body, Body::Empty), len == 0);
        assert!(content(response).await == bytes, "{len} bytes");
    }
}

#[tokio::test]
async fn fs_02_head_has_the_fields_of_get_and_no_content() {
    let fixture = Fixture::new().await;
    fixture.write("page.html", "0123456789");
    let mut get = fixture.get("/files/page.html").await;
    let mut head = fixture.ask(Method::HEAD, "/files/page.html", &[]).await;
    assert!(matches!(head.body, Body::Empty));
    for response in [&mut get, &mut head] {
        assert!(response.headers.remove("date").is_some());
    }
    assert_eq!(head.status, get.status);
    assert_eq!(head.headers, get.headers);
    assert_eq!(header(&head, "content-length"), "10");
}

#[tokio::test]
async fn fs_03_another_method_is_405_and_an_unknown_one_501() {
    let fixture = Fixture::new().await;
    fixture.write("a.txt", "a");
    for path in ["/files/a.txt", "/files/missing", "/files/"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let response = fixture.ask(method, path, &[]).await;
            assert_eq!(response.status, 405);
            assert_eq!(header(&response, "allow"), "GET, HEAD");
        }
        let foo = Method::from_bytes(b"FOO").unwrap();
        assert_eq!(fixture.ask(foo, path, &[]).await.status, 501);
    }
}

#[tokio::test]
async fn xc_08_connect_at_a_file_is_405() {
    let fixture = Fixture::new().await;
    fixture.write("a.txt", "a");
    let tunnel = fixture
        .server
        .request(Request::tunnel("connect-udp", "/files/a.txt"))
        .await;
    assert_eq!(tunnel.status, 405);
    assert_eq!(header(&tunnel, "allow"), "GET, HEAD");
    assert_eq!(
        fixture
            .ask(Method::CONNECT, "/files/a.txt", &[])
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn fs_13_a_file_that_shrinks_ends_in_an_error_and_one_that_grows_as_announced() {
    let fixture = Fixture::new().await;
    let path = fixture.write("file", vec![1; 200_000]);
    let mut shrinking = fixture.get("/files/file").await;
    assert_eq!(
        shrinking.body.next().await.unwrap().unwrap().len(),
        64 << 10
    );
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100_000)
        .unwrap();
    let error = shrinking.body.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(shrinking.body.next().await.is_none());

    let growing = fixture.get("/files/file").await;
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(300_000)
        .unwrap();
    assert_eq!(header(&growing, "content-length"), "100000");
    assert_eq!(content(growing).await, vec![1; 100_000]);
}

#[tokio::test]
async fn a_file_that_is_replaced_is_sent_as_it_was() {
    let fixture = Fixture::new().await;
    fixture.write("file", vec![1; 200_000]);
    let mut response = fixture.get("/files/file").await;
    let first = response.body.next().await.unwrap().unwrap();
    fixture.write("new", vec![2; 200_000]);
    fs::rename(fixture.path("new"), fixture.path("file")).unwrap();
    let rest = content(response).await;
    assert!(first.iter().chain(&rest).all(|byte| *byte == 1));
    assert_eq!(first.len() + rest.len(), 200_000);
}

#[tokio::test]
async fn fs_30_content_of_the_request_is_not_waited_for() {
    let fixture = Fixture::new().await;
    fixture.write("a.txt", "answer");
    let mut request = Request::get("/files/a.txt");
    request.body = Body::stream(futures_util::stream::pending());
    let answer = fixture.server.request(request);
    let response = tokio::time::timeout(Duration::from_secs(5), answer)
        .await
        .unwrap();
    assert_eq!(content(response).await, b"answer");
}

#[tokio::test]
async fn fs_31_a_path_above_8_kib_is_414() {
    let fixture = Fixture::new().await;
    let path = |len: usize| format!("/files/{:a<1$}", "", len - "/files/".len());
    assert_eq!(fixture.status(&path(8193)).await, 414);
    // Longer than any file name, which is another matter.
    assert_eq!(fixture.status(&path(8192)).await, 404);
}
