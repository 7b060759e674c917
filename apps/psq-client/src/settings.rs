//! [`Settings`]: what the options mean, checked as a whole before anything is sent.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use pasque::config::CongestionControl;
use pasque::template::{TemplateError, UriTemplate};
use pasque_h3::{ClientKeyPair, Trust};

use crate::arguments::{Command, Get, Options};
use crate::credentials::{self, CredentialSource};
use crate::destination::Destination;
use crate::download::{Download, Place, RemoteFile};
use crate::exit::Failure;
use crate::forward::ForwardSpec;
use crate::tunnel::{self, TunnelSpec};
use crate::{fields, pin};

/// How long a server may say nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The variables of a UDP proxy's template (RFC 9298 §2).
const UDP_VARIABLES: [&str; 2] = ["target_host", "target_port"];

/// What is forwarded when nothing is named: a port of the server itself, on any free local one.
const DEFAULT_FORWARD: &str = "127.0.0.1:9000";

/// Everything a run needs to know.
pub(crate) struct Settings {
    pub(crate) destination: Destination,
    pub(crate) trust: Trust,
    pub(crate) credentials: CredentialSource,
    pub(crate) key_pair: Option<ClientKeyPair>,
    pub(crate) congestion_control: CongestionControl,
    /// Whether a connection that is lost is followed by another.
    pub(crate) reconnects: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) tunnel: Option<TunnelSpec>,
    pub(crate) task: Task,
}

/// What to do with the connection, besides an IP tunnel.
pub(crate) enum Task {
    /// Keep these forwards open.
    Forward {
        template: UriTemplate,
        forwards: Vec<ForwardSpec>,
    },
    /// Fetch these files.
    Download(Vec<Download>),
    /// Nothing else.
    Nothing,
}

impl Settings {
    /// Makes sense of `options`.
    ///
    /// # Errors
    /// The first option that is wrong, by name.
    pub(crate) fn new(options: Options, command: Option<Command>) -> Result<Self, Failure> {
        let trust = trust(&options)?;
        let headers = fields::parse(&options.header).map_err(|error| wrong("header", error))?;
        let timeout = options.timeout.map_or(DEFAULT_TIMEOUT, |seconds| {
            Duration::from_secs(seconds.get().into())
        });
        let server = Server::new(&options)?;
        let tunnel = match options.ip {
            true => {
                let mut tunnel = TunnelSpec::new(&options, server.ip_template)?;
                tunnel.options.address_timeout = timeout;
                Some(tunnel)
            }
            false => {
                tunnel::require_none(&options)?;
                None
            }
        };
        let task = match command {
            Some(Command::Get(get)) if options.udp.is_empty() => Task::Download(downloads(get)?),
            Some(Command::Get(_)) => {
                return Err(Failure::usage(
                    "--udp and get do not go together: run one for each",
                ));
            }
            None if options.ip && options.udp.is_empty() => Task::Nothing,
            None => Task::Forward {
                template: server.udp_template,
                forwards: forwards(&options.udp)?,
            },
        };
        let congestion_control = congestion_control(options.congestion_control.as_deref())?;
        // A download is resumed by its user, who may want another one by then.
        let reconnects = !options.no_reconnect && !matches!(task, Task::Download(_));
        Ok(Self {
            destination: server.destination,
            trust,
            // Last: it may ask the user.
            credentials: CredentialSource::new(&options)?,
            key_pair: credentials::key_pair(&options)?,
            congestion_control,
            reconnects,
            headers,
            timeout,
            tunnel,
            task,
        })
    }
}

fn wrong(option: &str, error: impl ToString) -> Failure {
    Failure::usage(format!("--{option}: {}", error.to_string()))
}

/// The server, and where it takes requests for tunnels.
struct Server {
    destination: Destination,
    udp_template: UriTemplate,
    ip_template: UriTemplate,
}

impl Server {
    /// Each of the options about it names the server; those that are given agree.
    fn new(options: &Options) -> Result<Self, Failure> {
        let destination = options.destination.as_deref().map(str::parse).transpose();
        let destination: Option<Destination> =
            destination.map_err(|error: String| wrong("destination", error))?;
        let parse = |option, text: &Option<String>, variables: &[&str]| {
            let template = text
                .as_deref()
                .map(|text| UriTemplate::parse(text, variables));
            template.transpose().map_err(|error| wrong(option, error))
        };
        let udp_template = parse("template", &options.template, &UDP_VARIABLES)?;
        // Both variables of an IP proxy may be missing (RFC 9484 §3).
        let ip_template = parse("ip-template", &options.ip_template, &[])?;

        let named = [
            ("destination", destination),
            ("template", udp_template.as_ref().map(place)),
            ("ip-template", ip_template.as_ref().map(place)),
        ];
        let mut named = named
            .into_iter()
            .filter_map(|(option, server)| Some((option, server?)));
        let Some((first, destination)) = named.next() else {
            return Err(Failure::usage(
                "name a server with --destination https://HOST:PORT",
            ));
        };
        // A certificate that is good for the one says nothing about the other.
        if let Some((option, other)) = named.find(|(_, other)| *other != destination) {
            return Err(Failure::usage(format!(
                "--{option} is for {other}, --{first} is {destination}: leave one of them out"
            )));
        }
        let authority = destination.authority();
        let or_default = |template: Option<_>, default: fn(&str) -> Result<_, TemplateError>| {
            template
                .map_or_else(|| default(&authority), Ok)
                .map_err(|error| wrong("destination", error))
        };
        Ok(Self {
            udp_template: or_default(udp_template, UriTemplate::default_udp)?,
            ip_template: or_default(ip_template, UriTemplate::default_ip)?,
            destination,
        })
    }
}

/// The server that a template names.
fn place(template: &UriTemplate) -> Destination {
    Destination {
        host: template.host().to_ascii_lowercase(),
        port: template.port(),
    }
}

fn trust(options: &Options) -> Result<Trust, Failure> {
    match (&options.ca, &options.pin, options.ignore_cert) {
        (None, None, false) => Ok(Trust::System),
        (Some(file), None, false) => {
            // Found out now, it is a mistake of the user; later it would look like the server's.
            File::open(file)
                .map_err(|error| wrong("ca", format!("{}: {error}", file.display())))?;
            Ok(Trust::CaFile(file.clone()))
        }
        (None, Some(digest), false) => pin::parse(digest)
            .map(Trust::Pin)
            .map_err(|error| wrong("pin", error)),
        (None, None, true) => Ok(Trust::AcceptAny),
        _ => Err(Failure::usage(
            "--ca, --pin and --ignore-cert exclude each other: keep one",
        )),
    }
}

fn congestion_control(name: Option<&str>) -> Result<CongestionControl, Failure> {
    match name {
        None => Ok(CongestionControl::default()),
        Some("cubic") => Ok(CongestionControl::Cubic),
        Some("reno") => Ok(CongestionControl::Reno),
        Some("bbr2") => Ok(CongestionControl::Bbr2),
        Some(other) => Err(wrong(
            "congestion-control",
            format!("expected cubic, reno or bbr2, found {other:?}"),
        )),
    }
}

fn forwards(texts: &[String]) -> Result<Vec<ForwardSpec>, Failure> {
    let parse = |text: &str| text.parse().map_err(|error: String| wrong("udp", error));
    if texts.is_empty() {
        return Ok(vec![parse(DEFAULT_FORWARD)?]);
    }
    texts.iter().map(|text| parse(text)).collect()
}

fn downloads(get: Get) -> Result<Vec<Download>, Failure> {
    let files: Vec<RemoteFile> = get
        .paths
        .iter()
        .map(|path| {
            RemoteFile::parse(path).map_err(|error| Failure::usage(format!("get: {error}")))
        })
        .collect::<Result<_, _>>()?;
    if let Some(output) = get.output {
        let Ok([file]) = <[RemoteFile; 1]>::try_from(files) else {
            return Err(Failure::usage("get: --output takes one PATH only"));
        };
        let place = match output == Path::new("-") {
            true => Place::StandardOutput,
            false => Place::File(output),
        };
        return Ok(vec![Download { file, place }]);
    }
    let mut downloads: Vec<Download> = Vec::with_capacity(files.len());
    for file in files {
        let name = file
            .local_name()
            .map_err(|error| Failure::usage(format!("get: {error}")))?;
        let place = Place::File(PathBuf::from(&name));
        if downloads.iter().any(|earlier| earlier.place == place) {
            return Err(Failure::usage(format!(
                "get: two files would be called {name:?}: fetch one of them with --output"
            )));
        }
        downloads.push(Download { file, place });
    }
    Ok(downloads)
}

#[cfg(test)]
mod tests;
