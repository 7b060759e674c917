//! The control socket: how `psq-server reload` reaches the server that runs, and gets an answer.
//!
//! One line goes each way. Whoever connects is heard only if the kernel says that it is root or the
//! server's own user.

#[cfg(test)]
mod tests;

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Caller;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

/// The only order there is.
const RELOAD: &str = "reload";

/// How an answer begins: done, or not done.
const DONE: &str = "done: ";
const REFUSED: &str = "refused: ";

/// Bytes of an order at most, and of an answer.
const MAX_ORDER: u64 = 64;
const MAX_ANSWER: u64 = 64 << 10;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long `psq-server reload` waits for the answer: endpoints may take their time to start.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// An order to reload, which wants to be told the outcome.
pub(crate) struct Order(oneshot::Sender<Result<String, String>>);

impl Order {
    /// Tells who gave the order.
    pub(crate) fn answer(self, outcome: Result<String, String>) {
        // Whoever has gone does not want to know.
        let _ = self.0.send(outcome);
    }
}

/// The socket of this server. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    /// Tells our socket from one that somebody else has put there meanwhile.
    file: (u64, u64),
    orders: mpsc::Receiver<Order>,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens at `path`. A socket that a server has left there which was killed is replaced.
    ///
    /// # Errors
    /// Another server answers there, or the socket cannot be made.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        // Two servers that start at once look one after the other.
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = File::open(folder)?;
        flock(&folder, FlockOperation::LockExclusive)?;
        clear(path)?;
        let listener = UnixListener::bind(path)?;
        // Until here others could connect. They are turned away all the same.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let file = place(&fs::symlink_metadata(path)?);
        let (sender, orders) = mpsc::channel(1);
        Ok(Self {
            path: path.into(),
            file,
            orders,
            task: tokio::spawn(listen(listener, sender)),
        })
    }

    /// The next order.
    pub(crate) async fn next(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            // The task has ended, so there is none any more.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if fs::symlink_metadata(&self.path).is_ok_and(|found| place(&found) == self.file) {
            // Where the folder is another user's, the next start replaces what stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file it is, whatever its name.
fn place(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Makes way for a socket at `path`.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other(
                "there is something that is no socket: remove it, or choose another path",
            ));
        }
        Ok(_) => {}
    }
    match Caller::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other(
            "another server answers there: stop it, or choose another path",
        )),
    }
}

/// Hears one caller after the other.
async fn listen(listener: UnixListener, orders: mpsc::Sender<Order>) {
    loop {
        match listener.accept().await {
            Ok((caller, _)) => match hear(caller, &orders).await {
                Ok(()) => {}
                Err(error) => debug!(%error, "control socket"),
            },
            Err(error) => {
                // Out of descriptors: there may be some again soon.
                warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn hear(mut caller: UnixStream, orders: &mpsc::Sender<Order>) -> io::Result<()> {
    let user = caller.peer_cred()?.uid();
    if user != 0 && user != geteuid().as_raw() {
        warn!(user, "turned away at the control socket");
        return Ok(());
    }
    let mut line = String::new();
    let mut reader = BufReader::new(&mut caller).take(MAX_ORDER);
    timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let outcome = match line.trim_end() {
        RELOAD => {
            let (answer, answered) = oneshot::channel();
            if orders.send(Order(answer)).await.is_err() {
                return Ok(());
            }
            let ended = |_| Err("the server has ended meanwhile".into());
            answered.await.unwrap_or_else(ended)
        }
        _ => Err("the order is not understood".into()),
    };
    let answer = match outcome {
        Ok(text) => format!("{DONE}{text}\n"),
        Err(text) => format!("{REFUSED}{text}\n"),
    };
    timeout(PATIENCE, caller.write_all(answer.as_bytes())).await?
}

/// Has the server at `path` reload. `Ok` is its answer: what it did, or why it did not.
///
/// # Errors
/// There is no answer.
pub(crate) fn order_reload(path: &Path) -> io::Result<Result<String, String>> {
    let mut server = Caller::connect(path)?;
    server.set_read_timeout(Some(ANSWER_TIME))?;
    server.write_all(format!("{RELOAD}\n").as_bytes())?;
    let mut answer = String::new();
    server.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let answer = answer.trim_end();
    if let Some(text) = answer.strip_prefix(DONE) {
        return Ok(Ok(text.to_owned()));
    }
    match answer.strip_prefix(REFUSED) {
        Some(text) => Ok(Err(text.to_owned())),
        None => Err(io::Error::other(
            "it did not answer: only root and the server's own user are heard",
        )),
    }
}
