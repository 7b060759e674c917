//! Whether a response is what was asked for, and what to do with its content.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::partial::Kept;

/// What the content of a response is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The whole file.
    Whole {
        /// Its length.
        len: u64,
        /// Its strong tag, without which it cannot be resumed.
        tag: Option<String>,
    },
    /// What is missing of a file of which `offset` bytes are there.
    Rest {
        /// Where it goes.
        offset: u64,
        /// How long it is.
        len: u64,
    },
}

/// Why a response cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The status says so.
    Status,
    /// What it would give cannot be told from something broken.
    Doubtful(String),
}

impl Plan {
    /// Judges a response to a request for a whole file or, with `kept`, for the rest of one.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        kept: Option<&Kept>,
    ) -> Result<Self, Unusable> {
        match (status, kept) {
            (StatusCode::OK, _) => {
                let len = content_length(headers)?;
                Ok(Self::Whole {
                    len,
                    tag: strong_tag(headers),
                })
            }
            (StatusCode::PARTIAL_CONTENT, Some(kept)) => rest(headers, kept),
            (status, _) if status.is_success() => Err(doubtful(format!(
                "the server answered {status}, which was not asked for"
            ))),
            _ => Err(Unusable::Status),
        }
    }

    /// Where the content goes.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Whole { .. } => 0,
            Self::Rest { offset, .. } => *offset,
        }
    }

    /// The length of the content.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Whole { len, .. } | Self::Rest { len, .. } => *len,
        }
    }
}

/// Checks that a 206 is the end of the file that is kept (RFC 9110 §15.3.7): the wrong bytes in the
/// middle would make a file that nobody ever had.
fn rest(headers: &HeaderMap, kept: &Kept) -> Result<Plan, Unusable> {
    let range = only(headers, header::CONTENT_RANGE).and_then(parse_content_range);
    let expected = (kept.offset, kept.len.saturating_sub(1), kept.len);
    if range != Some(expected) {
        let (first, last, len) = expected;
        return Err(doubtful(format!(
            "the server answered 206 with another range than bytes {first}-{last}/{len}"
        )));
    }
    let rest = kept.len - kept.offset;
    if content_length(headers)? != rest {
        return Err(doubtful(
            "the server answered 206 with a length that is not its range's",
        ));
    }
    match headers.get(header::ETAG) {
        Some(tag) if tag.as_bytes() != kept.tag.as_bytes() => Err(doubtful(
            "the server answered 206 for another version of the file",
        )),
        _ => Ok(Plan::Rest {
            offset: kept.offset,
            len: rest,
        }),
    }
}

fn doubtful(what: impl Into<String>) -> Unusable {
    Unusable::Doubtful(what.into())
}

/// Without the length, a file that ends early looks like a whole one: the engine cannot tell a
/// stream that was cut inside a frame from one that ended (RFC 9114 §7.1).
fn content_length(headers: &HeaderMap) -> Result<u64, Unusable> {
    only(headers, header::CONTENT_LENGTH)
        .and_then(parse_number)
        .ok_or_else(|| doubtful("the server does not say how long it is, so it cannot be checked"))
}

/// The value of a field that stands there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(value)), None) => Some(value),
        _ => None,
    }
}

/// `bytes FIRST-LAST/LEN` (RFC 9110 §14.4).
fn parse_content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (unit, rest) = value.split_once(' ')?;
    let (range, len) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let numbers = (
        parse_number(first)?,
        parse_number(last)?,
        parse_number(len)?,
    );
    unit.eq_ignore_ascii_case("bytes").then_some(numbers)
}

fn parse_number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// The tag of a response, if equal tags mean equal bytes (RFC 9110 §8.8.1).
fn strong_tag(headers: &HeaderMap) -> Option<String> {
    let tag = only(headers, header::ETAG)?;
    let inner = tag.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains(['"', ' '])).then(|| tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(status: u16, fields: &[(&'static str, &str)], resume: bool) -> Result<Plan, Unusable> {
        let headers = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let kept = Kept {
            tag: "\"v1\"".into(),
            offset: 4,
            len: 10,
        };
        Plan::new(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            resume.then_some(&kept),
        )
    }

    #[test]
    fn fs_32_a_whole_file_says_how_long_it_is() {
        let whole = plan(200, &[("content-length", "10"), ("etag", "\"v1\"")], false);
        assert_eq!(
            whole,
            Ok(Plan::Whole {
                len: 10,
                tag: Some("\"v1\"".into())
            })
        );
        for length in [
            None,
            Some("-1"),
            Some("+1"),
            Some(""),
            Some("99999999999999999999"),
        ] {
            let fields: Vec<_> = length
                .map(|length| ("content-length", length))
                .into_iter()
                .collect();
            assert!(
                matches!(plan(200, &fields, false), Err(Unusable::Doubtful(_))),
                "{length:?}"
            );
        }
    }

    #[test]
    fn fs_32_only_what_was_asked_for_is_used() {
        for status in [201, 204, 206] {
            let answer = plan(status, &[("content-length", "10")], false);
            assert!(matches!(answer, Err(Unusable::Doubtful(_))), "{status}");
        }
        for status in [301, 304, 404, 416, 500] {
            assert_eq!(
                plan(status, &[("content-length", "10")], true),
                Err(Unusable::Status)
            );
        }
    }

    #[test]
    fn fs_33_a_tag_is_kept_only_if_it_is_strong() {
        for weak in ["W/\"v1\"", "v1", "\"v1", "\"", "\"a\"b\"", ""] {
            let answer = plan(200, &[("content-length", "1"), ("etag", weak)], false);
            assert_eq!(answer, Ok(Plan::Whole { len: 1, tag: None }), "{weak}");
        }
    }

    #[test]
    fn fs_33_a_200_is_the_whole_file_again() {
        let answer = plan(200, &[("content-length", "3"), ("etag", "\"v2\"")], true);
        assert_eq!(
            answer,
            Ok(Plan::Whole {
                len: 3,
                tag: Some("\"v2\"".into())
            })
        );
    }

    #[test]
    fn fs_33_a_206_is_the_rest_and_nothing_else() {
        let good = [
            ("content-range", "bytes 4-9/10"),
            ("content-length", "6"),
            ("etag", "\"v1\""),
        ];
        assert_eq!(plan(206, &good, true), Ok(Plan::Rest { offset: 4, len: 6 }));
        assert_eq!(
            plan(206, &good[..2], true),
            Ok(Plan::Rest { offset: 4, len: 6 })
        );
        for (at, wrong) in [
            (0, ("content-range", "bytes 3-9/10")),
            (0, ("content-range", "bytes 4-8/10")),
            (0, ("content-range", "bytes 4-9/11")),
            (0, ("content-range", "bytes 4-9/*")),
            (0, ("content-range", "bytes */10")),
            (0, ("content-range", "items 4-9/10")),
            (0, ("x", "y")),
            (1, ("content-length", "5")),
            (1, ("x", "y")),
            (2, ("etag", "\"v2\"")),
            (2, ("etag", "W/\"v1\"")),
        ] {
            let mut fields = good;
            fields[at] = wrong;
            assert!(
                matches!(plan(206, &fields, true), Err(Unusable::Doubtful(_))),
                "{wrong:?}"
            );
        }
    }
}
