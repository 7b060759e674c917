//! [`Process`]: a program that runs, and what it has said so far.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::PATIENCE;

/// A program that runs, and the lines that it has printed on either stream. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts `program`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        Self::spawn(program, Command::new(program).args(arguments))
    }

    fn spawn(program: &Path, command: &mut Command) -> io::Result<Self> {
        heed_hangup()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program:?}: {error}")))?;
        let (sender, lines) = watch::channel(Vec::new());
        let readers = [
            tokio::spawn(read(child.stdout.take(), sender.clone())),
            tokio::spawn(read(child.stderr.take(), sender)),
        ];
        let program = program.to_owned();
        Ok(Self {
            program,
            child,
            lines,
            readers,
        })
    }

    /// Waits for a line that holds `wanted`, and returns the first one.
    ///
    /// # Errors
    /// When the program ends before, or has not printed one in time; with all that it printed.
    pub async fn line(&mut self, wanted: &str) -> io::Result<String> {
        let found = |lines: &Vec<String>| lines.iter().find(|line| line.contains(wanted)).cloned();
        let result = {
            let waiting = self.lines.wait_for(|lines| found(lines).is_some());
            match timeout(PATIENCE, waiting).await {
                Ok(Ok(lines)) => Ok(found(&lines).unwrap_or_default()),
                Ok(Err(_closed)) => Err("ended"),
                Err(_late) => Err("took too long"),
            }
        };
        result.map_err(|what| self.failure(&format!("{what} without a line that has {wanted:?}")))
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// The process ID, as long as the process was not waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal; does nothing to a process that has ended.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?))
        {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Ok(()),
        }
    }

    /// Asks it to end, as a service manager would, and waits until it has.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub async fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.exit().await
    }

    /// Waits for its end, and for all that it has printed.
    ///
    /// # Errors
    /// When it has not ended in time.
    pub async fn exit(&mut self) -> io::Result<ExitStatus> {
        let status = match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status?,
            Err(_late) => return Err(self.failure("does not end")),
        };
        for reader in &mut self.readers {
            // A child of its own may keep the stream open: that is no reason to wait for ever.
            let _ = timeout(PATIENCE, reader).await;
        }
        Ok(status)
    }

    fn failure(&self, what: &str) -> io::Error {
        let name = self.program.file_name().unwrap_or_default().display();
        io::Error::other(format!("{name} {what}; it printed:\n{}", self.output()))
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, sender: watch::Sender<Vec<String>>) {
    let Some(stream) = stream else { return };
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        sender.send_modify(|lines| lines.push(line));
    }
}

/// Sees to it that programs do not ignore SIGHUP because `nohup make test` does: what this process catches
/// is back to its default in those that it starts.
fn heed_hangup() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is that of the first signal.
    if mask.is_some_and(|mask| mask & 1 != 0) {
        // It stays caught.
        drop(signal(SignalKind::hangup())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Path::new("/bin/sh"), ["-c", script]).unwrap()
    }

    #[tokio::test]
    async fn lines_of_both_streams_are_kept() {
        let mut process = shell("echo out; echo err >&2; exit 3");
        assert_eq!(process.line("ou").await.unwrap(), "out");
        assert_eq!(process.line("err").await.unwrap(), "err");
        assert_eq!(process.exit().await.unwrap().code(), Some(3));
        let error = process.line("never").await.unwrap_err().to_string();
        assert!(
            error.contains("sh ended without") && error.contains("out"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn dropping_kills() {
        let mut process = shell("echo ready; exec sleep 60");
        process.line("ready").await.unwrap();
        let pid = Pid::from_raw(process.id().unwrap() as i32).unwrap();
        drop(process);
        let gone = async {
            while rustix::process::test_kill_process(pid).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("the process ends");
    }
}
