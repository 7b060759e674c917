//! Reading secrets from where others cannot: files of the user's own, standard input, the terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::runtime;

use crate::signals::Signals;

/// Permissions of anyone but the owner.
const OTHERS: u32 = 0o077;

/// More than any secret has, in bytes: whatever is longer is another file than the one that was meant.
const MAX_LEN: u64 = 64 << 10;

/// The content of a file that nobody else may read, without the end of its last line.
///
/// # Errors
/// What is wrong with the file, which is named.
pub(crate) fn from_file(path: &Path) -> Result<String, String> {
    let in_file = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(in_file)?;
    check_mode(path, &file)?;
    read(file).map_err(in_file)
}

/// Whether only the owner may read the open file `file`, which was found at `path`. A pipe is whose it
/// is handed to.
///
/// # Errors
/// The mode, and what to do about it.
pub(crate) fn check_mode(path: &Path, file: &File) -> Result<(), String> {
    let name = path.display();
    let found = file
        .metadata()
        .map_err(|error| format!("{name}: {error}"))?;
    let mode = found.permissions().mode() & 0o777;
    match found.is_file() && mode & OTHERS != 0 {
        true => Err(format!(
            "{name} has mode {mode:04o}, expected 0600: run `chmod 600 {name}`"
        )),
        false => Ok(()),
    }
}

/// All of standard input, without the end of its last line. On a terminal, one line after `prompt`,
/// which is not shown.
///
/// # Errors
/// What the operating system says, or that there is too much of it.
pub(crate) fn from_standard_input(prompt: &str) -> io::Result<String> {
    match io::stdin().is_terminal() {
        true => from_terminal(prompt),
        false => read(io::stdin().lock()),
    }
}

fn read(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(MAX_LEN + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LEN {
        return Err(io::Error::other("too long for a secret"));
    }
    strip_newline(&mut text);
    Ok(text)
}

fn strip_newline(text: &mut String) {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
}

fn from_terminal(prompt: &str) -> io::Result<String> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let line = runtime.block_on(line_unless_interrupted(prompt));
    // The terminal is still being read after a signal.
    runtime.shutdown_background();
    line
}

/// One line from the terminal. A signal that would end the program is an error: the terminal stays
/// behind and has to show again what is typed.
async fn line_unless_interrupted(prompt: &str) -> io::Result<String> {
    let mut signals = Signals::new()?;
    let _silence = Silence::begin()?;
    let mut out = io::stderr();
    write!(out, "{prompt}: ")?;
    out.flush()?;
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = typed => line.map_err(io::Error::other)?,
        () = signals.next() => Err(io::Error::other("interrupted")),
    };
    // The user's own line end was not shown either.
    writeln!(out)?;
    let mut line = line?;
    strip_newline(&mut line);
    Ok(line)
}

/// The terminal at standard input, while it does not show what is typed.
struct Silence(rustix::termios::Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(permissions).unwrap();
        file
    }

    #[test]
    fn a_file_is_read_if_it_is_the_users_own() {
        for (content, secret) in [("s3cret\n", "s3cret"), ("s\r\n", "s"), (" s \n\n", " s \n")] {
            let file = file(content.as_bytes(), 0o600);
            assert_eq!(from_file(file.path()).unwrap(), secret);
        }
        for mode in [0o640, 0o604, 0o660] {
            let file = file(b"s3cret", mode);
            let error = from_file(file.path()).unwrap_err();
            assert!(
                error.contains("chmod 600") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let long = file(&vec![b'x'; 1 + MAX_LEN as usize], 0o600);
        assert!(from_file(long.path()).is_err());
        let binary = file(&[0xff], 0o600);
        assert!(from_file(binary.path()).is_err());
        assert!(from_file(Path::new("/nonexistent")).is_err());
    }
}
