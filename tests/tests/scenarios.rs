//! Plays every scenario in `scenarios/` and compares the events with the recorded ones. `REWRITE=1`
//! records them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use plainsong_tests::scenario::Scenario;

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )*

        #[test]
        fn every_scenario_file_is_played() {
            let played: BTreeSet<_> = [$(concat!(stringify!($name), ".txt")),*].map(String::from).into();
            let files = std::fs::read_dir(DIRECTORY).unwrap();
            let found = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            assert_eq!(found.collect::<BTreeSet<_>>(), played);
        }
    };
}

scenarios! {
    answer_lost_with_its_sequencer
    bootstrap
    copied_data_folder
    donor_loss
    duelling_coordinators
    entries_from_the_store
    figure_8
    forced_new_cluster
    lagging_replica_installs_a_snapshot
    late_alarm
    learner_outlives_the_voters
    lost_quorum_and_its_return
    message_lost_before_a_ring_change
    new_learner_fetches_the_log
    old_cluster_reappears_beside_a_forced_one
    partition_and_heal
    read_of_an_earlier_epoch
    read_over_a_partition
    removed_sequencer
    second_group_beside_hung_members
    sequencer_loss
    silent_gap
    stepped_clocks
    straddled_message
    two_clusters_in_one_group
    two_voters_admitted_at_once
    voter_replaced_after_a_wiped_disk
    voter_wiped_while_it_is_admitted
    wake_up_in_an_idle_group
}

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

fn play(name: &str) {
    let mut scenario = Some(Scenario::default());
    datadriven::walk(&format!("{DIRECTORY}/{name}.txt"), |file| {
        let mut scenario = scenario.take().expect("one file");
        file.run(|case| scenario.play(case));
    });
}
