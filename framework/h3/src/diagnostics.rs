//! What helps to look into a connection: qlog (`QLOGDIR`) and TLS secrets (`SSLKEYLOGFILE`).

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Once;
use std::{env, path::PathBuf};

use tracing::warn;

use crate::connection::Buffers;

/// Where a trace of each connection is wanted.
fn traces() -> Option<OsString> {
    env::var_os("QLOGDIR")
}

/// Where the secrets of each connection are wanted.
fn secrets() -> Option<OsString> {
    env::var_os("SSLKEYLOGFILE")
}

/// Says once what will be written, because either gives away what the connections carry.
pub(crate) fn announce() {
    static SAID: Once = Once::new();
    SAID.call_once(say);
}

fn say() {
    match traces() {
        Some(folder) if cfg!(feature = "qlog") => warn!(
            ?folder,
            "QLOGDIR is set: a trace of every connection is written there"
        ),
        Some(_) => {
            warn!("QLOGDIR is set, but no trace is written: build this with `--features qlog`")
        }
        None => {}
    }
    if let Some(file) = secrets() {
        warn!(
            ?file,
            "SSLKEYLOGFILE is set: whoever reads that file can read all traffic"
        );
    }
}

/// Starts what the environment asks for on a new connection.
pub(crate) fn attach(quic: &mut quiche::Connection<Buffers>) {
    if let Some(file) = secrets() {
        match private().open(&file) {
            Ok(file) => quic.set_keylog(Box::new(file)),
            Err(error) => warn!(?file, %error, "SSLKEYLOGFILE cannot be written"),
        }
    }
    if let Some(folder) = traces() {
        trace(quic, folder.into());
    }
}

#[cfg(feature = "qlog")]
fn trace(quic: &mut quiche::Connection<Buffers>, folder: PathBuf) {
    let side = if quic.is_server() { "server" } else { "client" };
    let file = folder.join(format!("{side}-{}.sqlog", quic.trace_id()));
    match private().open(&file) {
        Ok(open) => quic.set_qlog(Box::new(open), "pasque".into(), side.into()),
        Err(error) => warn!(?file, %error, "qlog cannot be written"),
    }
}

#[cfg(not(feature = "qlog"))]
fn trace(_: &mut quiche::Connection<Buffers>, _: PathBuf) {}

/// For the owner only, whatever the mask of the process lets others do.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options
}

#[cfg(all(test, feature = "qlog"))]
mod tests {
    use std::fs;
    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt;

    use crate::testing::transport_settings;

    use super::*;

    #[test]
    fn a_trace_is_written_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let [here, there] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (_, mut settings) = transport_settings();
        let id = quiche::ConnectionId::from_ref(&[1; 8]);
        let name = Some("localhost");
        let mut quic = quiche::connect_with_buffer_factory(name, &id, here, there, &mut settings);
        let quic = quic.as_mut().unwrap();
        trace(quic, folder.path().into());
        quic.send(&mut [0; 1500]).unwrap();
        let written = fs::read_dir(&folder).unwrap().map(Result::unwrap);
        let [file] = Vec::from_iter(written).try_into().unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let trace = fs::read_to_string(file.path()).unwrap();
        assert!(trace.contains("packet_sent"), "{trace}");
    }
}
