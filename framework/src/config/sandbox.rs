//! [`Sandbox`]: the key `sandbox`, and what a configuration opens.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::error::ConfigError;
use super::keys::File;
use super::locate::{End, JsonPath};
use super::{AuthConfig, ServerConfig};
use crate::FileUse;

/// The key `sandbox`: whether the server confines itself to the files that it needs, and what else it
/// may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// It opens whatever its user may.
    Off,
    /// It opens what the configuration names and what is beneath these paths: for endpoints that do
    /// not say what they open.
    Confined {
        /// What may be read as well.
        read: Vec<PathBuf>,
        /// What may be read and written as well.
        write: Vec<PathBuf>,
    },
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::Confined {
            read: Vec::new(),
            write: Vec::new(),
        }
    }
}

impl Sandbox {
    /// The same with relative paths that start in `base_dir`.
    pub(super) fn beneath(self, base_dir: &Path) -> Self {
        let resolve = |paths: Vec<PathBuf>| paths.iter().map(|path| base_dir.join(path)).collect();
        match self {
            Self::Off => Self::Off,
            Self::Confined { read, write } => Self::Confined {
                read: resolve(read),
                write: resolve(write),
            },
        }
    }
}

/// Its keys, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SandboxKeys {
    #[serde(default)]
    read: Vec<File>,
    #[serde(default)]
    write: Vec<File>,
}

impl<'de> Deserialize<'de> for Sandbox {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FalseOrPaths;

        impl<'de> Visitor<'de> for FalseOrPaths {
            type Value = Sandbox;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"false, or an object with "read" and "write""#)
            }

            fn visit_bool<E: serde::de::Error>(self, is_on: bool) -> Result<Sandbox, E> {
                Ok(match is_on {
                    true => Sandbox::default(),
                    false => Sandbox::Off,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sandbox, A::Error> {
                let keys = SandboxKeys::deserialize(MapAccessDeserializer::new(map))?;
                let paths = |files: Vec<File>| files.into_iter().map(|file| file.0).collect();
                Ok(Sandbox::Confined {
                    read: paths(keys.read),
                    write: paths(keys.write),
                })
            }
        }

        from.deserialize_any(FalseOrPaths)
    }
}

impl ServerConfig {
    /// What serving this configuration opens, at the start and with each reload, as far as endpoints
    /// tell it: what `control` and `sandbox` name is not among it.
    pub fn files(&self) -> Vec<FileUse> {
        let located = self.located_files().into_iter();
        located.map(|(_, file)| file).collect()
    }

    /// Checks that the server `may_open` all [`files`](Self::files) of this configuration.
    ///
    /// # Errors
    /// The first path that it may not, with the key that leads to it.
    pub fn check_confined(&self, may_open: impl Fn(&FileUse) -> bool) -> Result<(), ConfigError> {
        let mut files = self.located_files().into_iter();
        match files.find(|(_, file)| !may_open(file)) {
            None => Ok(()),
            Some((at, file)) => {
                let what = if file.is_written { "write" } else { "read" };
                let message = format!(
                    "{} is outside of what the running server confined itself to {what} when it \
                     started: restart it",
                    file.path.display()
                );
                Err(self.source.error(&at, End::Value, message))
            }
        }
    }

    /// Each with the key that leads to it.
    fn located_files(&self) -> Vec<(JsonPath, FileUse)> {
        let top = JsonPath::default();
        let mut files = vec![(top.clone(), FileUse::read(self.source.file()))];
        for (key, path) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            let mut file = FileUse::read(path);
            file.is_written = self.self_signed && !path.exists();
            files.push((top.key(key), file));
        }
        if let Some(auth) = &self.auth {
            let at = top.key("auth");
            let named = auth_files(auth).into_iter();
            let named = named.filter_map(|(key, path)| Some((key, path.as_ref()?)));
            files.extend(named.map(|(key, path)| (at.key(key), FileUse::read(path))));
        }
        let cx = self.start_context(Vec::new());
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let at = top.key("endpoints").index(index);
            // One that panics says nothing; what it opens is closed to it.
            let opened = catch_unwind(AssertUnwindSafe(|| endpoint.endpoint.files()));
            let opened = opened.unwrap_or_default().into_iter();
            files.extend(opened.map(|mut file| {
                file.path = cx.resolve_path(&file.path);
                (at.clone(), file)
            }));
        }
        files
    }
}

fn auth_files(auth: &AuthConfig) -> [(&'static str, &Option<PathBuf>); 5] {
    [
        ("jwt_secret_file", &auth.jwt_secret_file),
        ("users_file", &auth.users_file),
        ("client_ca_file", &auth.client_ca_file),
        ("client_keys_file", &auth.client_keys_file),
        ("revoked_file", &auth.revoked_file),
    ]
}
