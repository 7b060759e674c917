//! From the parts of a template to the patterns that requests are matched against.

use std::collections::HashSet;
use std::mem;

use super::TemplateError;
use super::pattern::Pattern;
use super::shape::{Expansion, Field};
use super::syntax::{self, Operator, Part};

/// Compiles a path and query.
pub(super) fn compile(parts: &[Part]) -> Result<Expansion, TemplateError> {
    let (path, query) = split_query(parts)?;
    let Some(Part::Literal(literal)) = path.first().filter(|part| starts_with_slash(part)) else {
        return Err(TemplateError::EmptyPath);
    };
    let segments = split_patterns(&path, '/')?;
    let (constants, fields) = match query {
        Query::Absent => (Vec::new(), Vec::new()),
        Query::Optional(names) => (
            Vec::new(),
            names.iter().map(|name| optional_field(name)).collect(),
        ),
        Query::Written(parts) => compile_query(&parts)?,
    };
    let values = fields.iter().map(|field| &field.value);
    check_unique(
        segments
            .iter()
            .chain(values)
            .flat_map(|pattern| &pattern.names),
    )?;
    check_unique(fields.iter().map(|field| &field.key))?;
    Ok(Expansion {
        literal: literal.clone(),
        segments,
        constants,
        fields,
    })
}

enum Query<'a> {
    Absent,
    /// `{?a,b}`
    Optional(&'a [String]),
    /// What follows a literal `?`.
    Written(Vec<Part>),
}

/// Splits at the first `?`.
fn split_query(parts: &[Part]) -> Result<(Vec<Part>, Query<'_>), TemplateError> {
    let opens_query = |part: &Part| match part {
        Part::Literal(text) => text.contains('?'),
        Part::Expression { operator, .. } => *operator == Operator::Query,
    };
    let at = parts.iter().position(opens_query);
    let (before, rest) = parts.split_at(at.unwrap_or(parts.len()));
    match rest.split_first() {
        None => Ok((before.to_vec(), Query::Absent)),
        Some((Part::Literal(text), after)) => {
            let (path, query) = text.split_once('?').unwrap_or((text, ""));
            let [path, query] = [path, query].map(|text| [Part::Literal(text.to_owned())]);
            let query = Query::Written([&query[..], after].concat());
            Ok(([before, &path].concat(), query))
        }
        Some((Part::Expression { names, .. }, [])) => Ok((before.to_vec(), Query::Optional(names))),
        Some((Part::Expression { .. }, _)) => {
            Err(TemplateError::Unmatchable("`{?…}` is not the last part"))
        }
    }
}

fn starts_with_slash(part: &Part) -> bool {
    matches!(part, Part::Literal(text) if text.starts_with('/'))
}

/// The patterns between `separator`s.
fn split_patterns(parts: &[Part], separator: char) -> Result<Vec<Pattern>, TemplateError> {
    let mut patterns = Vec::new();
    let mut last = Pattern::default();
    for part in parts {
        match part {
            Part::Literal(text) => {
                let mut pieces = text.split(separator);
                last.push_literal(pieces.next().unwrap_or_default());
                for piece in pieces {
                    patterns.push(mem::take(&mut last));
                    last.push_literal(piece);
                }
            }
            Part::Expression {
                operator: Operator::Simple,
                names,
            } => last.push_names(names)?,
            Part::Expression { .. } => {
                return Err(TemplateError::Unmatchable(
                    "`{?…}` stands in a query, or `{&…}` in a path",
                ));
            }
        }
    }
    patterns.push(last);
    Ok(patterns)
}

/// Fields without a variable, and fields with one.
fn compile_query(parts: &[Part]) -> Result<(Vec<String>, Vec<Field>), TemplateError> {
    let (mut constants, mut fields) = (Vec::new(), Vec::new());
    for (index, run) in parts.split(is_continuation).enumerate() {
        let mut written = split_patterns(run, '&')?.into_iter();
        // `{&…}` ends its field: what follows it, if anything, starts with `&`.
        if index > 0 && written.next() != Some(Pattern::default()) {
            return Err(TemplateError::Unmatchable("`{&…}` is not a whole field"));
        }
        for pattern in written {
            if pattern.is_literal() {
                constants.push(pattern.prefix);
                continue;
            }
            let Some((key, prefix)) = pattern.prefix.split_once('=') else {
                return Err(TemplateError::Unmatchable(
                    "a variable of the query has no key, as in `?key={name}`",
                ));
            };
            fields.push(Field {
                key: key.to_owned(),
                value: Pattern {
                    prefix: prefix.to_owned(),
                    names: pattern.names,
                    suffix: pattern.suffix,
                },
                is_optional: false,
            });
        }
    }
    let continued = parts.iter().filter(|part| is_continuation(part));
    fields.extend(syntax::names(continued).map(optional_field));
    Ok((constants, fields))
}

fn is_continuation(part: &Part) -> bool {
    matches!(
        part,
        Part::Expression {
            operator: Operator::Continuation,
            ..
        }
    )
}

fn optional_field(name: &str) -> Field {
    Field {
        key: name.to_owned(),
        value: Pattern::variable(name),
        is_optional: true,
    }
}

fn check_unique<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), TemplateError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(TemplateError::Duplicate(name.clone()));
        }
    }
    Ok(())
}
