//! What a template looks like once it is compiled: patterns that a request is matched against.

use super::pattern::Pattern;
use super::{PathError, Vars};

/// The targets that a server's template takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A path without its final `/`, and all below it.
    Prefix(String),
    /// What one template expands to.
    Expansion(Expansion),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expansion {
    /// The path up to its first variable.
    pub(super) literal: String,
    /// The path between its slashes.
    pub(super) segments: Vec<Pattern>,
    /// The fields of the query that have no variable.
    pub(super) constants: Vec<String>,
    /// The fields of the query that have.
    pub(super) fields: Vec<Field>,
}

/// A field of the query with a variable in its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) value: Pattern,
    pub(super) is_optional: bool,
}

impl Shape {
    /// The variables, or `None` where the literals do not match.
    pub(super) fn capture(
        &self,
        path: &str,
        query: Option<&str>,
    ) -> Result<Option<Vars>, PathError> {
        match self {
            Self::Prefix(prefix) => Ok(below(prefix, path).map(Vars::from_rest)),
            Self::Expansion(expansion) => expansion.capture(path, query),
        }
    }

    /// Whether every target that `later` takes is taken by this, too. `false` if in doubt.
    pub(super) fn covers(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Prefix(prefix), Self::Prefix(later)) => below(prefix, later).is_some(),
            (Self::Prefix(prefix), Self::Expansion(later)) => {
                // A variable may end the segment that the literal begins: `/files{x}` is not below
                // `/files`.
                below(prefix, &later.literal)
                    .is_some_and(|rest| !rest.is_empty() || !later.has_path_variables())
            }
            (Self::Expansion(_), Self::Prefix(_)) => false,
            (Self::Expansion(expansion), Self::Expansion(later)) => expansion.covers(later),
        }
    }
}

impl Expansion {
    fn has_path_variables(&self) -> bool {
        self.segments.iter().any(|segment| !segment.is_literal())
    }

    fn capture(&self, path: &str, query: Option<&str>) -> Result<Option<Vars>, PathError> {
        if path != self.literal && !(self.has_path_variables() && path.starts_with(&self.literal)) {
            return Ok(None);
        }
        let mut sent: Vec<&str> = query.map_or_else(Vec::new, |query| query.split('&').collect());
        for constant in &self.constants {
            let Some(at) = sent.iter().position(|field| field == constant) else {
                return Ok(None);
            };
            sent.remove(at);
        }

        let mut vars = Vars::default();
        if path.split('/').count() != self.segments.len() {
            return Err(PathError::Form);
        }
        for (segment, text) in self.segments.iter().zip(path.split('/')) {
            segment.capture(text, &mut vars)?;
        }
        for field in &self.fields {
            let found = sent
                .iter()
                .enumerate()
                .find_map(|(at, sent)| Some((at, field.value_in(sent)?)));
            match found {
                Some((at, value)) => {
                    field.value.capture(value, &mut vars)?;
                    sent.remove(at);
                }
                None if field.is_optional => {}
                None => return Err(PathError::MissingField(field.key.clone())),
            }
        }
        if !sent.is_empty() {
            return Err(PathError::UnexpectedField);
        }
        Ok(Some(vars))
    }

    fn covers(&self, later: &Self) -> bool {
        let covers_path = self.segments.len() == later.segments.len()
            && self
                .segments
                .iter()
                .zip(&later.segments)
                .all(|(segment, later)| segment.covers(later));
        let takes_each = later
            .fields
            .iter()
            .all(|later| self.fields.iter().any(|field| field.covers(later)));
        let needs_no_other = self
            .fields
            .iter()
            .filter(|field| !field.is_optional)
            .all(|field| later.fields.iter().any(|later| field.covers(later)));
        covers_path && self.constants == later.constants && takes_each && needs_no_other
    }
}

impl Field {
    /// The value, if `sent` is this field.
    fn value_in<'a>(&self, sent: &'a str) -> Option<&'a str> {
        sent.strip_prefix(&*self.key)?.strip_prefix('=')
    }

    fn covers(&self, later: &Self) -> bool {
        self.key == later.key
            && (self.is_optional || !later.is_optional)
            && self.value.covers(&later.value)
    }
}

/// What follows `prefix` in `path`, if that is empty or starts a new segment.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
