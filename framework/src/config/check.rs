//! What a configuration's text does not tell: the state of its files, and who can reach it.

use std::fs::{self, File, Metadata};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ServerConfig;
use super::error::ConfigError;
use super::locate::{End, JsonPath};

/// Permissions of anyone but the owner.
const OTHERS: u32 = 0o077;

/// Something that the operator should know and that does not stop the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// A tunnel endpoint serves whoever is on this host.
    #[error(
        "endpoints[{index}] ({tag}) serves everyone on this host; on an address that others can \
         reach it would need \"anonymous\": true"
    )]
    OpenOnLoopback {
        /// Index of the endpoint in the configuration.
        index: usize,
        /// Its type.
        tag: &'static str,
    },
}

impl ServerConfig {
    /// Checks that the certificate and key can be read, and the key by nobody else. With
    /// `self_signed`, both may be absent as well. Nothing is changed, and what is in the files is
    /// not looked at.
    ///
    /// # Errors
    /// The first file that is wrong, and what to do about it.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let certificate = self.check_file("cert_file", &self.cert_file)?;
        let key = self.check_file("key_file", &self.key_file)?;
        let mode = key
            .as_ref()
            .map_or(0, |found| found.permissions().mode() & 0o777);
        if mode & OTHERS != 0 {
            let path = self.key_file.display();
            let advice = format!("run `chmod 600 {path}`");
            let message = format!("{path} has mode {mode:04o}, expected 0600: {advice}");
            return Err(self.file_error("key_file", message));
        }
        match (certificate, key) {
            (Some(_), Some(_)) => Ok(()),
            (None, None) if self.self_signed => {
                self.check_folder("cert_file", &self.cert_file)?;
                self.check_folder("key_file", &self.key_file)
            }
            (None, _) => Err(self.absent("cert_file", &self.cert_file)),
            (_, None) => Err(self.absent("key_file", &self.key_file)),
        }
    }

    /// What is known of the file at `path`; `None` when there is none.
    fn check_file(&self, key: &str, path: &Path) -> Result<Option<Metadata>, ConfigError> {
        match readable(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(self.file_error(key, format!("cannot read {}: {error}", path.display())))
            }
        }
    }

    fn check_folder(&self, key: &str, path: &Path) -> Result<(), ConfigError> {
        match path.parent() {
            Some(folder) if folder.is_dir() => Ok(()),
            _ => {
                let message = format!("the folder of {} does not exist", path.display());
                Err(self.file_error(key, message))
            }
        }
    }

    fn absent(&self, key: &str, path: &Path) -> ConfigError {
        let advice = if self.self_signed {
            // A new key would not fit the old certificate, nor the other way round.
            "\"self_signed\" makes both files or none: remove the other one, or restore this one"
        } else {
            "make it, or set \"self_signed\": true to try without"
        };
        self.file_error(key, format!("{} does not exist: {advice}", path.display()))
    }

    fn file_error(&self, key: &str, message: String) -> ConfigError {
        self.source
            .error(&JsonPath::default().key(key), End::Value, message)
    }

    /// Checks that a server on the addresses `listen` is no open relay: a tunnel endpoint serves
    /// strangers only where its configuration says so. On loopback it is a warning instead. With
    /// `auth` there are no strangers to it.
    ///
    /// # Errors
    /// The first endpoint that would serve strangers.
    pub fn check_relay(&self, listen: &[SocketAddr]) -> Result<Vec<Warning>, ConfigError> {
        let reachable = listen
            .iter()
            .find(|address| !address.ip().to_canonical().is_loopback());
        let mut warnings = Vec::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let tag = endpoint.kind.tag;
            match reachable {
                _ if endpoint.kind.public || endpoint.anonymous || self.auth.is_some() => {}
                None => warnings.push(Warning::OpenOnLoopback { index, tag }),
                Some(address) => {
                    let at = JsonPath::default().key("endpoints").index(index);
                    let message = format!(
                        "{tag} would be an open relay on {address}: say with \"auth\" who may use \
                         it, listen on a loopback address, or set \"anonymous\": true on this \
                         endpoint to serve everyone"
                    );
                    return Err(self.source.error(&at, End::Value, message));
                }
            }
        }
        Ok(warnings)
    }
}

/// What is known of a file that this process can read.
fn readable(path: &Path) -> io::Result<Metadata> {
    let found = fs::metadata(path)?;
    // Opening a pipe would wait for its writer.
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)?;
    Ok(found)
}
