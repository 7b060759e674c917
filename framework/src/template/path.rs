//! The server's end: from the target of a request to the variables of a template.

use std::fmt;

use thiserror::Error;

use super::shape::Shape;
use super::syntax::{self, Part};
use super::{TemplateError, Vars, compile};

/// The path and query of a template, as an endpoint is mounted at it (RFC 9298 §3.1).
///
/// Literals match exactly, also in a final `/` and in how they are percent-encoded. A variable of
/// the path matches within its segment. Fields of the query match by their key, in any order; those
/// of `{?…}` and `{&…}` may be absent, no other field may be present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Vec<Part>,
    shape: Shape,
    text: String,
}

/// What a template says about the target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchOutcome {
    /// The target is not of this template: its path does not start with the literal in front of
    /// the first variable, or a literal field of the query is missing.
    NoMatch,
    /// The target starts like the template but does not expand from it (RFC 9298 §3: 400).
    Malformed(PathError),
    /// The target is of this template.
    Match(Vars),
}

/// Why the target of a request does not expand from a template that it starts like.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathError {
    /// The segments of the path, or the literals in a value, are not those of the template.
    #[error("the path does not have the form of the template")]
    Form,
    /// A variable is present and empty.
    #[error("`{0}` is empty")]
    EmptyValue(String),
    /// A `%` in a variable starts no escape.
    #[error("`{0}` has a `%` without two hexadecimal digits")]
    Percent(String),
    /// A variable's bytes are no text.
    #[error("`{0}` is not UTF-8")]
    NotUtf8(String),
    /// A field of the query is absent that the template always writes.
    #[error("the query has no field `{0}`")]
    MissingField(String),
    /// The query has a field that the template does not, or has one twice.
    #[error("the query has a field that is not in the template, or has one twice")]
    UnexpectedField,
}

impl PathTemplate {
    /// Checks a path and query template, such as `/m{?target_host,target_port}`, by the rules of
    /// RFC 9298 §2, and for having one reading only.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let parts = syntax::parse(template)?;
        syntax::check_no_fragment(&parts)?;
        Ok(Self {
            shape: Shape::Expansion(compile::compile(&parts)?),
            parts,
            text: template.to_owned(),
        })
    }

    /// A path, one segment for each of `variables`, and a final `/`: `udp` becomes
    /// `/udp/{target_host}/{target_port}/`. Without variables it is the path alone: `/echo`.
    ///
    /// Slashes at either end of `prefix` make no difference.
    ///
    /// # Errors
    ///
    /// If `prefix` is not a plain path, or `variables` are not distinct names.
    pub fn from_prefix(prefix: &str, variables: &[&str]) -> Result<Self, TemplateError> {
        let mut template = plain_path(prefix)?;
        for name in variables {
            template.push_str(&format!("/{{{name}}}"));
        }
        if template.is_empty() || !variables.is_empty() {
            template.push('/');
        }
        Self::parse(&template)
    }

    /// A path and all below it: `files` matches `/files` and `/files/a`, not `/files2`. An empty
    /// one matches every path. [`Vars::rest`] tells what follows; the query is ignored.
    ///
    /// Slashes at either end of `prefix` make no difference.
    ///
    /// # Errors
    ///
    /// If `prefix` is not a plain path.
    pub fn prefix(prefix: &str) -> Result<Self, TemplateError> {
        let path = plain_path(prefix)?;
        Ok(Self {
            parts: Vec::new(),
            text: format!("{path}/"),
            shape: Shape::Prefix(path),
        })
    }

    /// The variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        syntax::names(&self.parts)
    }

    /// Checks that each of these variables is in the template.
    ///
    /// # Errors
    ///
    /// [`TemplateError::MissingVariable`] for the first that is not.
    pub fn require(&self, variables: &[&str]) -> Result<(), TemplateError> {
        syntax::check_required(&self.parts, variables)
    }

    /// Matches a `:path`, and percent-decodes each variable once (RFC 9298 §3.1).
    pub fn match_path(&self, path_and_query: &str) -> MatchOutcome {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        match self.shape.capture(path, query) {
            Ok(Some(vars)) => MatchOutcome::Match(vars),
            Ok(None) => MatchOutcome::NoMatch,
            Err(error) => MatchOutcome::Malformed(error),
        }
    }

    /// The length of the literal in front of the first variable, in bytes. Of two templates that
    /// match, the one where this is longer says more about the path.
    pub fn specificity(&self) -> usize {
        match &self.shape {
            Shape::Prefix(path) => path.len(),
            Shape::Expansion(expansion) => expansion.literal.len(),
        }
    }

    /// Whether this matches every path that `later` does, so that `later`, mounted behind it, is
    /// never reached. `false` if in doubt.
    pub fn covers(&self, later: &Self) -> bool {
        self.shape.covers(&later.shape)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `/` and the segments of a plain path, without a final `/`: empty for the root.
fn plain_path(prefix: &str) -> Result<String, TemplateError> {
    let path = prefix.trim_matches('/');
    if path.is_empty() {
        return Ok(String::new());
    }
    let is_literal = matches!(&*syntax::parse(path)?, [Part::Literal(_)]);
    // Clients resolve dot segments before they send a path (RFC 3986 §6.2.2.3).
    let is_plain = path
        .split('/')
        .all(|segment| !["", ".", ".."].contains(&segment) && !segment.contains(['?', '#']));
    if !is_literal || !is_plain {
        return Err(TemplateError::Prefix(prefix.to_owned()));
    }
    Ok(format!("/{path}"))
}
