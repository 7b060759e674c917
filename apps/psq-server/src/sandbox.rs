//! What of the file system the process may open: what its configuration names, and what the libraries
//! read of the system. Landlock keeps it to that, where the kernel has it.
//!
//! Like the rest of [privileges](crate::privileges), this belongs to threads, and is done before there
//! is a second one.

#[cfg(test)]
mod tests;

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, make_bitflags,
};
use pasque::FileUse;
use pasque::config::{self, ServerConfig};
use rustix::process::geteuid;
use tracing::{info, warn};

use crate::privileges::check_alone;

/// The newest version of Landlock whose restrictions are meant here. What an older kernel lacks of it is
/// not enforced there.
const VERSION: ABI = ABI::V7;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// Also what a database or a download takes: a file beside the one that it replaces. No devices, no
/// links, and nothing that is run.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | IoctlDev | RemoveFile | RemoveDir | MakeReg
    | MakeDir | MakeSock | Refer
});

/// A socket, made and removed, and the lock on its folder: no file there can be written.
const SOCKET: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});

/// What the libraries read of the system. `/proc` as a whole: its folders of processes are made anew in
/// the kernel now and then, and would no longer be those that were allowed. What is secret of other
/// processes there, a confined one does not get.
const SYSTEM: &[&str] = &[
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/sys/class/net",
    "/sys/devices/virtual/net",
    "/dev/null",
    "/dev/urandom",
    "/usr/share/zoneinfo",
];

/// What is read in `/etc`: how names are resolved. These are files that programs replace, so whoever
/// is not root, to whom nothing in `/etc` is secret, reads the folder instead.
const SYSTEM_CONFIGURATION: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
];

/// What the process has confined itself to.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The folders and files that may be opened; `None` where nothing is confined.
    open: Option<Vec<Opened>>,
}

/// A rule that is in force: it holds for the file itself, wherever it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opened {
    device: u64,
    inode: u64,
    is_written: bool,
}

/// A rule that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    path: PathBuf,
    access: BitFlags<AccessFs>,
}

impl Sandbox {
    /// Confines the process to what serving `config` takes, as far as the kernel can. Says once in the
    /// log how far that is.
    ///
    /// # Errors
    /// There are other threads, or the kernel refuses. The process is not to go on then.
    pub(crate) fn enter(config: &ServerConfig) -> io::Result<Self> {
        if config.sandbox == config::Sandbox::Off {
            warn!("files: not confined, because the configuration says \"sandbox\": false");
            return Ok(Self { open: None });
        }
        check_alone()?;
        if let Some(control) = &config.control {
            warn_of_folder(control, config);
        }
        let grants = grants(config, geteuid().is_root());
        let status = restrict(&grants).map_err(io::Error::other)?;
        let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
            warn!("files: not confined, because the kernel has no Landlock");
            return Ok(Self { open: None });
        };
        let extent = match status.ruleset {
            RulesetStatus::FullyEnforced => "",
            _ => ", not all that newer ones do",
        };
        let version = effective_abi as i32;
        info!(
            "files: confined to {} paths by Landlock {version}{extent}",
            grants.len()
        );
        let open = grants.iter().filter_map(Grant::opened).collect();
        Ok(Self { open: Some(open) })
    }

    /// Whether `file` is inside of what the process has confined itself to.
    pub(crate) fn allows(&self, file: &FileUse) -> bool {
        let Some(open) = &self.open else {
            return true;
        };
        // Where it really is: links lead where they lead, and what is not there yet comes into its folder.
        let mut named = file.path.ancestors().map(|path| match path.as_os_str() {
            name if name.is_empty() => Path::new("."),
            _ => path,
        });
        let Some(place) = named.find_map(|path| path.canonicalize().ok()) else {
            return false;
        };
        place.ancestors().any(|path| {
            fs::metadata(path).is_ok_and(|found| {
                open.iter().any(|rule| {
                    (rule.device, rule.inode) == (found.dev(), found.ino())
                        && (rule.is_written || !file.is_written)
                })
            })
        })
    }
}

impl Grant {
    fn new(path: impl Into<PathBuf>, access: BitFlags<AccessFs>) -> Self {
        Self {
            path: path.into(),
            access,
        }
    }

    /// What of it lets files be opened: a place for a socket is none.
    fn opened(&self) -> Option<Opened> {
        if !self.access.contains(AccessFs::ReadFile) {
            return None;
        }
        let found = fs::metadata(&self.path).ok()?;
        Some(Opened {
            device: found.dev(),
            inode: found.ino(),
            is_written: self.access.contains(AccessFs::WriteFile),
        })
    }
}

/// Everything that may be opened. What is not there is left out.
fn grants(config: &ServerConfig, is_root: bool) -> Vec<Grant> {
    let mut grants: Vec<Grant> = SYSTEM.iter().map(|path| Grant::new(*path, READ)).collect();
    match is_root {
        true => grants.extend(
            SYSTEM_CONFIGURATION
                .iter()
                .map(|path| Grant::new(*path, READ)),
        ),
        false => grants.push(Grant::new("/etc", READ)),
    }
    // Often a link to the folder of a program that replaces the file.
    let resolvers = fs::canonicalize("/etc/resolv.conf");
    if let Some(folder) = resolvers.as_deref().ok().map(folder_of)
        && folder != Path::new("/etc")
    {
        grants.push(Grant::new(folder, READ));
    }

    let mut files = config.files();
    if let config::Sandbox::Confined { read, write } = &config.sandbox {
        files.extend(read.iter().map(FileUse::read));
        files.extend(write.iter().map(FileUse::write));
    }
    // Both are for looking into connections, and warned of by themselves.
    let traces = if cfg!(feature = "qlog") {
        &["QLOGDIR", "SSLKEYLOGFILE"][..]
    } else {
        &["SSLKEYLOGFILE"]
    };
    let traces = traces.iter();
    files.extend(traces.filter_map(env::var_os).map(FileUse::write));
    if env::var_os("RUST_BACKTRACE").is_some() {
        // For the names of functions.
        grants.extend(env::current_exe().map(|program| Grant::new(program, READ)));
    }
    grants.extend(files.iter().flat_map(grants_for));
    if let Some(control) = &config.control {
        grants.push(Grant::new(folder_of(control), SOCKET));
    }

    grants.retain(|grant| grant.path.exists());
    let mut once: Vec<Grant> = Vec::with_capacity(grants.len());
    for grant in grants {
        if !once.contains(&grant) {
            once.push(grant);
        }
    }
    once
}

fn grants_for(file: &FileUse) -> Vec<Grant> {
    let path = &file.path;
    match (fs::metadata(path), file.is_written) {
        (Ok(found), false) if found.is_file() => folders(path, READ).collect(),
        (Ok(_), false) => vec![Grant::new(path, READ)],
        // Of a file that is there its folder need not be writable.
        (Ok(_), true) => vec![Grant::new(path, WRITE)],
        (Err(_), false) => vec![Grant::new(folder_of(path), READ)],
        (Err(_), true) => vec![Grant::new(folder_of(path), WRITE)],
    }
}

/// The folder in which a file is named, and that in which it is: the next version of a file is another
/// one of the same name, and a link may lead to it. The root of the file system would be everything, so
/// there it is the file alone.
fn folders(file: &Path, access: BitFlags<AccessFs>) -> impl Iterator<Item = Grant> {
    let target = file.canonicalize().unwrap_or_else(|_| file.into());
    [file.to_owned(), target].into_iter().map(move |file| {
        let folder = folder_of(&file).to_owned();
        match folder == Path::new("/") {
            true => Grant::new(file, access),
            false => Grant::new(folder, access),
        }
    })
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A socket is made and removed in its folder, and so could be everything else there.
fn warn_of_folder(control: &Path, config: &ServerConfig) {
    let canonical = |path: &Path| folder_of(path).canonicalize().ok();
    let folder = canonical(control);
    let holds = |file: &FileUse| canonical(&file.path).is_some_and(|it| Some(it) == folder);
    if folder.as_deref() == Some(Path::new("/")) || config.files().iter().any(holds) {
        warn!(
            "control: files that the server needs are in the folder of its socket, where it may remove \
             them; put it into a folder of its own"
        );
    }
}

fn restrict(grants: &[Grant]) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))?
        // Signals to others, too: the server sends none.
        .scope(Scope::Signal)?
        .create()?;
    for grant in grants {
        // What has gone meanwhile is not there to be opened.
        let Ok(file) = PathFd::new(&grant.path) else {
            continue;
        };
        let access = match grant.path.is_dir() {
            true => grant.access,
            false => grant.access & AccessFs::from_file(VERSION),
        };
        ruleset = ruleset.add_rule(PathBeneath::new(file, access))?;
    }
    ruleset.restrict_self()
}
