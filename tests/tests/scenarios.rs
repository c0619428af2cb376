//! Every story in `scenarios/` goes as it is written there. `REWRITE=1` records them anew.
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
        fn every_story_is_played() {
            let played: BTreeSet<_> = [$(concat!(stringify!($name), ".txt")),*].map(String::from).into();
            let files = std::fs::read_dir(DIRECTORY).unwrap();
            let told = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            assert_eq!(told.collect::<BTreeSet<_>>(), played);
        }
    };
}

scenarios! {
    bootstrap
    donor_loss
    duelling_coordinators
    figure_8
    forced_new_cluster
    hole_before_a_ring_change
    idle_wake_up
    join
    lost_quorum_and_its_return
    partition_and_heal
    sequencer_loss
    silent_gap
    straddled_message
    two_voters_at_once
    voter_replaced_after_a_wiped_disk
}

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

fn play(name: &str) {
    datadriven::walk(&format!("{DIRECTORY}/{name}.txt"), |file| {
        let mut scenario = Scenario::default();
        file.run(|case| scenario.play(case));
    });
}
