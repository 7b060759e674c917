//! The syntax that both ends share: literals and expressions (RFC 6570 §2).

use super::TemplateError;

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text that stands for itself.
    Literal(String),
    /// A list of variables in braces.
    Expression {
        operator: Operator,
        names: Vec<String>,
    },
}

/// How the values of an expression are written (RFC 6570 §3.2), of those that RFC 9298 §2 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// `{a,b}`: values, joined by commas.
    Simple,
    /// `{?a,b}`: the whole query.
    Query,
    /// `{&a,b}`: more fields of the query.
    Continuation,
}

/// Cuts a template into parts, never two literals in a row.
pub(super) fn parse(template: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let at = template.len() - rest.len();
        let len = rest.find('{').unwrap_or(rest.len());
        if len > 0 {
            let (literal, after) = rest.split_at(len);
            check_literal(literal, at)?;
            parts.push(Part::Literal(literal.to_owned()));
            rest = after;
            continue;
        }
        let Some((expression, after)) = rest[1..].split_once('}') else {
            return Err(TemplateError::Brace { at });
        };
        parts.push(parse_expression(expression)?);
        rest = after;
    }
    Ok(parts)
}

/// The variables of these parts, in order.
pub(super) fn names<'a>(
    parts: impl IntoIterator<Item = &'a Part>,
) -> impl Iterator<Item = &'a str> {
    parts.into_iter().flat_map(|part| {
        let names = match part {
            Part::Literal(_) => &[][..],
            Part::Expression { names, .. } => names,
        };
        names.iter().map(String::as_str)
    })
}

/// Refuses parts that lack one of the `required` variables.
pub(super) fn check_required(parts: &[Part], required: &[&str]) -> Result<(), TemplateError> {
    let missing = required
        .iter()
        .find(|required| !names(parts).any(|name| name == **required));
    match missing {
        Some(name) => Err(TemplateError::MissingVariable((*name).to_owned())),
        None => Ok(()),
    }
}

/// Refuses a fragment, with or without variables in it.
pub(super) fn check_no_fragment(parts: &[Part]) -> Result<(), TemplateError> {
    let fragment = parts
        .iter()
        .position(|part| matches!(part, Part::Literal(text) if text.contains('#')));
    match fragment {
        None => Ok(()),
        Some(at) if at + 1 < parts.len() => Err(TemplateError::VariableOutsidePathAndQuery),
        Some(_) => Err(TemplateError::Fragment),
    }
}

/// Whether each `%` in `text` starts an escape: if not, where the first is that does not.
pub(super) fn check_escapes(text: &str) -> Result<(), usize> {
    let bytes = text.as_bytes();
    let bad = text.match_indices('%').find(|(at, _)| {
        let digits = bytes.get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    bad.map_or(Ok(()), |(at, _)| Err(at))
}

fn check_literal(text: &str, at: usize) -> Result<(), TemplateError> {
    for (offset, found) in text.char_indices() {
        let at = at + offset;
        match found {
            '}' => return Err(TemplateError::Brace { at }),
            // RFC 6570 §2.1; its ban on the apostrophe is undone by erratum 6937.
            '"' | '<' | '>' | '\\' | '^' | '`' | '|' => {
                return Err(TemplateError::Character { found, at });
            }
            _ if found.is_ascii_graphic() => {}
            _ => return Err(TemplateError::Character { found, at }),
        }
    }
    check_escapes(text).map_err(|offset| TemplateError::Percent { at: at + offset })
}

fn parse_expression(text: &str) -> Result<Part, TemplateError> {
    let (operator, list) = match text.chars().next() {
        Some('?') => (Operator::Query, &text[1..]),
        Some('&') => (Operator::Continuation, &text[1..]),
        Some(operator @ ('+' | '#' | '.' | '/' | ';' | '=' | ',' | '!' | '@' | '|')) => {
            return Err(TemplateError::Operator(operator));
        }
        _ => (Operator::Simple, text),
    };
    let names = list
        .split(',')
        .map(|name| check_name(name).map(|()| name.to_owned()))
        .collect::<Result<_, _>>()?;
    Ok(Part::Expression { operator, names })
}

/// RFC 6570 §2.3.
fn check_name(name: &str) -> Result<(), TemplateError> {
    if name.contains([':', '*']) {
        return Err(TemplateError::Modifier(name.to_owned()));
    }
    let is_name_character = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '%';
    let is_name = name
        .split('.')
        .all(|word| !word.is_empty() && word.chars().all(is_name_character));
    if !is_name || check_escapes(name).is_err() {
        return Err(TemplateError::Name(name.to_owned()));
    }
    Ok(())
}
