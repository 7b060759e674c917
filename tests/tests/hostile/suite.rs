//! The scenarios of `make hostile`, each at reduced length.

use pasque_tests::hostile::table::{Part, ROWS};
use pasque_tests::{Figures, Length};

use crate::QUIET;

/// Runs the scenarios of the row `name`, and fails of a bound that is broken.
async fn run(name: &str) {
    let _alone = QUIET.write().await;
    let row = ROWS.iter().find(|row| row.name == name).expect("a row");
    let mut figures = Figures::default();
    for part in row.parts {
        match part {
            Part::Scenario(scenario) => figures.extend(scenario(Length::Short).await),
            // They are run by their own programs.
            Part::Tests(_) => {}
        }
    }
    assert!(!figures.all().is_empty(), "{name} has a scenario");
    figures.check();
}

/// Makes a test of each row.
macro_rules! suite {
    ($($(#[$attribute:meta])* $test:ident: $row:literal),* $(,)?) => {
        $(
            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                run($row).await;
            }
        )*

        /// Those that have a test here.
        const TESTED: &[&str] = &[$($row),*];
    };
}

suite! {
    datagrams_that_are_no_quic_disturb_nobody: "garbage",
    hdg_13_datagrams_of_streams_that_are_none_cost_nothing: "streamless",
    udp_43_context_ids_cost_nothing_and_harm_nothing: "contexts",
    hdg_19_37_capsules_that_promise_much_or_are_not_read_cost_little: "capsules",
    h3_29_a_flood_of_resets_ends_the_connection_of_whoever_sends_it: "resets",
    handshakes_that_are_abandoned_leave_nothing_and_keep_nobody_out: "handshakes",
    forged_addresses_are_not_answered_with_more_than_came: "spoofed",
    fs_29_readers_that_do_not_read_delay_nobody: "readers",
    what_waits_for_clients_that_have_fallen_silent_is_bounded: "silent",
    what_is_kept_for_clients_that_withhold_one_packet_is_bounded: "hoarders",
    nothing_is_left_of_clients_that_come_go_and_vanish: "leaks",
    h3_19_sigterm_under_load_is_obeyed_and_told_to_all: "stop",
    udp_16_out_of_descriptors_new_tunnels_get_503_and_old_ones_live: "descriptors",
    udp_13_names_that_are_never_resolved_hold_up_nobody_else: "names",
    two_thousand_wrong_passwords_a_second_disturb_nobody_else: "logins",
    a_flood_of_everything_fits_into_the_memory_there_is: "memory",
    near_its_budget_of_memory_a_server_sheds_load_and_recovers: "budget",
    text_of_peers_cannot_forge_lines_in_the_log: "log",
}

#[test]
fn every_row_with_a_scenario_has_a_test_here() {
    let has_scenario = |part: &Part| matches!(part, Part::Scenario(_));
    let rows = ROWS.iter().filter(|row| row.parts.iter().any(has_scenario));
    assert_eq!(rows.map(|row| row.name).collect::<Vec<_>>(), TESTED);
}
