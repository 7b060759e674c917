//! [`Files`]: the endpoint and its configuration.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use pasque::FileUse;
use pasque::prelude::*;

use crate::answer::{answer, field};
use crate::disk::Disk;
use crate::resolve::{RelativePath, is_plain_name, with_slash};
use crate::root::Root;
use crate::search::{Outcome, Search, refusal};

/// Serves the files beneath a folder to GET and HEAD.
///
/// Only regular files are served, never what has a name with a leading dot, and nothing that is
/// not beneath the folder at the moment when it is opened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The folder; relative to the configuration file's.
    root: PathBuf,
    /// The file that a folder is served as. With `null` folders are not found; nothing ever lists
    /// what they hold.
    #[serde(default = "default_index")]
    index: Option<String>,
    /// Whether symbolic links are followed, as long as they stay beneath the root.
    #[serde(default)]
    follow_symlinks: bool,
    /// The value of `cache-control`, for every file; without it the field is not sent.
    #[serde(default)]
    cache_control: Option<String>,
    #[serde(skip)]
    opened: Option<Opened>,
}

pasque::register!(Files, "static files beneath a folder",
    example: r#"{ "path": "files", "type": "Files", "root": "public" }"#,
    rest: true, public: true, inline: true);

/// What `start` opened.
#[derive(Debug)]
struct Opened {
    root: Arc<Root>,
    disk: Disk,
    cache_control: Option<HeaderValue>,
}

#[async_trait]
#[typetag::deserialize]
impl Endpoint for Files {
    async fn start(&mut self, cx: &StartContext) -> Result<()> {
        if let Some(index) = &self.index
            && !is_plain_name(index.as_bytes())
        {
            return Err(Error::internal(format!(
                "index {index:?} must be the name of a file"
            )));
        }
        let cache_control = match &self.cache_control {
            Some(directives) => Some(HeaderValue::from_str(directives).map_err(|cause| {
                Error::internal(format!("cache_control {directives:?} cannot be sent"))
                    .with_source(cause)
            })?),
            None => None,
        };
        let folder = cx.resolve_path(&self.root);
        let root = Root::open(&folder, self.follow_symlinks).map_err(|cause| {
            let problem = match cause.kind() {
                io::ErrorKind::NotFound => "does not exist",
                io::ErrorKind::NotADirectory => "is not a folder",
                _ => "cannot be opened",
            };
            Error::internal(format!("root {folder:?} {problem}")).with_source(cause)
        })?;
        self.opened = Some(Opened {
            root: Arc::new(root),
            disk: Disk::new(),
            cache_control,
        });
        Ok(())
    }

    fn files(&self) -> Vec<FileUse> {
        vec![FileUse::read(&self.root)]
    }

    async fn handle(&self, request: Request) -> Result<Response> {
        request.require_method(&[Method::GET, Method::HEAD], "GET, HEAD")?;
        let Some(opened) = &self.opened else {
            return Err(Error::internal("the endpoint was not started"));
        };
        let Some(rest) = request.vars.rest() else {
            return Err(Error::internal("the mount is no prefix"));
        };
        let search = Search {
            path: RelativePath::parse(rest)?,
            wants_folder: rest.ends_with('/'),
            index: self.index.clone(),
        };
        let root = opened.root.clone();
        let outcome = opened.disk.run(move || search.run(&root)).await;
        match outcome.map_err(refusal)? {
            Outcome::File(file, about) => {
                let disk = opened.disk.clone();
                answer(&request, file, &about, opened.cache_control.as_ref(), disk)
            }
            Outcome::Folder => Ok(Response::new(StatusCode::MOVED_PERMANENTLY)
                .with_header(header::LOCATION, field(with_slash(&request.path))?)
                .with_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))),
            Outcome::Nothing => Err(Error::new(StatusCode::NOT_FOUND, "no file is there")),
        }
    }
}

fn default_index() -> Option<String> {
    Some("index.html".to_owned())
}

#[cfg(test)]
mod tests;
