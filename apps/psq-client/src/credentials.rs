//! What the client shows the server, and where that comes from: never the command line, which others
//! on this machine can read.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write, pipe};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

use pasque::Credentials;
use pasque_h3::ClientKeyPair;

use crate::arguments::Options;
use crate::exit::Failure;
use crate::secret;

/// The environment variable that a token is looked for in, unless credentials are named.
const TOKEN_VARIABLE: &str = "PSQ_TOKEN";

/// In place of a token or of a file's name: standard input.
const STANDARD_INPUT: &str = "-";

/// Where credentials come from. What is in a file is read again for each connection: tokens are renewed.
#[derive(Clone)]
pub(crate) enum CredentialSource {
    /// There are none.
    Nothing,
    /// They were given once.
    Given(Credentials),
    /// A token in a file.
    TokenFile(PathBuf),
    /// The password of a user, in a file.
    PasswordFile(String, PathBuf),
}

impl CredentialSource {
    /// Makes sense of the options about it, and reads what can be read only once.
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let named = [
            ("--token", options.token.is_some()),
            ("--token-file", options.token_file.is_some()),
            ("--user", options.user.is_some()),
        ];
        let mut named = named.iter().filter(|(_, is_named)| *is_named);
        if let (Some((first, _)), Some((second, _))) = (named.next(), named.next()) {
            return Err(Failure::usage(format!(
                "{first} and {second} exclude each other: keep one"
            )));
        }
        if options.password_file.is_some() && options.user.is_none() {
            return Err(wrong(
                "password-file",
                "is the password of --user: give both",
            ));
        }
        let source = match (&options.token, &options.token_file, &options.user) {
            (Some(place), _, _) => Self::Given(token_from(place)?),
            (_, Some(file), _) => Self::TokenFile(file.clone()),
            (_, _, Some(user)) => user_with_password(user, options.password_file.as_deref())?,
            (None, None, None) => match env::var_os(TOKEN_VARIABLE) {
                Some(value) => Self::Given(token_in(TOKEN_VARIABLE, value)?),
                None => Self::Nothing,
            },
        };
        // Found out now, a mistake is one of usage.
        source.read().map(|_| source)
    }

    /// The credentials for the next connection.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn read(&self) -> Result<Option<Credentials>, Failure> {
        match self {
            Self::Nothing => Ok(None),
            Self::Given(credentials) => Ok(Some(credentials.clone())),
            Self::TokenFile(file) => {
                let text = secret::from_file(file).map_err(|error| wrong("token-file", error))?;
                let credentials = Credentials::bearer(&text);
                let in_file = |error| format!("{}: {error}", file.display());
                let credentials = credentials.map_err(|error| wrong("token-file", in_file(error)));
                credentials.map(Some)
            }
            Self::PasswordFile(user, file) => {
                let password = secret::from_file(file);
                let password = password.map_err(|error| wrong("password-file", error))?;
                basic(user, &password).map(Some)
            }
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialSource")
    }
}

fn wrong(option: &str, error: impl fmt::Display) -> Failure {
    Failure::usage(format!("--{option}: {error}"))
}

fn user_with_password(user: &str, file: Option<&Path>) -> Result<CredentialSource, Failure> {
    match file {
        Some(file) if file.as_os_str() != STANDARD_INPUT => {
            let (user, file) = (user.to_owned(), file.to_owned());
            Ok(CredentialSource::PasswordFile(user, file))
        }
        _ => {
            let password = secret::from_standard_input(&format!("Password of {user}"));
            let password = password.map_err(|error| Failure::local("standard input", &error))?;
            basic(user, &password).map(CredentialSource::Given)
        }
    }
}

fn basic(user: &str, password: &str) -> Result<Credentials, Failure> {
    Credentials::basic(user, password).map_err(|error| wrong("user", error))
}

fn token_from(place: &str) -> Result<Credentials, Failure> {
    if place == STANDARD_INPUT {
        return token_from_standard_input("--token");
    }
    let Some(name) = place.strip_prefix("env:") else {
        // Not repeated: it may be the token.
        return Err(wrong(
            "token",
            "is - or env:NAME. Others on this machine can read a command line: if that was the token, \
             have it revoked, and give the next one with --token-file",
        ));
    };
    match env::var_os(name) {
        Some(value) => token_in(name, value),
        None => Err(wrong("token", format!("the environment has no {name}"))),
    }
}

/// The token that is the value of an environment variable, unless it says that it is elsewhere.
fn token_in(variable: &str, value: OsString) -> Result<Credentials, Failure> {
    if value == STANDARD_INPUT {
        return token_from_standard_input(variable);
    }
    let wrong = |error: &dyn fmt::Display| Failure::usage(format!("{variable}: {error}"));
    let value = value.into_string().map_err(|_| wrong(&"is not UTF-8"))?;
    Credentials::bearer(&value).map_err(|error| wrong(&error))
}

fn token_from_standard_input(name: &str) -> Result<Credentials, Failure> {
    let text = secret::from_standard_input("Token");
    let text = text.map_err(|error| Failure::local("standard input", &error))?;
    Credentials::bearer(&text).map_err(|error| Failure::usage(format!("{name}: {error}")))
}

/// Takes a token out of the environment of this process, where its user's other processes could read it
/// for as long as it runs: replaces the program by itself, with the token on standard input. Returns
/// if there is none.
///
/// # Errors
/// What the operating system says.
pub(crate) fn leave_environment(options: &Options) -> Result<(), Failure> {
    let is_default = options.token_file.is_none() && options.user.is_none();
    let name = match &options.token {
        Some(place) => place.strip_prefix("env:"),
        None => is_default.then_some(TOKEN_VARIABLE),
    };
    let Some((name, token)) = name.and_then(|name| Some((name, env::var_os(name)?))) else {
        return Ok(());
    };
    // Checked first: a pipe takes this much without a reader.
    if token == STANDARD_INPUT || token_in(name, token.clone()).is_err() {
        return Ok(());
    }
    let replaced = replace(name, token.as_encoded_bytes());
    Err(Failure::local(format!("hiding {name}"), &replaced))
}

/// Starts this program in place of itself. Returns only with an error.
fn replace(variable: &str, token: &[u8]) -> io::Error {
    let (reader, mut writer) = match pipe() {
        Ok(ends) => ends,
        Err(error) => return error,
    };
    if let Err(error) = writer.write_all(token) {
        return error;
    }
    drop(writer);
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = env::args_os();
    let mut command = process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command
        .args(arguments)
        .env(variable, STANDARD_INPUT)
        .stdin(reader)
        .exec()
}

/// The client's certificate, if the options name one.
///
/// # Errors
/// What is wrong with which file.
pub(crate) fn key_pair(options: &Options) -> Result<Option<ClientKeyPair>, Failure> {
    let (cert_file, key_file) = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        (None, None) => return Ok(None),
        _ => return Err(Failure::usage("--cert and --key go together: give both")),
    };
    let key = std::fs::File::open(&key_file);
    let key = key.map_err(|error| wrong("key", format!("{}: {error}", key_file.display())))?;
    secret::check_mode(&key_file, &key).map_err(|error| wrong("key", error))?;
    let pair = ClientKeyPair {
        cert_file,
        key_file,
    };
    pair.check().map_err(|error| wrong("cert", error))?;
    Ok(Some(pair))
}

#[cfg(test)]
mod tests;
