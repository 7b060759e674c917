//! [`Finding`]: what `psq-server doctor` says about the host that an endpoint is to run on.

use std::fmt;

/// One thing that an endpoint needs of its host, and whether it is there.
///
/// Displayed as a line that starts with `ok`, `MISSING` or `unknown`, and a second line with the
/// command if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `IPv4 forwarding`.
    pub subject: String,
    /// What it is like.
    pub verdict: Verdict,
}

/// What a [`Finding`] comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the endpoint needs it.
    Fine {
        /// What was found.
        found: String,
    },
    /// Not as the endpoint needs it.
    Missing {
        /// What was found, and what does not work for it.
        found: String,
        /// The one command that changes it, if there is one.
        command: Option<String>,
    },
    /// It could not be looked at.
    Unknown {
        /// Why not.
        reason: String,
    },
}

impl Finding {
    /// `subject` is as it should be.
    pub fn fine(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict: Verdict::Fine {
                found: found.into(),
            },
        }
    }

    /// `subject` is not as it should be; `command` changes that.
    pub fn missing(
        subject: impl Into<String>,
        found: impl Into<String>,
        command: Option<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            verdict: Verdict::Missing {
                found: found.into(),
                command,
            },
        }
    }

    /// `subject` could not be looked at.
    pub fn unknown(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict: Verdict::Unknown {
                reason: reason.into(),
            },
        }
    }

    /// Whether something has to be done.
    pub fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::Missing { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.verdict {
            Verdict::Fine { found } => ("ok     ", found),
            Verdict::Missing { found, .. } => ("MISSING", found),
            Verdict::Unknown { reason } => ("unknown", reason),
        };
        write!(f, "{mark}  {}: {text}", self.subject)?;
        match &self.verdict {
            Verdict::Missing {
                command: Some(command),
                ..
            } => write!(f, "\n         {command}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_is_missing_has_its_command_below() {
        let fine = Finding::fine("forwarding", "on");
        assert_eq!(fine.to_string(), "ok       forwarding: on");
        let command = Some("sysctl -w net.ipv4.ip_forward=1".to_owned());
        let missing = Finding::missing("forwarding", "off", command);
        assert_eq!(
            missing.to_string(),
            "MISSING  forwarding: off\n         sysctl -w net.ipv4.ip_forward=1"
        );
        assert!(missing.is_missing() && !fine.is_missing());
    }
}
