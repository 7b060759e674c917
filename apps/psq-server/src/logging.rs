//! The log: lines on standard error.

use std::env;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged when `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info";

/// Starts logging, as `RUST_LOG` says.
///
/// # Errors
/// What is wrong with `RUST_LOG`. The value is not repeated: it may be long.
pub(crate) fn start() -> Result<(), String> {
    let filter = match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) => EnvFilter::try_new(directives),
        Err(env::VarError::NotPresent) => EnvFilter::try_new(DEFAULT_FILTER),
        Err(env::VarError::NotUnicode(_)) => return Err("RUST_LOG is not valid UTF-8".into()),
    };
    let filter = filter.map_err(|error| format!("RUST_LOG: {error}"))?;
    // https://no-color.org: any value but the empty one.
    let colour_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = io::stderr().is_terminal() && !colour_refused;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(OneLine { colours })
        .try_init()
        .map_err(|error| format!("cannot start logging: {error}"))
}

/// Writes each event as one line, whatever text of a peer it holds: a log that a peer can put
/// lines or escape sequences into is no evidence.
#[derive(Clone, Copy, Debug)]
struct OneLine {
    /// Whether escape sequences are ours. Those in values are escaped before they get here.
    colours: bool,
}

impl OneLine {
    fn escape(self, event: &str) -> String {
        let mut line = String::with_capacity(event.len());
        for c in event.trim_end_matches('\n').chars() {
            match c {
                '\u{1b}' if self.colours => line.push(c),
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        line.push('\n');
        line
    }
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl Write for OneLine {
    /// Takes a whole event: the subscriber formats one into a buffer and writes that at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = self.escape(&String::from_utf8_lossy(event));
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let plain = OneLine { colours: false };
        assert_eq!(
            plain.escape("INFO peer said a\r\nERROR forged\u{1b}[2J\u{9b}31m é\n"),
            "INFO peer said a\\r\\nERROR forged\\u{1b}[2J\\u{9b}31m é\n"
        );
    }

    #[test]
    fn colours_stay_on_a_terminal() {
        let terminal = OneLine { colours: true };
        assert_eq!(
            terminal.escape("\u{1b}[32mINFO\u{1b}[0m a\nb\n"),
            "\u{1b}[32mINFO\u{1b}[0m a\\nb\n"
        );
    }
}
