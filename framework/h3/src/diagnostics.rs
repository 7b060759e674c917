//! What helps to look into a connection: qlog (`QLOGDIR`) and TLS secrets (`SSLKEYLOGFILE`).

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use tracing::warn;

use crate::connection::Buffers;

/// Says at start what will be written, because either gives away what the connections carry.
pub(crate) fn announce() {
    if let Some(folder) = std::env::var_os("QLOGDIR") {
        warn!(
            ?folder,
            "QLOGDIR is set: a trace of every connection is written there"
        );
    }
    if let Some(file) = std::env::var_os("SSLKEYLOGFILE") {
        warn!(
            ?file,
            "SSLKEYLOGFILE is set: whoever reads that file can read all traffic"
        );
    }
}

/// Starts what the environment asks for on a new connection.
pub(crate) fn attach(quic: &mut quiche::Connection<Buffers>) {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    if let Some(file) = std::env::var_os("SSLKEYLOGFILE") {
        match options.open(&file) {
            Ok(file) => quic.set_keylog(Box::new(file)),
            Err(error) => warn!(?file, %error, "SSLKEYLOGFILE cannot be written"),
        }
    }
    if let Some(folder) = std::env::var_os("QLOGDIR") {
        let side = if quic.is_server() { "server" } else { "client" };
        let file = PathBuf::from(folder).join(format!("{side}-{}.sqlog", quic.trace_id()));
        match options.open(&file) {
            Ok(open) => quic.set_qlog(Box::new(open), "pasque".into(), side.into()),
            Err(error) => warn!(?file, %error, "qlog cannot be written"),
        }
    }
}
