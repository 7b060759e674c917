//! [`Server`]: a `psq-server`, or a program like it, with a configuration of its own.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pasque::Connection;
use pasque::connection::ClientError;
use pasque_h3::{ClientConfig, Trust};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::netns::Namespace;
use crate::process::Process;
use crate::repository;

/// The name of the configuration file.
const CONFIG: &str = "server.json";

/// A server that listens. Dropping it kills it and removes its files.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    pin: String,
    program: PathBuf,
    config: Value,
    folder: TempDir,
}

impl Server {
    /// Serves `endpoints`, a JSON list, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When it does not start, with what it has printed.
    pub async fn start(program: &Path, endpoints: Value) -> io::Result<Self> {
        Self::start_with(
            program,
            json!({ "endpoints": endpoints }),
            ["-a", "127.0.0.1:0"],
        )
        .await
    }

    /// Serves `config`, with a certificate made for it, in a temporary folder.
    ///
    /// # Errors
    /// When it does not start, with what it has printed.
    pub async fn start_with<const N: usize>(
        program: &Path,
        config: Value,
        arguments: [&str; N],
    ) -> io::Result<Self> {
        let start = |command| Process::start(program, command);
        Self::start_by(program, start, None, config, arguments).await
    }

    /// [`start_with`](Self::start_with), with a log as `filter` says, in the words of `RUST_LOG`.
    /// It has to let the level `info` of our crates through: from there the address is known.
    ///
    /// # Errors
    /// When it does not start, with what it has printed.
    pub async fn start_logging<const N: usize>(
        program: &Path,
        filter: &str,
        config: Value,
        arguments: [&str; N],
    ) -> io::Result<Self> {
        let start = |command: Vec<OsString>| {
            let mut all: Vec<OsString> = vec![format!("RUST_LOG={filter}").into(), program.into()];
            all.extend(command);
            Process::start(Path::new("/usr/bin/env"), all)
        };
        Self::start_by(program, start, None, config, arguments).await
    }

    /// Serves `config` inside `namespace`.
    ///
    /// # Errors
    /// When it does not start, with what it has printed.
    pub async fn start_in<const N: usize>(
        namespace: &Namespace,
        program: &Path,
        config: Value,
        arguments: [&str; N],
    ) -> io::Result<Self> {
        let start = |command| namespace.start(program, command);
        Self::start_by(program, start, None, config, arguments).await
    }

    /// [`start_in`](Self::start_in) with a folder that belongs to the user of the ID `owner`.
    ///
    /// # Errors
    /// When it does not start, with what it has printed.
    pub async fn start_owned<const N: usize>(
        namespace: &Namespace,
        program: &Path,
        owner: u32,
        config: Value,
        arguments: [&str; N],
    ) -> io::Result<Self> {
        let start = |command| namespace.start(program, command);
        Self::start_by(program, start, Some(owner), config, arguments).await
    }

    async fn start_by<const N: usize>(
        program: &Path,
        start: impl FnOnce(Vec<OsString>) -> io::Result<Process>,
        owner: Option<u32>,
        mut config: Value,
        arguments: [&str; N],
    ) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::os::unix::fs::chown(folder.path(), owner, owner)?;
        for (key, value) in [
            ("cert_file", json!("pasque-cert.pem")),
            ("key_file", json!("pasque-key.pem")),
            ("self_signed", json!(true)),
        ] {
            config[key] = value;
        }
        let file = folder.path().join(CONFIG);
        std::fs::write(&file, format!("{config:#}\n"))?;
        std::os::unix::fs::chown(&file, owner, owner)?;
        let mut command: Vec<OsString> = vec!["-c".into(), file.into_os_string()];
        command.extend(arguments.map(Into::into));
        let mut process = start(command)?;
        let (pin, address) = announced(&mut process).await?;
        Ok(Self {
            process,
            address,
            pin,
            program: program.into(),
            config,
            folder,
        })
    }

    /// Starts it again after its process has ended: with the same configuration, certificate and
    /// address, inside `namespace` if it was there.
    ///
    /// # Errors
    /// When it does not start, with what it has printed.
    pub async fn start_again(&mut self, namespace: Option<&Namespace>) -> io::Result<()> {
        let file = self.config_file();
        let address = self.address.to_string();
        let command = [
            "-c".as_ref(),
            file.as_os_str(),
            "-a".as_ref(),
            address.as_ref(),
        ];
        self.process = match namespace {
            Some(namespace) => namespace.start(&self.program, command)?,
            None => Process::start(&self.program, command)?,
        };
        announced(&mut self.process).await.map(drop)
    }

    /// Its folder, in which the paths of its configuration start.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// Changes the configuration and writes the file. The server does not know of it yet.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Value)) -> io::Result<()> {
        change(&mut self.config);
        std::fs::write(self.config_file(), format!("{:#}\n", self.config))
    }

    /// `psq-server reload`: its exit code, and what it has printed.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn reload(&self) -> io::Result<(Option<i32>, String)> {
        let file = self.config_file();
        let arguments = ["reload".as_ref(), "-c".as_ref(), file.as_os_str()];
        let mut command = Process::start(&self.program, arguments)?;
        let status = command.exit().await?;
        Ok((status.code(), command.output()))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that `psq-client -d` takes.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The digest of its certificate, as `psq-client --pin` takes it.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// Its certificate, as `psq-client --ca` takes it.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("pasque-cert.pem")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A connection to it that trusts its certificate and no other.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let mut config = ClientConfig::default();
        config.trust = Trust::CaFile(self.certificate());
        pasque_h3::connect(&self.address.ip().to_string(), self.address.port(), &config).await
    }
}

/// What a server says when it listens: the digest of its certificate, and where.
async fn announced(process: &mut Process) -> io::Result<(String, SocketAddr)> {
    let pin = word_after(&process.line("--pin ").await?, "--pin ");
    let address = word_after(&process.line("listening on ").await?, "listening on ");
    let address = address.trim_end_matches(',').parse();
    Ok((pin, address.map_err(io::Error::other)?))
}

fn word_after(line: &str, start: &str) -> String {
    let rest = line.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_whitespace().next().unwrap_or_default().into()
}

/// `server-example.json`, for use from another folder: what is relative in it starts at the root of
/// the repository.
///
/// # Errors
/// When it cannot be read, or is not JSON.
pub fn example_config() -> io::Result<Value> {
    let text = std::fs::read_to_string(repository().join("server-example.json"))?;
    let mut config: Value = serde_json::from_str(&text)?;
    for endpoint in config["endpoints"].as_array_mut().into_iter().flatten() {
        if let Some(Value::String(root)) = endpoint.get_mut("root") {
            *root = repository().join(&*root).display().to_string();
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_where_the_next_begins() {
        assert_eq!(
            word_after("INFO listening on [::1]:443, 2 endpoints", "listening on "),
            "[::1]:443,"
        );
        assert_eq!(word_after("INFO", "listening on "), "");
    }
}
