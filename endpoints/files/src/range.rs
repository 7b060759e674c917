//! The `range` field (RFC 9110 §14.2): which bytes of a file a client wants.
//!
//! Written by hand because the crates for it refuse what is to be ignored: they report numbers
//! beyond 64 bits and overlapping ranges as errors, and do not tell them from unsatisfiable ones.

use std::ops::Range;

/// Beyond this many ranges the whole file is sent instead: it costs less than their headers.
const MAX_RANGES: usize = 16;

/// Of the ranges asked for, at most this many may share bytes with another.
const MAX_OVERLAPPING: usize = 2;

/// What a `range` field selects from a file of a known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Everything: the field is malformed, in another unit, or asks for too much work.
    Whole,
    /// Ranges in the order asked for, none empty, none beyond the end.
    Parts(Vec<Range<u64>>),
    /// Valid, and nothing of it lies within the file.
    Unsatisfiable,
}

/// Applies the value of a `range` field to a file of `len` bytes.
pub(crate) fn select(field: &str, len: u64) -> Selection {
    let Some(specs) = parse(field) else {
        return Selection::Whole;
    };
    if len == 0 && specs.iter().any(|spec| matches!(spec, Spec::Last(1..))) {
        // Satisfiable by definition, yet no `content-range` can describe no bytes.
        return Selection::Whole;
    }
    let parts: Vec<_> = specs.iter().filter_map(|spec| spec.within(len)).collect();
    if parts.is_empty() {
        return Selection::Unsatisfiable;
    }
    let overlapping = parts.iter().enumerate().filter(|(index, part)| {
        let mut others = parts.iter().enumerate().filter(|(other, _)| other != index);
        others.any(|(_, other)| part.start < other.end && other.start < part.end)
    });
    if overlapping.count() > MAX_OVERLAPPING {
        return Selection::Whole;
    }
    Selection::Parts(parts)
}

/// One member of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// `first-last` or `first-`.
    From { first: u64, last: u64 },
    /// `-count`: as many bytes from the end.
    Last(u64),
}

impl Spec {
    fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From { first, last } => first..last.saturating_add(1).min(len),
            Self::Last(count) => len.saturating_sub(count)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

/// The members of a valid `bytes` field of at most [`MAX_RANGES`]; `None` for any other.
fn parse(field: &str) -> Option<Vec<Spec>> {
    let (unit, set) = field.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    // Empty members of a list mean nothing (RFC 9110 §5.6.1).
    for member in set
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
    {
        if member.is_empty() {
            continue;
        }
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(parse_spec(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        return parse_number(last).map(Spec::Last);
    }
    let first = parse_number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        parse_number(last)?
    };
    (first <= last).then_some(Spec::From { first, last })
}

/// A decimal number. Beyond 64 bits it is `u64::MAX`, which is beyond the end of every file, too.
fn parse_number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
