//! [`Settings`]: what the options mean, checked as a whole before anything is sent.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use pasque::template::UriTemplate;
use pasque_h3::Trust;

use crate::arguments::{Command, Get, Options};
use crate::destination::Destination;
use crate::download::{Download, Place, RemoteFile};
use crate::exit::Failure;
use crate::forward::ForwardSpec;
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
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) task: Task,
}

/// What to do with the connection.
pub(crate) enum Task {
    /// Keep these forwards open.
    Forward {
        template: UriTemplate,
        forwards: Vec<ForwardSpec>,
    },
    /// Fetch these files.
    Download(Vec<Download>),
}

impl Settings {
    /// Makes sense of `options`.
    ///
    /// # Errors
    /// The first option that is wrong, by name.
    pub(crate) fn new(options: Options, command: Option<Command>) -> Result<Self, Failure> {
        if options.ip {
            return Err(Failure::usage("--ip: IP tunnels are not in this version"));
        }
        let trust = trust(&options)?;
        let headers = fields::parse(&options.header).map_err(|error| wrong("header", error))?;
        let timeout = options
            .timeout
            .map(|seconds| Duration::from_secs(seconds.get().into()));
        let (destination, template) = server(&options)?;
        let task = match command {
            Some(Command::Get(get)) if options.udp.is_empty() => Task::Download(downloads(get)?),
            Some(Command::Get(_)) => {
                return Err(Failure::usage(
                    "--udp and get do not go together: run one for each",
                ));
            }
            None => Task::Forward {
                template,
                forwards: forwards(&options.udp)?,
            },
        };
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
        Ok(Self {
            destination,
            trust,
            headers,
            timeout,
            task,
        })
    }
}

fn wrong(option: &str, error: impl ToString) -> Failure {
    Failure::usage(format!("--{option}: {}", error.to_string()))
}

/// The server, and the template of its UDP proxy. Either names the other.
fn server(options: &Options) -> Result<(Destination, UriTemplate), Failure> {
    let destination = options
        .destination
        .as_deref()
        .map(|url| {
            url.parse::<Destination>()
                .map_err(|error| wrong("destination", error))
        })
        .transpose()?;
    let template = options
        .template
        .as_deref()
        .map(|text| {
            UriTemplate::parse(text, &UDP_VARIABLES).map_err(|error| wrong("template", error))
        })
        .transpose()?;
    match (destination, template) {
        (None, None) => Err(Failure::usage(
            "name a server with --destination https://HOST:PORT",
        )),
        (Some(destination), None) => {
            let template = UriTemplate::default_udp(&destination.authority())
                .map_err(|error| wrong("destination", error))?;
            Ok((destination, template))
        }
        (destination, Some(template)) => {
            let host = template.host().to_ascii_lowercase();
            let named = Destination {
                host,
                port: template.port(),
            };
            match destination {
                // A certificate that is good for the one says nothing about the other.
                Some(other) if other != named => Err(Failure::usage(format!(
                    "--template is for {named}, --destination is {other}: leave one of them out"
                ))),
                _ => Ok((named, template)),
            }
        }
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
