//! `psq-server token` and `psq-server hash-password`: what the files of `auth` need from time to time.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};

use pasque::auth::{Grant, IdentityLimits, hash_password};
use pasque::config::ServerConfig;

use crate::arguments::{HashArguments, TokenArguments};
use crate::{Failure, print};

/// The longest line that is read as a password, in bytes.
const PASSWORD_MAX_LEN: u64 = 4096;

/// Prints a token, and nothing else.
pub(crate) fn token(arguments: TokenArguments) -> Result<(), Failure> {
    let config = ServerConfig::load(&arguments.config)?;
    let asked_for = |permission: &String| {
        let mut endpoints = config.endpoints.iter();
        endpoints.any(|endpoint| endpoint.permissions.contains(permission))
    };
    for permission in arguments.permissions.iter().filter(|name| !asked_for(name)) {
        // It may be for a configuration to come.
        let warning = format!("no endpoint asks for the permission {permission:?}");
        let _ = writeln!(io::stderr(), "psq-server: warning: {warning}");
    }
    let id = arguments
        .id
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let token = config.sign_token(&Grant {
        name: arguments.sub,
        permissions: arguments.permissions,
        lifetime: arguments.lifetime,
        limits: IdentityLimits {
            tunnels: arguments.tunnels.map(Into::into),
            rate: arguments.rate,
            volume: arguments.volume,
        },
        id,
    })?;
    print(&format!("{token}\n"))
}

/// Prints the hash of a password that is read, or the entry of a users file around it.
pub(crate) fn hash(arguments: &HashArguments) -> Result<(), Failure> {
    let password = read_password()?;
    let hash = hash_password(&password).map_err(Failure::Runtime)?;
    let Some(user) = &arguments.user else {
        return print(&format!("{hash}\n"));
    };
    let mut permissions = String::new();
    for permission in &arguments.permissions {
        let separator = if permissions.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(permissions, "{separator}\"{permission}\"");
    }
    // What is a name holds no control characters, so these two are all that JSON escapes.
    let user = user.replace('\\', "\\\\").replace('"', "\\\"");
    print(&format!(
        "{{\n  \"{user}\": {{ \"hash\": \"{hash}\", \"permissions\": [{permissions}] }}\n}}\n"
    ))
}

/// Reads a password from the terminal, twice and without showing it, or the first line of what is
/// piped in.
fn read_password() -> Result<String, Failure> {
    let refuse = |error: io::Error| Failure::Runtime(format!("cannot read the password: {error}"));
    let password = if io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ").map_err(refuse)?;
        let again = rpassword::prompt_password("Again: ").map_err(refuse)?;
        if password != again {
            return Err(Failure::Runtime("the two passwords differ".into()));
        }
        password
    } else {
        let mut line = String::new();
        io::Read::take(io::stdin().lock(), PASSWORD_MAX_LEN)
            .read_line(&mut line)
            .map_err(refuse)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() {
        return Err(Failure::Runtime("the password is empty".into()));
    }
    if password.contains(char::is_control) {
        let message = "the password holds control characters, which RFC 7617 does not allow";
        return Err(Failure::Runtime(message.into()));
    }
    Ok(password)
}
