//! The command line, and the file that may hold the same options.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::exit::{Exit, Failure};

/// Opens UDP tunnels through a server, or downloads files from it, over HTTP/3.
#[derive(Parser)]
#[command(name = "psq-client", version, after_help = Exit::help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) options: Options,

    /// Take options from this JSON file; those given here win
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do instead of opening tunnels.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Download files
    Get(Get),
}

/// What `get` takes.
#[derive(Args)]
pub(crate) struct Get {
    /// What to download, such as /files/picture.png; goes into a file of the same name
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<String>,

    /// The file to write, - for standard output; with one PATH only
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// What the command line and the file have in common: a long option and a key have the same name.
///
/// Not `Debug`: `header` holds secrets.
#[derive(Args, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// The server; the port is 443 unless given
    #[arg(short, long, value_name = "https://HOST[:PORT]", global = true)]
    pub(crate) destination: Option<String>,

    /// Forward a local UDP port to a target that the server reaches; repeatable.
    /// Without any: 127.0.0.1:9000 of the server, on a free local port
    #[arg(short, long, value_name = "[ADDRESS:PORT=]HOST:PORT")]
    pub(crate) udp: Vec<String>,

    /// Open an IP tunnel (not in this version)
    #[arg(short, long)]
    pub(crate) ip: bool,

    /// The URI template of a UDP proxy that has another than the default one
    #[arg(long, value_name = "https://…/{target_host}/{target_port}/")]
    pub(crate) template: Option<String>,

    /// Trust the authorities in this PEM file, instead of the system's
    #[arg(long, value_name = "FILE", global = true, group = "trust")]
    pub(crate) ca: Option<PathBuf>,

    /// Trust the one certificate whose DER form has this digest, and no other
    #[arg(long, value_name = "SHA256", global = true, group = "trust")]
    pub(crate) pin: Option<String>,

    /// Trust any certificate: whoever is on the way can read and change everything
    #[arg(long, global = true, group = "trust")]
    pub(crate) ignore_cert: bool,

    /// Add a field to every request; repeatable. Others on this machine can read a command line:
    /// credentials are better kept in a -c file
    #[arg(long, value_name = "NAME: VALUE", global = true)]
    pub(crate) header: Vec<String>,

    /// Give up when the server says nothing for this long while it is asked for something
    /// [default: 10]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub(crate) timeout: Option<NonZeroU32>,
}

impl Options {
    /// Reads a file of options. Relative paths in it start in its own folder.
    pub(crate) fn load(file: &Path) -> Result<Self, Failure> {
        let refuse = |what: String| Failure::usage(format!("{}: {what}", file.display()));
        let text = fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
        let mut options: Self =
            serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        options.ca = options.ca.map(|ca| folder.join(ca));
        Ok(options)
    }

    /// Takes from `file` what these options do not say. What belongs together stays together: a
    /// list is replaced, not extended, and one way to trust replaces any other.
    #[must_use]
    pub(crate) fn or(self, file: Self) -> Self {
        let list = |own: Vec<String>, other| if own.is_empty() { other } else { own };
        let trust = if self.ca.is_some() || self.pin.is_some() || self.ignore_cert {
            (self.ca, self.pin, self.ignore_cert)
        } else {
            (file.ca, file.pin, file.ignore_cert)
        };
        let (destination, template) = match (self.destination, self.template) {
            (None, None) => (file.destination, file.template),
            // Another server has another template.
            own => own,
        };
        Self {
            destination,
            udp: list(self.udp, file.udp),
            ip: self.ip || file.ip,
            template,
            ca: trust.0,
            pin: trust.1,
            ignore_cert: trust.2,
            header: list(self.header, file.header),
            timeout: self.timeout.or(file.timeout),
        }
    }
}

#[cfg(test)]
mod tests;
