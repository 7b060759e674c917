//! The command line, and the file that may hold the same options.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::exit::{Exit, Failure};

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
        let server = match (self.destination, self.template, self.ip_template) {
            (None, None, None) => (file.destination, file.template, file.ip_template),
            // Another server has other templates.
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
            header: list(self.header, file.header),
            timeout: self.timeout.or(file.timeout),
        }
    }
}

#[cfg(test)]
mod tests;
