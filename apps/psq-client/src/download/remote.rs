//! [`RemoteFile`]: what to ask a server for, and the local name that follows from it.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What a path or query cannot hold as it is (RFC 3986 §3.3, §3.4). A `%` can: the user may have
/// encoded already.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A file on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// The `:path`: path and query, percent-encoded.
    pub(crate) path: String,
}

impl RemoteFile {
    /// Takes a path as a user writes it: the slash in front may be missing, and whatever cannot be
    /// in a URL is encoded.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty path names no file".into());
        }
        if text.contains("://") {
            return Err(format!(
                "{text:?}: the server is named with --destination, leave it out"
            ));
        }
        if text.contains('#') {
            return Err(format!(
                "{text:?}: a fragment is not sent; write %23 for a # in a name"
            ));
        }
        let valid = text.match_indices('%').all(|(at, _)| {
            text.as_bytes()
                .get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        });
        if !valid {
            return Err(format!("{text:?}: write %25 for a % in a name"));
        }
        let slash = if text.starts_with('/') { "" } else { "/" };
        Ok(Self {
            path: format!("{slash}{}", utf8_percent_encode(text, ENCODED)),
        })
    }

    /// The name of the local file: the last segment of the path, if it can only mean a file in the
    /// current folder.
    pub(crate) fn local_name(&self) -> Result<String, String> {
        let path = self.path.split('?').next().unwrap_or_default();
        let segment = path.rsplit('/').next().unwrap_or_default();
        let refuse = |what| Err(format!("{:?} {what}: name one with --output", self.path));
        let Ok(name) = percent_decode_str(segment).decode_utf8() else {
            return refuse("has no file name in UTF-8");
        };
        if name.is_empty() {
            return refuse("has no file name");
        }
        // Hidden files configure programs: nobody should get one by accident.
        if name.starts_with('.') || name.chars().any(|c| c.is_control() || "/\\".contains(c)) {
            return refuse("has a file name that is not safe to use");
        }
        Ok(name.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, String> {
        RemoteFile::parse(text).map(|file| file.path)
    }

    #[test]
    fn a_path_is_encoded_where_it_has_to_be() {
        for (text, expected) in [
            ("/files/a.png", "/files/a.png"),
            ("files/a.png", "/files/a.png"),
            ("/a b/ü?q=[1]", "/a%20b/%C3%BC?q=%5B1%5D"),
            ("/a%20b", "/a%20b"),
            ("/../etc/passwd", "/../etc/passwd"),
        ] {
            assert_eq!(path(text).as_deref(), Ok(expected));
        }
        for wrong in ["", "/a#b", "/100%", "/%zz", "/%é", "https://example.org/a"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fs_32_the_local_name_stays_in_the_folder() {
        let name = |text: &str| RemoteFile::parse(text).unwrap().local_name();
        assert_eq!(name("/files/a%20b.png?size=/big").as_deref(), Ok("a b.png"));
        assert_eq!(name("a").as_deref(), Ok("a"));
        for unsafe_name in [
            "/",
            "/files/",
            "/files/?a",
            "/.",
            "/..",
            "/%2e%2e",
            "/.bashrc",
            "/a%2fb",
            "/%2fetc%2fpasswd",
            "/a%5cb",
            "/a%00",
            "/a%0ab",
            "/%ff",
        ] {
            assert!(name(unsafe_name).is_err(), "{unsafe_name}");
        }
    }
}
