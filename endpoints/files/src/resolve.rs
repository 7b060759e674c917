//! [`RelativePath`]: what a request asks for, as a path that cannot leave the folder it starts in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use http::StatusCode;
use pasque::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What a path segment may hold unencoded: `pchar` (RFC 3986 §3.3).
const NOT_PCHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A path of plain names, each of which is one entry of a folder; empty for the folder itself.
///
/// Only [`parse`](Self::parse) and [`join`](Self::join) make one, so nobody need check it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelativePath(PathBuf);

impl RelativePath {
    /// Reads what follows the mount in a `:path`: nothing, or from its `/` on, still encoded and
    /// without the query. One slash at the end is allowed and says nothing here.
    ///
    /// # Errors
    /// 400 for a broken percent-encoding; 404 for a name that no served file can have.
    pub(crate) fn parse(rest: &str) -> Result<Self> {
        let names = rest.strip_prefix('/').unwrap_or(rest);
        let mut path = PathBuf::new();
        if !names.is_empty() {
            for segment in names.strip_suffix('/').unwrap_or(names).split('/') {
                path.push(OsStr::from_bytes(&decode(segment)?));
            }
        }
        Ok(Self(path))
    }

    /// The entry `name` of this folder. `name` comes from the configuration.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Skips the checks, to see what stands behind them.
    #[cfg(test)]
    pub(crate) fn unchecked(path: &str) -> Self {
        Self(path.into())
    }
}

/// Whether `name` can be the name of an entry, and of no other folder's.
pub(crate) fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && !name
            .iter()
            .any(|byte| matches!(byte, b'/' | b'\\') || byte.is_ascii_control())
}

fn decode(segment: &str) -> Result<Vec<u8>> {
    if !is_well_encoded(segment.as_bytes()) {
        return Err(Error::bad_request("broken percent-encoding in the path"));
    }
    // Once: what decodes to another `%2e` is a name with a percent sign in it.
    let name: Vec<u8> = percent_decode_str(segment).collect();
    if !is_plain_name(&name) || name.starts_with(b".") {
        return Err(not_servable());
    }
    Ok(name)
}

fn is_well_encoded(segment: &[u8]) -> bool {
    let is_encoded = |tail: &[u8]| {
        tail.first_chunk::<2>()
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    segment.split(|byte| *byte == b'%').skip(1).all(is_encoded)
}

fn not_servable() -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "the path names no file that is served",
    )
}

/// `path` (a `:path`: path and query) with a slash behind the path, for a `location` field.
///
/// The path is encoded anew and starts with exactly one slash, so that no client reads a name in
/// it as the name of another host.
pub(crate) fn with_slash(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut location = String::with_capacity(path.len() + 1);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name: Vec<u8> = percent_decode_str(segment).collect();
        location.push('/');
        location.extend(percent_encode(&name, NOT_PCHAR));
    }
    location.push('/');
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}

#[cfg(test)]
mod tests;
