//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Serves endpoints over HTTP/3.
#[derive(Debug, Parser)]
#[command(
    name = "psq-server",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Signals: SIGTERM and SIGINT let what is under way end; a second one ends at once.
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
    /// List the types of endpoint that a configuration may name
    Endpoints,
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
    }
}
