//! How a run ends: the exit codes, and failures with the line that explains them.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use pasque::connection::{ClientError, CloseReason};
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
    /// The server does not know who asks, or does not permit it to whom it knows.
    Denied = 7,
}

impl Exit {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NoConnection,
        Self::Refused,
        Self::Lost,
        Self::Incomplete,
        Self::Denied,
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
            Self::Denied => {
                "the server wants credentials, or does not permit this with those given"
            }
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
    /// What to do about it; empty where the message says it.
    advice: String,
    /// Whether another connection would not do better.
    is_final: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: String::new(),
            is_final: false,
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
                exit_of(*status, proxy_status.as_deref()),
                advice(*status, proxy_status.as_deref(), headers),
            ),
            ClientError::Malformed(_) => (Exit::Refused, "tell whoever runs the server".into()),
            ClientError::Reset(_) => (Exit::Refused, "the server's log may say why".into()),
            ClientError::Timeout => (Exit::Lost, "try again, or raise --timeout".into()),
            ClientError::Closed(CloseReason::PeerError(code, _)) if is_about_certificate(*code) => {
                (
                    Exit::Denied,
                    "the server refuses this client's certificate: see --cert and --key".into(),
                )
            }
            ClientError::Closed(_) => (Exit::Lost, "run the same command again".into()),
            ClientError::Io(_) => (Exit::Failed, String::new()),
            // The enum may grow; its text still says what happened.
            _ => (Exit::Failed, String::new()),
        };
        let message = match error {
            // It names the server itself.
            ClientError::Unreachable { .. } => error.to_string(),
            _ => format!("{subject}: {error}"),
        };
        Self {
            exit,
            message,
            advice,
            // A server that breaks the protocol is broken, or means harm.
            is_final: matches!(error, ClientError::Malformed(_)),
        }
    }

    /// What happened, on one line, for whoever has nothing to do about it.
    pub(crate) fn cause(&self) -> impl fmt::Display {
        OneLine(&self.message)
    }

    /// Adds what else the user should know.
    #[must_use]
    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        if !self.advice.is_empty() {
            self.advice.push_str("; ");
        }
        self.advice.push_str(advice);
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same, and nothing is to be gained by trying again.
    #[must_use]
    pub(crate) fn for_good(self) -> Self {
        Self {
            is_final: true,
            ..self
        }
    }

    /// Whether another connection may do better, though with the same credentials.
    pub(crate) fn may_pass(&self) -> bool {
        !self.is_final && matches!(self.exit, Exit::Lost | Exit::NoConnection | Exit::Refused)
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(&self.message).fmt(f)?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => write!(f, "; {}", OneLine(advice)),
        }
    }
}

/// A text on one line, whatever a server put into it.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

/// A refusal of whoever asks is one thing, of what was asked for another. A proxy that gives a reason
/// speaks of the target.
fn exit_of(status: StatusCode, proxy_status: Option<&Summary>) -> Exit {
    let has_reason = proxy_status.is_some_and(|summary| summary.error.is_some());
    match status.as_u16() {
        401 | 407 => Exit::Denied,
        403 if !has_reason => Exit::Denied,
        _ => Exit::Refused,
    }
}

/// Whether a connection was closed with a TLS alert about the client's certificate (RFC 8446 §6.2): as a
/// QUIC error, 0x100 is added (RFC 9001 §4.8). TLS 1.3 has them after the handshake.
fn is_about_certificate(code: u64) -> bool {
    matches!(code.checked_sub(0x100), Some(42..=46 | 48 | 49 | 116))
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
        (_, 401 | 407) => return credentials(headers),
        (_, 403) => {
            "this is not permitted to whom your credentials name: ask whoever runs the server"
        }
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

/// What to do about a challenge (RFC 9110 §11.6.1), which says what is wrong with the credentials.
fn credentials(headers: &HeaderMap) -> String {
    let fields = [header::WWW_AUTHENTICATE, header::PROXY_AUTHENTICATE];
    let challenges = fields.iter().flat_map(|name| headers.get_all(name));
    let is_invalid = |value: &HeaderValue| {
        // RFC 6750 §3.1.
        let text = value.to_str().unwrap_or_default();
        text.contains("invalid_token")
    };
    let text = match challenges.into_iter().any(is_invalid) {
        true => "the token is not valid, or no longer: get another for --token-file",
        false => "give credentials that it takes: --token-file, --user, or --cert with --key",
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
