//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use pasque::auth::{is_name, is_permission, parse_quantity};

/// Serves endpoints over HTTP/3.
#[derive(Debug, Parser)]
#[command(
    name = "psq-server",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Signals: SIGTERM and SIGINT let what is under way end; a second one ends at once. SIGHUP reads the
configuration again.
Log: on standard error, as RUST_LOG says (default: info).
Exit codes: 0 ended as asked, 1 failed or doctor misses something, 2 wrong configuration or usage."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) serve: ServeArguments,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What serving takes.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// The configuration to serve
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) config: Option<PathBuf>,

    /// The address to listen on, instead of the configuration's `listen`
    #[arg(short, long, value_name = "ADDRESS:PORT")]
    pub(crate) address: Option<SocketAddr>,

    /// The number of worker threads, instead of the configuration's `threads`
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// The user to become before anything is opened, instead of the configuration's `user`
    #[arg(short, long, value_name = "NAME[:GROUP]")]
    pub(crate) user: Option<String>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether a configuration can be served, without serving it
    Check {
        /// The configuration to check
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Look whether this host has what a configuration needs, and say what is missing
    Doctor {
        /// The configuration to look at
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Have the running server read its configuration again
    Reload {
        /// The configuration that it serves, which names its `control` socket
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// List the types of endpoint that a configuration may name
    Endpoints,
    /// Make a bearer token, signed with the configuration's `jwt_secret_file`, and print it
    Token(TokenArguments),
    /// Make the hash of a password for a `users_file`, and print it
    ///
    /// The password is read from the terminal without being shown, or from standard input up to the
    /// end of the first line.
    HashPassword(HashArguments),
}

/// What a token is made of.
#[derive(Args, Debug)]
pub(crate) struct TokenArguments {
    /// The configuration whose secret signs
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Whose token it is
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) sub: String,

    /// What it permits, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = permission)]
    pub(crate) permissions: Vec<String>,

    /// How long it is good, such as 8h or 30d
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub(crate) lifetime: Duration,

    /// Tunnels that its owner may have at a time
    #[arg(long, value_name = "NUMBER")]
    pub(crate) tunnels: Option<NonZeroUsize>,

    /// Bits per second that its owner may use, such as 100M
    #[arg(long, value_name = "RATE", value_parser = quantity)]
    pub(crate) rate: Option<u64>,

    /// Bytes that its owner may use in all, such as 10G
    #[arg(long, value_name = "BYTES", value_parser = quantity)]
    pub(crate) volume: Option<u64>,

    /// What a line of the `revoked_file` calls it [default: 32 random digits]
    #[arg(long, value_name = "ID", value_parser = name)]
    pub(crate) id: Option<String>,
}

/// What the entry of a user is made of.
#[derive(Args, Debug)]
pub(crate) struct HashArguments {
    /// Print the whole entry of this user instead
    #[arg(long, value_name = "NAME", value_parser = user)]
    pub(crate) user: Option<String>,

    /// What the user may, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = permission, requires = "user")]
    pub(crate) permissions: Vec<String>,
}

fn name(text: &str) -> Result<String, &'static str> {
    match is_name(text) {
        true => Ok(text.into()),
        false => Err("expected 1 to 255 bytes without control characters"),
    }
}

fn user(text: &str) -> Result<String, &'static str> {
    match text.contains(':') {
        true => Err("expected a name without colons (RFC 7617)"),
        false => name(text),
    }
}

fn permission(text: &str) -> Result<String, &'static str> {
    match is_permission(text) {
        true => Ok(text.into()),
        false => Err("expected 1 to 64 letters, digits, \"-\", \".\", \"_\" or \":\""),
    }
}

fn quantity(text: &str) -> Result<u64, &'static str> {
    parse_quantity(text).ok_or("expected a whole number above 0, with k, M, G or T if wanted")
}

fn lifetime(text: &str) -> Result<Duration, &'static str> {
    let lifetime = humantime::parse_duration(text).ok();
    lifetime
        .filter(|lifetime| *lifetime >= Duration::from_secs(1))
        .ok_or("expected a time of a second or more, such as 90m, 8h or 30d")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(words.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serving_takes_a_configuration() {
        let arguments = parse("psq-server -c server.json -a [::1]:4433 -t 2").unwrap();
        assert_eq!(
            arguments.serve.config.unwrap().to_str(),
            Some("server.json")
        );
        assert_eq!(arguments.serve.address.unwrap().port(), 4433);
        assert_eq!(arguments.serve.threads.unwrap().get(), 2);
        for wrong in [
            "psq-server",
            "psq-server -a 127.0.0.1:1",
            "psq-server -c f -t 0",
            "psq-server -c f -a localhost",
            "psq-server -c f endpoints",
            "psq-server check",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn subcommands_need_nothing_else() {
        assert!(matches!(
            parse("psq-server endpoints").unwrap().command,
            Some(Command::Endpoints)
        ));
        assert!(matches!(
            parse("psq-server check -c f").unwrap().command,
            Some(Command::Check { .. })
        ));
        assert!(matches!(
            parse("psq-server doctor -c f").unwrap().command,
            Some(Command::Doctor { .. })
        ));
        assert!(matches!(
            parse("psq-server reload -c f").unwrap().command,
            Some(Command::Reload { .. })
        ));
    }

    #[test]
    fn a_token_is_made_of_what_was_written() {
        let words = "psq-server token -c f --sub alice --permissions vpn,udp --lifetime 8h \
            --tunnels 3 --rate 100M --volume 10G --id 7";
        let Some(Command::Token(token)) = parse(words).unwrap().command else {
            panic!("{words}")
        };
        assert_eq!(token.sub, "alice");
        assert_eq!(token.permissions, ["vpn", "udp"]);
        assert_eq!(token.lifetime, Duration::from_secs(8 * 3600));
        assert_eq!(token.tunnels, NonZeroUsize::new(3));
        assert_eq!(token.rate, Some(100_000_000));
        assert_eq!(token.volume, Some(10_000_000_000));
        assert_eq!(token.id.as_deref(), Some("7"));
        for wrong in [
            "psq-server token -c f --sub a",
            "psq-server token --sub a --lifetime 1h",
            "psq-server token -c f --lifetime 1h",
            "psq-server token -c f --sub a --lifetime 0s",
            "psq-server token -c f --sub a --lifetime soon",
            "psq-server token -c f --sub a --lifetime 1h --permissions vpn,,udp",
            "psq-server token -c f --sub a --lifetime 1h --rate 0",
            "psq-server token -c f --sub a --lifetime 1h --tunnels 0",
            "psq-server hash-password --user a:b",
            "psq-server hash-password --permissions vpn",
            "psq-server hash-password secret",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
