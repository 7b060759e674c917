//! The endpoint as a client sees it: from JSON through the router to fields and bytes.

mod bytes;
mod fields;
mod folders;
mod hostile;
mod ranges;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use pasque::testing::TestServer;
use pasque::{Request, Response};
use tempfile::TempDir;

/// What must never be served: the content of every file beside the root.
pub(crate) const CANARY: &str = "canary";

/// A server of `public`, beside which lies a file that must not be served.
pub(crate) struct Fixture {
    pub(crate) server: TestServer,
    folder: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With more keys in the configuration, as JSON with a comma in front.
    pub(crate) async fn with(keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("public")).unwrap();
        fs::write(folder.path().join("canary.txt"), CANARY).unwrap();
        let json = format!(r#"{{ "path": "files", "type": "Files", "root": "public"{keys} }}"#);
        let server = TestServer::from_json_in(&json, folder.path()).await;
        Self { server, folder }
    }

    /// The folder that holds the root and the canary.
    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    /// A path beneath the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("public").join(name)
    }

    /// Writes a file beneath the root that has not changed for an hour.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_age(&path, Duration::from_secs(3600));
        path
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.server.request(Request::get(path)).await
    }

    /// A GET with fields.
    pub(crate) async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.ask(Method::GET, path, fields).await
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Response {
        let mut request = Request::new(method, path);
        request.headers = header_map(fields);
        self.server.request(request).await
    }

    pub(crate) async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status.as_u16()
    }
}

pub(crate) fn header_map(fields: &[(&str, &str)]) -> HeaderMap {
    let fields = fields.iter().map(|(name, value)| {
        (
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    });
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, value);
    }
    headers
}

pub(crate) fn set_age(path: &Path, age: Duration) {
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

pub(crate) async fn content(response: Response) -> Vec<u8> {
    response.body.collect(1 << 30).await.unwrap().to_vec()
}
