#![doc = include_str!("docs/configuration.md")]

mod auth;
mod check;
mod endpoint;
mod error;
mod keys;
mod limits;
mod locate;
mod sandbox;
mod source;
#[cfg(test)]
mod tests;
mod wording;

use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

pub use self::auth::AuthConfig;
pub use self::check::Warning;
pub use self::endpoint::{EndpointConfig, describe_types};
pub use self::error::ConfigError;
pub use self::limits::Limits;
pub(crate) use self::locate::{End, JsonPath};
pub use self::sandbox::Sandbox;
pub(crate) use self::source::Source;
use crate::endpoint::StartContext;
use crate::router::{Router, RouterError};

/// Where HTTP/3 is served unless the configuration says otherwise.
const DEFAULT_PORT: u16 = 443;

/// The name in `proxy-status` fields where the host has none.
const DEFAULT_NAME: &str = "proxy";

/// A whole configuration. Nothing in it has been opened or started yet.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The UDP address to serve; see [`listen_address`](Self::listen_address) for its default.
    pub listen: Option<SocketAddr>,
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// The private key of the certificate, PEM.
    pub key_file: PathBuf,
    /// Makes a certificate and its key where neither file exists. Default false.
    pub self_signed: bool,
    /// Worker threads, 1 to 256. Default: one per core.
    pub threads: Option<NonZeroUsize>,
    /// The name of this deployment; see [`proxy_name`](Self::proxy_name) for its default.
    pub name: Option<String>,
    /// Hosts whose requests are answered; others get 421. Default empty: all are.
    pub hosts: Vec<String>,
    /// The DNS server to ask. Default: the system's.
    pub resolver: Option<SocketAddr>,
    /// How the sending rate is found. Default CUBIC.
    pub congestion_control: CongestionControl,
    /// When a client must prove its address first. Default always.
    pub retry: Retry,
    /// By what clients are told apart. Default: they are not.
    pub auth: Option<AuthConfig>,
    /// The socket at which the running server takes orders. Default: none.
    pub control: Option<PathBuf>,
    /// The user, and after a colon the group, that the server becomes. Default: whoever starts it.
    pub user: Option<String>,
    /// Which files the server confines itself to. Default: those that it needs.
    pub sandbox: Sandbox,
    /// Bounds on what peers may cost.
    pub limits: Limits,
    /// What is served, in the order in which a request's path is compared. Not empty.
    pub endpoints: Vec<EndpointConfig>,
    source: Source,
}

/// The key `congestion_control`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CongestionControl {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// `NewReno` (RFC 9002).
    Reno,
    /// BBR, version 2. It is the only one that is paced; on a clean path it halves a tunnel's
    /// throughput.
    Bbr2,
}

/// The key `retry`: whether a new client must show that it receives at its address (RFC 9000 §8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Every new connection costs one more round trip, and a forged address costs nothing.
    #[default]
    Always,
    /// A forged address makes this server hold the state of a handshake until it times out.
    Never,
}

impl ServerConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, or the first mistake in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let refuse = |message: String| ConfigError::whole(path, message);
        let bytes = fs::read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
        Self::parse(&text, path)
    }

    /// Reads the text of a configuration. `file` is what errors call it; relative paths in it start
    /// in the folder of `file`.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let (source, value) = Source::parse(text, file)?;
        let top = JsonPath::default();
        let document: Document = source.read(&value, &top)?;
        if let Some((key, message)) = document.limits.contradiction() {
            return Err(source.error(&top.key("limits").key(key), End::Value, message));
        }
        let base_dir = base_dir(file);
        let auth = document
            .auth
            .map(|value| AuthConfig::read(&source, &value, &top.key("auth"), base_dir))
            .transpose()?;
        let at = top.key("endpoints");
        if document.endpoints.is_empty() {
            let message = "found an empty list, expected at least one endpoint";
            return Err(source.error(&at, End::Value, message));
        }
        let endpoints = document.endpoints.iter().enumerate();
        let endpoints = endpoints
            .map(|(index, value)| {
                EndpointConfig::read(&source, value, &at.index(index), auth.is_some())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            listen: document.listen,
            cert_file: base_dir.join(document.cert_file),
            key_file: base_dir.join(document.key_file),
            self_signed: document.self_signed,
            threads: document.threads,
            name: document.name,
            hosts: document.hosts.into_iter().map(|host| host.0).collect(),
            resolver: document.resolver,
            congestion_control: document.congestion_control,
            retry: document.retry,
            auth,
            control: document.control.map(|path| base_dir.join(path)),
            user: document.user,
            sandbox: document.sandbox.beneath(base_dir),
            limits: document.limits,
            endpoints,
            source,
        })
    }

    /// The UDP address to serve: the key `listen`, or port 443 of every address.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
            .unwrap_or((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into())
    }

    /// The name in `proxy-status` fields: the key `name`, or the name of the host.
    pub fn proxy_name(&self) -> String {
        let host = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = || host().map(|name| name.trim().to_owned());
        let name = self
            .name
            .clone()
            .or_else(host)
            .filter(|name| keys::is_proxy_name(name));
        name.unwrap_or_else(|| DEFAULT_NAME.into())
    }

    /// The folder in which the configuration's relative paths start.
    pub fn base_dir(&self) -> &Path {
        base_dir(self.source.file())
    }

    /// What this configuration's endpoints are started with, on a server at `listeners`.
    pub fn start_context(&self, listeners: Vec<SocketAddr>) -> StartContext {
        StartContext {
            listeners,
            proxy_name: self.proxy_name(),
            base_dir: self.base_dir().into(),
            nameserver: self.resolver,
        }
    }

    /// The router over this configuration's endpoints, which are not started. Reads the files of
    /// `auth`.
    ///
    /// # Errors
    /// A mount that no request can reach, because an earlier one takes them all; a file of `auth` that
    /// cannot be read, or the first mistake in one.
    pub fn into_router(self) -> Result<Router, ConfigError> {
        let name = self.proxy_name();
        let authenticator = self.authenticator()?;
        let mounts = self
            .endpoints
            .into_iter()
            .map(EndpointConfig::into_mount)
            .collect();
        let router =
            Router::new(mounts, name).map_err(|error| unreachable(&self.source, &error))?;
        let router = router
            .with_hosts(self.hosts)
            .with_limits(&self.limits)
            .with_isolation();
        Ok(match authenticator {
            Some(authenticator) => router.with_authenticator(Arc::new(authenticator)),
            None => router,
        })
    }
}

/// The keys of the document, with the endpoints not yet looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, deserialize_with = "keys::address")]
    listen: Option<SocketAddr>,
    #[serde(deserialize_with = "keys::file")]
    cert_file: PathBuf,
    #[serde(deserialize_with = "keys::file")]
    key_file: PathBuf,
    #[serde(default)]
    self_signed: bool,
    #[serde(default, deserialize_with = "keys::threads")]
    threads: Option<NonZeroUsize>,
    #[serde(default, deserialize_with = "keys::proxy_name")]
    name: Option<String>,
    #[serde(default)]
    hosts: Vec<keys::Host>,
    #[serde(default, deserialize_with = "keys::address")]
    resolver: Option<SocketAddr>,
    #[serde(default, deserialize_with = "keys::name")]
    congestion_control: CongestionControl,
    #[serde(default, deserialize_with = "keys::name")]
    retry: Retry,
    #[serde(default, deserialize_with = "keys::some_value")]
    auth: Option<Value>,
    #[serde(default, deserialize_with = "keys::some_file")]
    control: Option<PathBuf>,
    #[serde(default, deserialize_with = "keys::user")]
    user: Option<String>,
    #[serde(default)]
    sandbox: Sandbox,
    #[serde(default)]
    limits: Limits,
    endpoints: Vec<Value>,
}

fn base_dir(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn unreachable(source: &Source, error: &RouterError) -> ConfigError {
    let RouterError::Unreachable {
        mount,
        path,
        earlier,
        earlier_path,
    } = error;
    let at = JsonPath::default()
        .key("endpoints")
        .index(*mount)
        .key("path");
    let covering = format!("endpoints[{earlier}] is mounted before it at {earlier_path:?}");
    source.error(
        &at,
        End::Value,
        format!("{path:?} is never reached: {covering}"),
    )
}
