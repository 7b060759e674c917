//! What a matched request target says.

/// The variables of a matched [`PathTemplate`](super::PathTemplate), decoded, in the order of the
/// template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vars {
    values: Vec<(String, String)>,
    rest: Option<String>,
}

impl Vars {
    pub(super) fn from_rest(rest: &str) -> Self {
        Self {
            values: Vec::new(),
            rest: Some(rest.to_owned()),
        }
    }

    pub(super) fn push(&mut self, name: &str, value: String) {
        self.values.push((name.to_owned(), value));
    }

    /// The value of a variable, percent-decoded once. `None` if the request leaves it out.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// What follows a [prefix](super::PathTemplate::prefix) in the path: empty, or from its `/` on,
    /// not decoded. `None` if the template is not a prefix.
    pub fn rest(&self) -> Option<&str> {
        self.rest.as_deref()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Vars {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(values: I) -> Self {
        Self {
            values: values
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            rest: None,
        }
    }
}
