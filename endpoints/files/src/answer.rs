//! The response for a file that was found: its status, its fields, and which bytes it carries.

use std::fs::File;
use std::ops::Range;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use pasque::{Error, Request, Response, Result};

use crate::body::{self, Piece};
use crate::conditional::{self, Verdict};
use crate::disk::Disk;
use crate::range::{Selection, select};
use crate::representation::Representation;

/// Answers a GET or HEAD for `file`.
pub(crate) fn answer(
    request: &Request,
    file: File,
    about: &Representation,
    cache_control: Option<&HeaderValue>,
    disk: Disk,
) -> Result<Response> {
    let verdict = conditional::evaluate(&request.headers, &about.validators);
    let selection = match verdict {
        Verdict::Failed => return empty(StatusCode::PRECONDITION_FAILED, about),
        Verdict::NotModified => {
            let mut response = Response::new(StatusCode::NOT_MODIFIED);
            response.headers = cache_fields(about, cache_control)?;
            return Ok(response);
        }
        Verdict::Proceed => selected(request, about),
    };

    let (status, content) = match selection {
        Selection::Unsatisfiable => {
            let content_range = field(format!("bytes */{}", about.len))?;
            let response = empty(StatusCode::RANGE_NOT_SATISFIABLE, about)?;
            return Ok(response.with_header(header::CONTENT_RANGE, content_range));
        }
        Selection::Whole => (StatusCode::OK, Content::whole(about)),
        Selection::Parts(parts) => (StatusCode::PARTIAL_CONTENT, Content::parts(&parts, about)),
    };
    let mut response = Response::new(status);
    response.headers = cache_fields(about, cache_control)?;
    content.describe(&mut response.headers)?;
    if let Some(modified) = about.validators.last_modified {
        response
            .headers
            .insert(header::LAST_MODIFIED, field(modified.to_string())?);
    }
    if request.method == Method::GET {
        response.body = body::stream(file, content.pieces, disk);
    }
    Ok(response)
}

/// A field that this module made out of ASCII.
pub(crate) fn field(text: String) -> Result<HeaderValue> {
    HeaderValue::try_from(text)
        .map_err(|cause| Error::internal("cannot make a field value").with_source(cause))
}

fn empty(status: StatusCode, about: &Representation) -> Result<Response> {
    let mut response =
        Response::new(status).with_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    insert_date(&mut response.headers, about)?;
    Ok(response)
}

/// What a cache needs of every 200, 206 and 304 alike (RFC 9110 §15.4.5).
fn cache_fields(about: &Representation, cache_control: Option<&HeaderValue>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    insert_date(&mut headers, about)?;
    headers.insert(header::ETAG, field(about.validators.etag.to_string())?);
    if let Some(directives) = cache_control {
        headers.insert(header::CACHE_CONTROL, directives.clone());
    }
    Ok(headers)
}

/// Set here, not by the engine, so that `last-modified` comes from the same look at the clock.
fn insert_date(headers: &mut HeaderMap, about: &Representation) -> Result<()> {
    if let Some(date) = about.date {
        headers.insert(header::DATE, field(date.to_string())?);
    }
    Ok(())
}

fn selected(request: &Request, about: &Representation) -> Selection {
    let mut lines = request.headers.get_all(header::RANGE).iter();
    match (
        lines.next().and_then(|line| line.to_str().ok()),
        lines.next(),
    ) {
        (Some(range), None)
            if request.method == Method::GET
                && conditional::range_applies(&request.headers, &about.validators) =>
        {
            select(range, about.len)
        }
        _ => Selection::Whole,
    }
}

/// The content of a 200 or 206.
struct Content {
    content_type: String,
    content_range: Option<String>,
    pieces: Vec<Piece>,
}

impl Content {
    fn whole(about: &Representation) -> Self {
        Self {
            content_type: about.content_type.clone(),
            content_range: None,
            pieces: if about.len == 0 {
                Vec::new()
            } else {
                vec![Piece::Span(0..about.len)]
            },
        }
    }

    fn parts(parts: &[Range<u64>], about: &Representation) -> Self {
        if let [part] = parts {
            return Self {
                content_type: about.content_type.clone(),
                content_range: Some(content_range(part, about.len)),
                pieces: vec![Piece::Span(part.clone())],
            };
        }
        // Random, so that no file can be written to hold it.
        let boundary = format!("{:032x}", rand::random::<u128>());
        let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
        for part in parts {
            let break_before = if pieces.is_empty() { "" } else { "\r\n" };
            let head = format!(
                "{break_before}--{boundary}\r\ncontent-type: {}\r\ncontent-range: {}\r\n\r\n",
                about.content_type,
                content_range(part, about.len),
            );
            pieces.push(Piece::Text(Bytes::from(head)));
            pieces.push(Piece::Span(part.clone()));
        }
        pieces.push(Piece::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
        Self {
            content_type: format!("multipart/byteranges; boundary={boundary}"),
            content_range: None,
            pieces,
        }
    }

    fn describe(&self, headers: &mut HeaderMap) -> Result<()> {
        let len: u64 = self.pieces.iter().map(Piece::len).sum();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        headers.insert(header::CONTENT_TYPE, field(self.content_type.clone())?);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if let Some(content_range) = &self.content_range {
            headers.insert(header::CONTENT_RANGE, field(content_range.clone())?);
        }
        Ok(())
    }
}

fn content_range(part: &Range<u64>, len: u64) -> String {
    format!("bytes {}-{}/{len}", part.start, part.end - 1)
}
