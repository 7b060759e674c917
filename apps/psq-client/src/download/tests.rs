use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use pasque::prelude::*;
use pasque::testing::TestServer;
use tempfile::TempDir;

use super::*;

const CONTENT: &[u8] = b"0123456789";

/// Serves ten bytes, in the manner that the end of the path names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shelf {
    #[serde(skip)]
    requests: AtomicUsize,
}

pasque::register!(Shelf, "serves ten bytes, well or badly",
    example: r#"{ "path": "f", "type": "Shelf" }"#, rest: true, public: true);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Shelf {
    async fn handle(&self, request: Request) -> Result<Response> {
        let earlier = self.requests.fetch_add(1, Ordering::Relaxed);
        let has = |name: HeaderName, value| request.headers.get(name).is_some_and(|v| v == value);
        let asks_for_rest = has(header::RANGE, "bytes=4-") && has(header::IF_RANGE, "\"v1\"");
        let answer = match request.path.rsplit('/').next().unwrap_or_default() {
            "whole" => answer(200, &[("content-length", "10")], CONTENT),
            "short" => answer(200, &[("content-length", "11")], CONTENT),
            "long" => answer(200, &[("content-length", "9")], CONTENT),
            "unknown-length" => answer(200, &[], CONTENT),
            "partial-unasked" => answer(206, &[("content-length", "10")], CONTENT),
            "moved" => answer(302, &[("location", "/f/whole")], b""),
            "reset" => broken(&[]),
            // The rest of these fail the first time, after four bytes.
            _ if earlier == 0 => broken(&[("etag", "\"v1\"")]),
            "resumable" if asks_for_rest => answer(206, &REST, b"456789"),
            "changed" if asks_for_rest => answer(
                200,
                &[("content-length", "6"), ("etag", "\"v2\"")],
                b"abcdef",
            ),
            "other-range" if asks_for_rest => answer(
                206,
                &[("content-range", "bytes 3-9/10"), REST[1]],
                b"3456789",
            ),
            "gone" if asks_for_rest => answer(416, &[], b""),
            _ => return Err(Error::new(StatusCode::NOT_FOUND, "not on the shelf")),
        };
        Ok(answer)
    }
}

const REST: [(&str, &str); 2] = [("content-range", "bytes 4-9/10"), ("content-length", "6")];

fn answer(status: u16, fields: &[(&'static str, &'static str)], body: &'static [u8]) -> Response {
    let mut response = Response::new(StatusCode::from_u16(status).unwrap());
    for (name, value) in fields {
        response
            .headers
            .append(*name, HeaderValue::from_static(value));
    }
    response.body = Body::stream(stream::iter([Ok(Bytes::from_static(body))]));
    response
}

/// Announces ten bytes, sends four and resets the stream.
fn broken(fields: &[(&'static str, &'static str)]) -> Response {
    let mut response = answer(200, fields, b"");
    response
        .headers
        .insert("content-length", HeaderValue::from_static("10"));
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    let chunks = [Ok(Bytes::from_static(&CONTENT[..4])), Err(reset)];
    response.body = Body::stream(stream::iter(chunks));
    response
}

struct Test {
    server: TestServer,
    folder: TempDir,
}

impl Test {
    async fn new() -> Self {
        let server = TestServer::example("Shelf").await;
        Self {
            server,
            folder: TempDir::new().unwrap(),
        }
    }

    /// Fetches `/f/<name>` to a file of that name.
    async fn get(&self, names: &[&str]) -> Exit {
        let connection = self.server.connection();
        let source = Source {
            connection: &connection,
            authority: "localhost".into(),
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(5),
        };
        let download = |name: &&str| Download {
            file: RemoteFile::parse(&format!("/f/{name}")).unwrap(),
            place: Place::File(self.folder.path().join(name)),
        };
        run(&source, &names.iter().map(download).collect::<Vec<_>>()).await
    }

    fn content(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.folder.path().join(name)).ok()
    }

    fn files(&self) -> usize {
        fs::read_dir(Path::new(self.folder.path())).unwrap().count()
    }
}

#[tokio::test]
async fn fs_32_a_whole_file_gets_its_name() {
    let test = Test::new().await;
    assert_eq!(test.get(&["whole"]).await, Exit::Done);
    assert_eq!(test.content("whole").unwrap(), CONTENT);
    assert_eq!(test.files(), 1);
}

#[tokio::test]
async fn fs_32_anything_less_leaves_no_file() {
    for (name, exit) in [
        ("short", Exit::Incomplete),
        ("long", Exit::Refused),
        ("unknown-length", Exit::Incomplete),
        ("partial-unasked", Exit::Incomplete),
        ("reset", Exit::Incomplete),
        ("moved", Exit::Refused),
    ] {
        let test = Test::new().await;
        assert_eq!(test.get(&[name]).await, exit, "{name}");
        assert_eq!(test.files(), 0, "{name}");
    }
}

#[tokio::test]
async fn fs_32_a_failure_leaves_an_older_file_alone() {
    let test = Test::new().await;
    fs::write(test.folder.path().join("short"), "old").unwrap();
    assert_eq!(test.get(&["short"]).await, Exit::Incomplete);
    assert_eq!(test.content("short").unwrap(), b"old");
}

#[tokio::test]
async fn fs_32_one_failure_does_not_stop_the_others() {
    let test = Test::new().await;
    assert_eq!(test.get(&["whole", "moved", "short"]).await, Exit::Refused);
    assert_eq!(test.content("whole").unwrap(), CONTENT);
    assert_eq!(test.files(), 1);
}

#[tokio::test]
async fn fs_33_the_rest_of_a_download_is_fetched_and_no_more() {
    let test = Test::new().await;
    assert_eq!(test.get(&["resumable"]).await, Exit::Incomplete);
    assert_eq!((test.content("resumable"), test.files()), (None, 2));
    // A request for anything but the rest would get 404.
    assert_eq!(test.get(&["resumable"]).await, Exit::Done);
    assert_eq!(test.content("resumable").unwrap(), CONTENT);
    assert_eq!(test.files(), 1);
}

#[tokio::test]
async fn fs_33_a_changed_file_is_fetched_whole() {
    let test = Test::new().await;
    assert_eq!(test.get(&["changed"]).await, Exit::Incomplete);
    assert_eq!(test.get(&["changed"]).await, Exit::Done);
    assert_eq!(test.content("changed").unwrap(), b"abcdef");
}

#[tokio::test]
async fn fs_33_an_answer_for_another_range_is_no_mixture() {
    for name in ["other-range", "gone"] {
        let test = Test::new().await;
        assert_eq!(test.get(&[name]).await, Exit::Incomplete);
        assert_eq!(test.get(&[name]).await, Exit::Incomplete, "{name}");
        // The next attempt begins from zero.
        assert_eq!(test.files(), 0, "{name}");
    }
}

#[tokio::test]
async fn fs_33_a_file_that_is_gone_is_an_error() {
    let test = Test::new().await;
    assert_eq!(test.get(&["removed"]).await, Exit::Incomplete);
    assert_eq!(test.get(&["removed"]).await, Exit::Refused);
    assert_eq!(test.content("removed"), None);
}

#[tokio::test]
async fn the_digest_of_a_resumed_file_is_of_all_of_it() {
    let test = Test::new().await;
    let connection = test.server.connection();
    let source = Source {
        connection: &connection,
        authority: "localhost".into(),
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(5),
    };
    let download = Download {
        file: RemoteFile::parse("/f/resumable").unwrap(),
        place: Place::File(test.folder.path().join("resumable")),
    };
    let progress = Progress::new();
    transfer::fetch(&source, &download, &progress)
        .await
        .unwrap_err();
    let report = transfer::fetch(&source, &download, &progress)
        .await
        .unwrap();
    assert_eq!(report.len, 10);
    // sha256 of "0123456789"
    assert_eq!(report.digest[..4], [0x84, 0xd8, 0x98, 0x77]);
}
