//! How a run ends: the exit codes, and failures with the line that explains them.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use http::{HeaderMap, StatusCode, header};
use pasque::connection::ClientError;
use pasque::proxy_status::Summary;

/// The exit codes. Scripts depend on them: numbers are added, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done, or the user ended it.
    Done = 0,
    /// The operating system refused something.
    Failed = 1,
    /// The command line or the file named by `-c` makes no sense.
    Usage = 2,
    /// No connection came about.
    NoConnection = 3,
    /// The server refused, or its answer is of no use.
    Refused = 4,
    /// There was a connection, or an IP tunnel, and it ended.
    Lost = 5,
    /// A file did not arrive whole.
    Incomplete = 6,
}

impl Exit {
    const ALL: [Self; 7] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NoConnection,
        Self::Refused,
        Self::Lost,
        Self::Incomplete,
    ];

    fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or ended by SIGINT or SIGTERM",
            Self::Failed => "a file, a socket or an interface of this machine failed",
            Self::Usage => "wrong usage or configuration",
            Self::NoConnection => "no connection: unreachable, or its certificate was refused",
            Self::Refused => "the server refused, or its answer is unusable",
            Self::Lost => "the connection, or an IP tunnel, was lost",
            Self::Incomplete => "a download is incomplete, cannot be checked, or was interrupted",
        }
    }

    /// The table at the end of `--help`.
    pub(crate) fn help() -> String {
        let rows = Self::ALL.map(|exit| format!("  {}  {}", exit as u8, exit.meaning()));
        format!("Exit codes:\n{}", rows.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong: one line that says what happened, to what, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code it leads to.
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The operating system refused to do something with `subject`.
    pub(crate) fn local(subject: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{subject}: {error}"))
    }

    /// The server answered a request for `subject` with a status outside 2xx.
    pub(crate) fn refused(subject: &str, status: StatusCode, headers: &HeaderMap) -> Self {
        Self::from_client(subject, &ClientError::refused(status, headers.clone()))
    }

    /// What `error` means for a run, when it happened to `subject`.
    pub(crate) fn from_client(subject: &str, error: &ClientError) -> Self {
        let (exit, advice) = match error {
            ClientError::Unreachable { .. } => (
                Exit::NoConnection,
                "check the address, that the server runs, and that UDP reaches it".into(),
            ),
            ClientError::Tls(_) => (
                Exit::NoConnection,
                "if you trust this server, name its certificate with --pin or its authority with \
                 --ca"
                    .into(),
            ),
            ClientError::NoExtendedConnect => (
                Exit::Refused,
                "name a server that offers tunnels over HTTP/3".into(),
            ),
            ClientError::Refused {
                status,
                proxy_status,
                headers,
            } => (
                Exit::Refused,
                advice(*status, proxy_status.as_deref(), headers),
            ),
            ClientError::Malformed(_) => (Exit::Refused, "tell whoever runs the server".into()),
            ClientError::Reset(_) => (Exit::Refused, "the server's log may say why".into()),
            ClientError::Timeout => (Exit::Lost, "try again, or raise --timeout".into()),
            ClientError::Closed(_) => (Exit::Lost, "run the same command again".into()),
            ClientError::Io(_) => (Exit::Failed, String::new()),
            // The enum may grow; its text still says what happened.
            _ => (Exit::Failed, String::new()),
        };
        let separator = if advice.is_empty() { "" } else { "; " };
        Self::new(
            exit,
            match error {
                // It names the server itself.
                ClientError::Unreachable { .. } => format!("{error}{separator}{advice}"),
                _ => format!("{subject}: {error}{separator}{advice}"),
            },
        )
    }

    /// Adds what else the user should know.
    #[must_use]
    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        self.message = format!("{}; {advice}", self.message);
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Writes the line and returns the exit code.
    pub(crate) fn report(&self) -> Exit {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr(), "psq-client: {self}");
        self.exit
    }
}

impl From<clap::Error> for Failure {
    /// What is wrong with the command line, without the paragraphs that clap adds to it.
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let lines = text
            .lines()
            .take_while(|line| !line.is_empty())
            .map(str::trim);
        let what = lines.collect::<Vec<_>>().join(" ");
        let what = what.strip_prefix("error: ").unwrap_or(&what);
        Self::usage(format!("{what}; see psq-client --help"))
    }
}

impl fmt::Display for Failure {
    /// One line, whatever a server put into it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// What to do about a refusal. A proxy that says why is more precise than the status.
fn advice(status: StatusCode, proxy_status: Option<&Summary>, headers: &HeaderMap) -> String {
    let error = proxy_status.and_then(|summary| summary.error.as_deref());
    let text = match (error, status.as_u16()) {
        (Some("destination_ip_prohibited" | "http_request_denied"), _) => {
            "the server's policy refuses this target"
        }
        (Some("dns_error" | "dns_timeout"), _) => "the server cannot resolve the target's name",
        (Some("destination_ip_unroutable" | "destination_not_found"), _) => {
            "the server has no route to the target"
        }
        (Some("connection_refused" | "connection_timeout" | "connection_terminated"), _) => {
            "the target does not answer the server"
        }
        (_, 401 | 407) => "give credentials with --header 'authorization: …', best in a -c file",
        (_, 403) => "what you ask for is not permitted to you",
        (_, 404 | 410) => "nothing is served there: check the path or the template",
        (_, 405 | 501) => {
            "another kind of service is mounted there: check the path or the template"
        }
        (_, 416) => "the server has less than was downloaded before",
        (_, 421) => "the server does not answer to this name: check --destination",
        (_, 429 | 503) => "the server is busy: try again later",
        (_, 300..=399) => return redirect(headers),
        (_, 500..) => "the server failed: its log says why",
        _ => "check what was asked for",
    };
    text.into()
}

fn redirect(headers: &HeaderMap) -> String {
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    match location {
        Some(location) => {
            let shown: String = location.chars().take(256).collect();
            format!("redirects are not followed: ask for {shown:?} if that is what you want")
        }
        None => "redirects are not followed".into(),
    }
}

#[cfg(test)]
mod tests;
