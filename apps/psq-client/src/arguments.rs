//! The command line, and the file that may hold the same options.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::exit::{Exit, Failure};
use crate::{fields, secret};

/// Opens UDP and IP tunnels through a server, or downloads files from it, over HTTP/3.
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

/// Over the options that say more about `--ip`.
const TUNNEL: &str = "IP tunnel";

/// Over the options that say who asks.
const WHO: &str = "Credentials";

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
    /// With neither this nor --ip: 127.0.0.1:9000 of the server, on a free local port
    #[arg(short, long, value_name = "[ADDRESS:PORT=]HOST:PORT")]
    pub(crate) udp: Vec<String>,

    /// Open an IP tunnel: an interface of this machine, for which CAP_NET_ADMIN is needed
    #[arg(short, long)]
    pub(crate) ip: bool,

    /// The name of the interface [default: psq0, or the next that is free]
    #[arg(long, value_name = "NAME", help_heading = TUNNEL)]
    pub(crate) tun: Option<String>,

    /// Route this prefix into the tunnel; repeatable. Nothing else is routed then, whatever the
    /// server advertises
    #[arg(long, value_name = "CIDR", help_heading = TUNNEL)]
    pub(crate) route: Vec<String>,

    /// Of the routes that the server advertises, accept what is in this prefix; repeatable.
    /// Without any: everything but default routes
    #[arg(long, value_name = "CIDR", help_heading = TUNNEL)]
    pub(crate) accept_routes: Vec<String>,

    /// Route everything into the tunnel, where the server advertises a default route
    #[arg(long, help_heading = TUNNEL)]
    pub(crate) default_route: bool,

    /// Tell the server that it may send packets for this prefix, which is behind this machine;
    /// repeatable
    #[arg(long, value_name = "CIDR", help_heading = TUNNEL)]
    pub(crate) advertise: Vec<String>,

    /// How the interface moves packets: auto, offload (many at a time) or plain [default: auto]
    #[arg(long, value_name = "KIND", help_heading = TUNNEL)]
    pub(crate) device: Option<String>,

    /// The only host or prefix that the tunnel is for [default: *]
    #[arg(long, value_name = "HOST|CIDR", help_heading = TUNNEL)]
    pub(crate) target: Option<String>,

    /// The only protocol that the tunnel is for, besides ICMP [default: *]
    #[arg(long, value_name = "NUMBER", help_heading = TUNNEL)]
    pub(crate) ipproto: Option<String>,

    /// The URI template of an IP proxy that has another than the default one
    #[arg(long, value_name = "https://…/{target}/{ipproto}/", help_heading = TUNNEL)]
    pub(crate) ip_template: Option<String>,

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

    /// Show this bearer token: - reads it from standard input, env:NAME takes that environment
    /// variable. Others on this machine can read a command line, so the token itself does not belong
    /// there [default: env:PSQ_TOKEN, where that is set]
    #[arg(long, value_name = "-|env:NAME", global = true, help_heading = WHO)]
    pub(crate) token: Option<String>,

    /// Show the bearer token in this file, which only you may read; it is read again for each new
    /// connection
    #[arg(long, value_name = "FILE", global = true, help_heading = WHO)]
    pub(crate) token_file: Option<PathBuf>,

    /// Log in as this user; the password is asked for on the terminal, or read from standard input
    #[arg(long, value_name = "NAME", global = true, help_heading = WHO)]
    pub(crate) user: Option<String>,

    /// Take the password of --user from this file, which only you may read
    #[arg(long, value_name = "FILE", global = true, help_heading = WHO)]
    pub(crate) password_file: Option<PathBuf>,

    /// Show the certificate in this PEM file to a server that asks for one
    #[arg(long, value_name = "FILE", global = true, help_heading = WHO)]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert, a PEM file that only you may read
    #[arg(long, value_name = "FILE", global = true, help_heading = WHO)]
    pub(crate) key: Option<PathBuf>,

    /// Add a field to every request; repeatable. Fields with credentials belong into a -c file that
    /// only you may read
    #[arg(long, value_name = "NAME: VALUE", global = true)]
    pub(crate) header: Vec<String>,

    /// How the sending rate is found: cubic, reno or bbr2 [default: cubic]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) congestion_control: Option<String>,

    /// End when the connection is lost, instead of making another
    #[arg(long)]
    pub(crate) no_reconnect: bool,

    /// Give up when the server says nothing for this long while it is asked for something
    /// [default: 10]
    #[arg(long, value_name = "SECONDS", global = true)]
    pub(crate) timeout: Option<NonZeroU32>,
}

impl Options {
    /// Reads a file of options. Relative paths in it start in its own folder.
    pub(crate) fn load(file: &Path) -> Result<Self, Failure> {
        let refuse = |what: String| Failure::usage(format!("{}: {what}", file.display()));
        let mut open = File::open(file).map_err(|error| refuse(error.to_string()))?;
        let mut text = String::new();
        let read = open.read_to_string(&mut text);
        read.map_err(|error| refuse(error.to_string()))?;
        let mut options: Self =
            serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if options.header.iter().any(|line| fields::is_secret(line)) {
            secret::check_mode(file, &open).map_err(refuse)?;
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        for file in [
            &mut options.ca,
            &mut options.token_file,
            &mut options.password_file,
            &mut options.cert,
            &mut options.key,
        ] {
            *file = file.take().map(|file| folder.join(file));
        }
        Ok(options)
    }

    /// Refuses secrets where others can read them: these are the options of a command line.
    ///
    /// # Errors
    /// The option, and where the secret belongs. The secret is not repeated.
    pub(crate) fn refuse_secrets(&self) -> Result<(), Failure> {
        match self.header.iter().any(|line| fields::is_secret(line)) {
            true => Err(Failure::usage(
                "--header: others on this machine can read a command line: give credentials with \
                 --token-file or --user, or this field in a -c file that only you may read",
            )),
            false => Ok(()),
        }
    }

    fn has_credentials(&self) -> bool {
        self.token.is_some() || self.token_file.is_some() || self.user.is_some()
    }

    fn names_server(&self) -> bool {
        let named = [&self.destination, &self.template, &self.ip_template];
        named.iter().any(|server| server.is_some())
    }

    fn forget_credentials(&mut self) {
        self.token = None;
        self.token_file = None;
        self.user = None;
        self.password_file = None;
        self.cert = None;
        self.key = None;
        self.header.clear();
    }

    /// Takes from `file` what these options do not say. What belongs together stays together: a
    /// list is replaced, not extended, and one way to trust replaces any other.
    #[must_use]
    pub(crate) fn or(self, mut file: Self) -> Self {
        // What is meant for one server is not shown to another.
        let is_same = self.destination.is_some() && self.destination == file.destination;
        if self.names_server() && file.names_server() && !is_same {
            file.forget_credentials();
        }
        let has_credentials = self.has_credentials();
        let list = |own: Vec<String>, other| if own.is_empty() { other } else { own };
        let trust = if self.ca.is_some() || self.pin.is_some() || self.ignore_cert {
            (self.ca, self.pin, self.ignore_cert)
        } else {
            (file.ca, file.pin, file.ignore_cert)
        };
        let server = match (self.destination, self.template, self.ip_template) {
            (None, None, None) => (file.destination, file.template, file.ip_template),
            // Another server has other templates.
            own => own,
        };
        let credentials = match has_credentials {
            true => (self.token, self.token_file, self.user, self.password_file),
            false => {
                let password_file = self.password_file.or(file.password_file);
                (file.token, file.token_file, file.user, password_file)
            }
        };
        let pair = match (self.cert, self.key) {
            (None, None) => (file.cert, file.key),
            own => own,
        };
        let routes = match (self.route, self.accept_routes, self.default_route) {
            (route, accept, false) if route.is_empty() && accept.is_empty() => {
                (file.route, file.accept_routes, file.default_route)
            }
            own => own,
        };
        Self {
            destination: server.0,
            udp: list(self.udp, file.udp),
            ip: self.ip || file.ip,
            tun: self.tun.or(file.tun),
            route: routes.0,
            accept_routes: routes.1,
            default_route: routes.2,
            advertise: list(self.advertise, file.advertise),
            device: self.device.or(file.device),
            target: self.target.or(file.target),
            ipproto: self.ipproto.or(file.ipproto),
            template: server.1,
            ip_template: server.2,
            ca: trust.0,
            pin: trust.1,
            ignore_cert: trust.2,
            token: credentials.0,
            token_file: credentials.1,
            user: credentials.2,
            password_file: credentials.3,
            cert: pair.0,
            key: pair.1,
            header: list(self.header, file.header),
            congestion_control: self.congestion_control.or(file.congestion_control),
            no_reconnect: self.no_reconnect || file.no_reconnect,
            timeout: self.timeout.or(file.timeout),
        }
    }
}

#[cfg(test)]
mod tests;
