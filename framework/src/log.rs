//! What a program of this project does for its log: events that are one line each, whatever text of a
//! peer is in them, and panics among them.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{Level, error};

/// How much of the text of a panic is shown, in bytes: a plugin may put a peer's into it.
const PANIC_LEN: usize = 256;

/// Writes each event to standard error as one line: a log that a peer can put lines or escape sequences
/// into is no evidence.
///
/// A closure that returns one is a `MakeWriter` of `tracing-subscriber`.
#[derive(Clone, Copy, Debug)]
pub struct OneLine {
    colours: bool,
}

impl OneLine {
    /// `colours` is whether escape sequences are the subscriber's own. Those in values it escapes itself.
    pub fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn escape(self, event: &str) -> String {
        let mut line = String::with_capacity(event.len());
        for c in event.trim_end_matches('\n').chars() {
            match c {
                '\u{1b}' if self.colours => line.push(c),
                c if is_unsafe(c) => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        line.push('\n');
        line
    }
}

impl Write for OneLine {
    /// Takes a whole event: a subscriber formats one into a buffer and writes that at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = self.escape(&String::from_utf8_lossy(event));
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Has panics told by the log, and no longer by the standard library, which would write what they say as
/// it is. Each is one event: the thread, the place in the code, and the text, escaped and at most 256
/// bytes of it. With `RUST_BACKTRACE`, the way there is another event.
///
/// Before there is a log they are a line on standard error.
pub fn panics_to_log() {
    panic::set_hook(Box::new(|info| {
        let text = describe(info);
        // A filter that leaves this module out has left no one to tell it.
        if tracing::dispatcher::has_been_set() && tracing::enabled!(Level::ERROR) {
            error!("{text}");
        } else {
            let _ = writeln!(io::stderr(), "{text}");
        }
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            error!("{}", backtrace.to_string().escape_debug());
        }
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let text = match info.payload_as_str() {
        Some(text) => excerpt(text, PANIC_LEN),
        None => "something that is no text".to_owned(),
    };
    match info.location() {
        Some(place) => format!("panic in thread {thread} at {place}: {text}"),
        None => format!("panic in thread {thread}: {text}"),
    }
}

/// At most so many lines in a minute about what a peer can cause as often as it likes: a log that fills
/// the disk is no help.
#[derive(Debug)]
pub struct Quota {
    lines: u32,
    state: Mutex<Minute>,
}

#[derive(Debug)]
struct Minute {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Quota {
    /// This many lines in a minute.
    pub const fn new(lines: u32) -> Self {
        let state = Minute {
            began: None,
            written: 0,
            left_out: 0,
        };
        Self {
            lines,
            state: Mutex::new(state),
        }
    }

    /// Takes the right to write a line now, and how many have had none since the last one that did.
    pub fn take(&self, now: Instant) -> Option<u64> {
        const MINUTE: Duration = Duration::from_secs(60);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |began| now.saturating_duration_since(began) >= MINUTE;
        if state.began.is_none_or(is_over) {
            (state.began, state.written) = (Some(now), 0);
        }
        if state.written >= self.lines {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

/// The beginning of a text of somebody else's, on one line and `max_len` bytes long at most, not counting
/// the dots that stand for its rest.
pub(crate) fn excerpt(text: &str, max_len: usize) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let before = shown.len();
        match is_unsafe(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
        if shown.len() > max_len {
            shown.truncate(before);
            let _ = write!(shown, "… ({} bytes)", text.len());
            break;
        }
    }
    shown
}

/// What ends a line for somebody, or has a terminal or a reader see another text.
fn is_unsafe(c: char) -> bool {
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let turns_text = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || breaks_lines || turns_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_for_a_minute_and_counts_what_it_leaves_out() {
        let quota = Quota::new(3);
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let taken: Vec<_> = (0..8).map(|second| quota.take(at(second))).collect();
        assert_eq!(taken[..3], [Some(0); 3]);
        assert_eq!(taken[3..], [None; 5]);
        assert_eq!(quota.take(at(59)), None);
        assert_eq!(quota.take(at(60)), Some(6));
        assert_eq!(quota.take(at(61)), Some(0));
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        assert_eq!(
            OneLine::new(false).escape("INFO peer said a\r\nERROR forged\u{1b}[2J\u{9b}31m é\n"),
            "INFO peer said a\\r\\nERROR forged\\u{1b}[2J\\u{9b}31m é\n"
        );
        assert_eq!(
            OneLine::new(false).escape("INFO \u{2028}\u{202e}gnp.exe"),
            "INFO \\u{2028}\\u{202e}gnp.exe\n"
        );
    }

    #[test]
    fn colours_stay_on_a_terminal() {
        assert_eq!(
            OneLine::new(true).escape("\u{1b}[32mINFO\u{1b}[0m a\nb\n"),
            "\u{1b}[32mINFO\u{1b}[0m a\\nb\n"
        );
    }

    #[test]
    fn of_a_text_so_much_is_shown_that_it_keeps_to_its_length() {
        assert_eq!(excerpt("a\nb\u{1b}[2J", 64), "a\\nb\\u{1b}[2J");
        assert_eq!(excerpt(&"x".repeat(256), 256), "x".repeat(256));
        assert_eq!(
            excerpt(&"x".repeat(257), 256),
            format!("{}… (257 bytes)", "x".repeat(256))
        );
        // An escape is never cut, nor is a character.
        assert_eq!(excerpt("abc\u{1b}", 8), "abc… (4 bytes)");
        assert_eq!(excerpt("abé", 3), "ab… (4 bytes)");
    }
}
