//! IP tunnels between network namespaces: `psq-server` and `psq-client -i` on real interfaces, with a
//! router that loses packets between them and a target behind them. Takes root, and fails without.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

mod addresses;
mod capture;
mod changes;
mod congestion;
mod craft;
mod early;
mod foreign;
mod harness;
mod inject;
mod lab;
mod leaks;
mod listening;
mod local;
mod multicast;
mod path;
mod policy_matrix;
mod privileges;
mod probe;
mod readme;
mod reconnect;
mod restore;
mod sites;
mod spoofing;
mod suite;
mod transfer;
mod tunnel;

/// Makes a test of each function in each [`Mode`](crate::lab::Mode).
macro_rules! in_every_mode {
    ($($test:ident),* $(,)?) => {
        $crate::in_every_mode!(@ auto_client, $crate::lab::Mode::AUTO_CLIENT, $($test)*);
        $crate::in_every_mode!(@ auto_shared, $crate::lab::Mode::AUTO_SHARED, $($test)*);
        $crate::in_every_mode!(@ plain_client, $crate::lab::Mode::PLAIN_CLIENT, $($test)*);
        $crate::in_every_mode!(@ plain_shared, $crate::lab::Mode::PLAIN_SHARED, $($test)*);
    };
    (@ $module:ident, $mode:expr, $($test:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($mode).await;
                }
            )*
        }
    };
}
use in_every_mode;
