//! Who asks. Ways to authenticate come with a later version; until then everybody is anonymous and
//! a mount with a `permission` does not start.

/// The identity behind a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    name: Option<String>,
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The authenticated name, or `None` for an anonymous client.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}
