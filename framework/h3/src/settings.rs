//! Every QUIC and HTTP/3 number, each with its reason.

use std::time::Duration;

use pasque::config::{CongestionControl, Limits};
use quiche::h3;

use crate::tls::TlsContext;

/// Bytes of our connection IDs: one names the worker, seven are random.
pub(crate) const CID_LEN: usize = 8;

/// Connection IDs of the server's that a client may hold: one in use, and spares (RFC 9000 §9.5).
const CLIENT_CIDS: u64 = 4;

/// The same for a server, and at once how many addresses a client may have had in the life of a
/// connection: quiche takes one figure for both, and keeps a path of some 3 KiB until the connection
/// ends, because a path that has a connection ID is never dropped and one that has none is given the
/// next spare one. When all are used, nothing from a new address is taken any more.
const SERVER_CIDS: u64 = 32;

/// Datagrams that quiche keeps on receipt: everything that one turn reads, which is drained before
/// the turn ends. When it is full the oldest goes.
const DATAGRAM_RECV_QUEUE: usize = 4096;

/// Datagrams that quiche keeps for sending.
pub(crate) const DATAGRAM_SEND_QUEUE: usize = 1024;

/// Flows are not asked for more while this many datagrams wait, on a fast path: enough to fill a few GSO sends,
/// short enough that overload stays in the kernel's queue, where senders notice it.
pub(crate) const DATAGRAM_WATERMARK: usize = 128;

/// The same on a slow path: enough for one send.
pub(crate) const MIN_DATAGRAM_WATERMARK: usize = 16;

/// How long a datagram may wait behind others of its connection, between the two.
pub(crate) const QUEUE_TIME: Duration = Duration::from_millis(2);

/// The largest UDP payload that is tried: Ethernet's 1500 bytes less the IPv6 and UDP headers.
/// Packets start at 1200 bytes and path MTU discovery finds what fits (RFC 9000 §14).
pub(crate) const MAX_UDP_PAYLOAD: usize = 1452;

/// Content that a client may send before it is read, per stream, in bytes: at most, once it was read as fast as
/// it came.
const STREAM_WINDOW: u64 = 256 << 10;

/// The same on all streams.
const CONNECTION_WINDOW: u64 = 1 << 20;

/// What a client may send before any of it was read. Where it is sent a byte at a time, and the first one never,
/// quiche keeps some 150 bytes for each. It doubles what a reader keeps up with, as a client does what it sends
/// at first: an upload is slower by a round trip or two.
const FIRST_STREAM_WINDOW: u64 = 32 << 10;
const FIRST_CONNECTION_WINDOW: u64 = 128 << 10;

/// A client that reads a file wants a window of bandwidth × delay: 100 Mbit/s at 300 ms.
const CLIENT_STREAM_WINDOW: u64 = 4 << 20;
const CLIENT_CONNECTION_WINDOW: u64 = 8 << 20;

/// Unidirectional streams of the peer: control, two for QPACK (RFC 9114 §6.2 asks for three at
/// least), and room for reserved types: with these a peer of our kind probes the path, a dozen times
/// when it has become narrow. quiche gives none of them back, so they have to last.
const UNI_STREAMS: u64 = 64;

/// What a client sends to keep its connection alive, after this time without a packet.
pub(crate) const KEEPALIVE: Duration = Duration::from_millis(2500);

/// The same while the server is sending: a NAT that has forgotten the client passes on nothing until
/// the client sends, and a client that only receives sends nothing.
pub(crate) const KEEPALIVE_RECEIVING: Duration = Duration::from_millis(500);

/// A client gives up on a server that was asked to answer and has been silent for so long: three
/// keepalives were lost, and a user still learns of it within ten seconds.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(8);

/// What differs between connections.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) congestion_control: CongestionControl,
}

impl Settings {
    /// The transport settings of a server, for all its connections.
    pub(crate) fn server(&self, tls: TlsContext) -> quiche::Result<quiche::Config> {
        let mut config = self.common(tls)?;
        config.set_initial_max_data(FIRST_CONNECTION_WINDOW);
        config.set_initial_max_stream_data_bidi_remote(FIRST_STREAM_WINDOW);
        config.set_initial_max_stream_data_uni(FIRST_STREAM_WINDOW);
        config.set_initial_max_streams_bidi(self.limits.requests_per_connection as u64);
        config.set_active_connection_id_limit(SERVER_CIDS);
        config.set_max_connection_window(CONNECTION_WINDOW);
        config.set_max_stream_window(STREAM_WINDOW);
        Ok(config)
    }

    /// The transport settings of a client. `verify` leaves the certificate to TLS.
    pub(crate) fn client(&self, tls: TlsContext, verify: bool) -> quiche::Result<quiche::Config> {
        let mut config = self.common(tls)?;
        config.verify_peer(verify);
        config.set_active_connection_id_limit(CLIENT_CIDS);
        config.set_initial_max_data(CLIENT_CONNECTION_WINDOW);
        config.set_initial_max_stream_data_bidi_local(CLIENT_STREAM_WINDOW);
        config.set_initial_max_stream_data_uni(FIRST_STREAM_WINDOW);
        config.set_max_connection_window(CLIENT_CONNECTION_WINDOW);
        config.set_max_stream_window(CLIENT_STREAM_WINDOW);
        Ok(config)
    }

    fn common(&self, tls: TlsContext) -> quiche::Result<quiche::Config> {
        let mut config =
            quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls.0)?;
        config.set_application_protos(h3::APPLICATION_PROTOCOL)?;
        config.set_max_idle_timeout(self.limits.idle_timeout.as_millis() as u64);
        config.set_initial_max_streams_uni(UNI_STREAMS);
        // Address changes of a peer are followed (RFC 9000 §9).
        config.set_disable_active_migration(false);
        config.set_max_recv_udp_payload_size(65_527);
        config.set_max_send_udp_payload_size(MAX_UDP_PAYLOAD);
        config.discover_pmtu(true);
        config.enable_dgram(true, DATAGRAM_RECV_QUEUE, DATAGRAM_SEND_QUEUE);
        config.set_cc_algorithm(match self.congestion_control {
            CongestionControl::Cubic => quiche::CongestionControlAlgorithm::CUBIC,
            CongestionControl::Reno => quiche::CongestionControlAlgorithm::Reno,
            CongestionControl::Bbr2 => quiche::CongestionControlAlgorithm::Bbr2Gcongestion,
        });
        // Only BBR2 computes release times; with the others pacing is a promise nobody keeps.
        config.enable_pacing(false);
        config.enable_hystart(true);
        config.grease(true);
        if keylog_wanted() {
            config.log_keys();
        }
        Ok(config)
    }

    /// The HTTP/3 settings of either side. `SETTINGS_H3_DATAGRAM` follows from the transport.
    pub(crate) fn h3(&self, server: bool) -> h3::Result<h3::Config> {
        let mut config = h3::Config::new()?;
        config.set_max_field_section_size(self.limits.header_section_bytes as u64);
        // The static table only: nothing that a peer sends is remembered.
        config.set_qpack_max_table_capacity(0);
        config.set_qpack_blocked_streams(0);
        // Only a server announces extended CONNECT (RFC 9220 §3).
        config.enable_extended_connect(server);
        Ok(config)
    }
}

/// Whether TLS secrets are to be written, as `SSLKEYLOGFILE` asks for.
pub(crate) fn keylog_wanted() -> bool {
    std::env::var_os("SSLKEYLOGFILE").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: () = assert!(DATAGRAM_WATERMARK < DATAGRAM_SEND_QUEUE);
    const _: () = assert!(KEEPALIVE.as_millis() * 3 < DEAD_AFTER.as_millis());

    #[test]
    fn h3_28_early_data_is_never_enabled() {
        let code = include_str!("settings.rs");
        let call = ["enable_early", "_data("].concat();
        assert!(
            !code.contains(&call),
            "a replayed CONNECT would open a tunnel"
        );
    }
}
