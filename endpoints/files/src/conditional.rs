//! Conditional requests (RFC 9110 §13).

use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderValue};
use httpdate::HttpDate;

use crate::representation::{EntityTag, Validators};

/// What the preconditions of a GET or HEAD come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client asked for.
    Failed,
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2, up to `if-range`.
pub(crate) fn evaluate(headers: &HeaderMap, current: &Validators) -> Verdict {
    let etag = &current.etag;
    let is_newer_than = |date: HttpDate| current.last_modified.map(|modified| modified > date);

    if headers.contains_key(IF_MATCH) {
        if !any_tag(headers, IF_MATCH, |tag| tag.matches_strongly(etag)) {
            return Verdict::Failed;
        }
    } else if single_date(headers, IF_UNMODIFIED_SINCE).and_then(is_newer_than) == Some(true) {
        return Verdict::Failed;
    }

    if headers.contains_key(IF_NONE_MATCH) {
        if any_tag(headers, IF_NONE_MATCH, |tag| tag.matches_weakly(etag)) {
            return Verdict::NotModified;
        }
    } else if single_date(headers, IF_MODIFIED_SINCE).and_then(is_newer_than) == Some(false) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether `if-range` lets a `range` field take effect (RFC 9110 §13.1.5).
pub(crate) fn range_applies(headers: &HeaderMap, current: &Validators) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(value) = single(headers, IF_RANGE) else {
        return false;
    };
    match parse_tag(value.as_bytes()) {
        Some((tag, rest)) => rest.is_empty() && tag.matches_strongly(&current.etag),
        // A date counts only once nothing can change within its second, as with the tag.
        None => {
            !current.etag.is_weak
                && current
                    .last_modified
                    .is_some_and(|modified| date(value) == Some(modified))
        }
    }
}

/// An entity tag as a client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentTag<'a> {
    opaque: &'a [u8],
    is_weak: bool,
}

impl SentTag<'_> {
    fn matches_strongly(self, current: &EntityTag) -> bool {
        !self.is_weak && !current.is_weak && self.matches_weakly(current)
    }

    fn matches_weakly(self, current: &EntityTag) -> bool {
        self.opaque == current.opaque.as_bytes()
    }
}

/// Whether the list in all lines of the field is `*`, or holds a tag that `matches`. Reading a line
/// stops where it is malformed.
fn any_tag(headers: &HeaderMap, name: HeaderName, matches: impl Fn(SentTag<'_>) -> bool) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut rest = line.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        loop {
            rest = skip(rest, b", \t");
            let Some((tag, after)) = parse_tag(rest) else {
                return false;
            };
            if matches(tag) {
                return true;
            }
            rest = skip(after, b" \t");
            if !rest.starts_with(b",") {
                return false;
            }
        }
    })
}

/// The tag at the start of `text`, and what follows it.
fn parse_tag(text: &[u8]) -> Option<(SentTag<'_>, &[u8])> {
    let (is_weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let mut pieces = quoted.strip_prefix(b"\"")?.splitn(2, |byte| *byte == b'"');
    let (opaque, after) = (pieces.next()?, pieces.next()?);
    let is_valid = opaque.iter().all(|byte| !matches!(byte, 0..=b' ' | 0x7f));
    is_valid.then_some((SentTag { opaque, is_weak }, after))
}

fn skip<'a>(mut text: &'a [u8], what: &[u8]) -> &'a [u8] {
    while let Some((first, rest)) = text.split_first()
        && what.contains(first)
    {
        text = rest;
    }
    text
}

/// The value of a field that must stand alone; with two of them neither counts.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

fn single_date(headers: &HeaderMap, name: HeaderName) -> Option<HttpDate> {
    single(headers, name).and_then(date)
}

fn date(value: &HeaderValue) -> Option<HttpDate> {
    value.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
