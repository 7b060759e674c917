//! The smallest thing that is matched.

use percent_encoding::percent_decode_str;

use super::syntax::check_escapes;
use super::{PathError, TemplateError, Vars};

/// Text with at most one expression in it: a segment of a path, or a field of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The literal before the expression, or all of it.
    pub(super) prefix: String,
    /// The expression's variables; empty if there is no expression.
    pub(super) names: Vec<String>,
    /// The literal behind the expression.
    pub(super) suffix: String,
}

impl Pattern {
    /// One variable that may be any text.
    pub(super) fn variable(name: &str) -> Self {
        Self {
            names: vec![name.to_owned()],
            ..Self::default()
        }
    }

    pub(super) fn is_literal(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn push_literal(&mut self, text: &str) {
        if self.is_literal() {
            self.prefix.push_str(text);
        } else {
            self.suffix.push_str(text);
        }
    }

    pub(super) fn push_names(&mut self, names: &[String]) -> Result<(), TemplateError> {
        if !self.is_literal() {
            return Err(TemplateError::Unmatchable(
                "a path segment or query field has two expressions",
            ));
        }
        self.names = names.to_vec();
        Ok(())
    }

    /// Adds the values that `text` gives the variables.
    pub(super) fn capture(&self, text: &str, vars: &mut Vars) -> Result<(), PathError> {
        if self.is_literal() {
            return if text == self.prefix {
                Ok(())
            } else {
                Err(PathError::Form)
            };
        }
        let list = text
            .strip_prefix(&*self.prefix)
            .and_then(|text| text.strip_suffix(&*self.suffix))
            .ok_or(PathError::Form)?;
        let mut values = list.splitn(self.names.len(), ',');
        for name in &self.names {
            let value = values.next().ok_or(PathError::Form)?;
            vars.push(name, decode(name, value)?);
        }
        Ok(())
    }

    /// Whether every text that `other` matches is matched by this, too. `false` if in doubt.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_any_text = self.names.len() == 1 && self.prefix.is_empty() && self.suffix.is_empty();
        // A literal escape may be of bytes that are no text.
        let is_text = (!other.is_literal() || !other.prefix.is_empty())
            && !other.prefix.contains('%')
            && !other.suffix.contains('%');
        if is_any_text && is_text {
            return true;
        }
        self.prefix == other.prefix
            && self.suffix == other.suffix
            && self.names.len() == other.names.len()
    }
}

/// Decodes once: `%253A` is the text `%3A` (RFC 9298 §3.1).
fn decode(name: &str, value: &str) -> Result<String, PathError> {
    if value.is_empty() {
        return Err(PathError::EmptyValue(name.to_owned()));
    }
    if check_escapes(value).is_err() {
        return Err(PathError::Percent(name.to_owned()));
    }
    match percent_decode_str(value).decode_utf8() {
        Ok(value) => Ok(value.into_owned()),
        Err(_) => Err(PathError::NotUtf8(name.to_owned())),
    }
}
