//! What a change of the ring does to messages, and to what is told of it.

use cpg::Event;

use super::choir::{Choir, node};

/// S5, S4: the only one who has heard a message is who sent it; those who go on together skip
/// it and deliver what came later.
#[test]
fn a_hole_is_passed_over_by_those_who_go_on_together() {
    let mut choir = Choir::new(3);
    choir.sim.lose_next(node(1), &[node(2), node(3)]);
    choir.send(0, "only at 1");
    choir.run(1);
    choir.send(1, "after the hole");
    choir.run(100);
    assert_eq!(choir.story(0), ["only at 1", "after the hole"]);
    assert_eq!(choir.story(1), [""; 0], "held up by the hole");
    choir.sim.part(&[&[node(2), node(3)]]);
    choir.settle();
    for singer in [1, 2] {
        let story = choir.story(singer);
        assert_eq!(story, ["after the hole", "2:2 3:3 -1:1 node down", "ring 2 3"]);
    }
    let seen = choir.sim.sightings();
    assert_eq!((seen.holes, seen.only_at_sender), (1, 1));
}

/// S4: behind a hole, only what those who go on together sent themselves.
#[test]
fn behind_a_hole_what_others_sent_is_skipped_too() {
    let mut choir = Choir::new(4);
    choir.sim.lose_next(node(1), &[node(2), node(3)]);
    choir.send(0, "lost");
    choir.run(1);
    choir.send(3, "received, but of 4");
    choir.run(1);
    choir.send(2, "received, of 3");
    choir.run(1);
    choir.sim.part(&[&[node(2), node(3)], &[node(1), node(4)]]);
    choir.settle();
    assert_eq!(choir.song(0)[..3], ["lost", "received, but of 4", "received, of 3"]);
    assert_eq!(choir.song(1), ["received, of 3", "2:2 3:3 -1:1 node down -4:4 node down"]);
    assert_eq!(choir.song(2), ["received, of 3", "2:2 3:3 -1:1 node down -4:4 node down"]);
}

/// S4: the same configuration, and different ends of it.
#[test]
fn those_who_part_deliver_different_ends() {
    let mut choir = Choir::new(3);
    choir.sim.lose_next(node(1), &[node(3)]);
    choir.send(0, "not at 3");
    choir.run(1);
    choir.sim.part(&[&[node(1), node(2)]]);
    choir.settle();
    assert_eq!(choir.song(0), ["not at 3", "1:1 2:2 -3:3 node down"]);
    assert_eq!(choir.song(1), ["not at 3", "1:1 2:2 -3:3 node down"]);
    assert_eq!(choir.song(2), ["3:3 -1:1 node down -2:2 node down"]);
    assert_eq!(choir.sim.sightings().partly_delivered, 1);
}

/// S7: a node that stood still hears at once that all left and that all joined.
#[test]
fn a_paused_node_hears_that_all_left_and_joined() {
    let mut choir = Choir::new(3);
    choir.sim.pause_daemon(node(3));
    choir.settle();
    choir.send(0, "missed");
    choir.settle();
    choir.sim.resume_daemon(node(3));
    choir.settle();
    assert_eq!(
        choir.story(1),
        ["1:1 2:2 -3:3 node down", "ring 1 2", "missed", "1:1 2:2 3:3 +3:3 node up", "ring 1 2 3"]
    );
    let story = choir.story(2);
    assert_eq!(story[0], "3:3 -1:1 node down -2:2 node down");
    assert!(story[1].starts_with("1:1 2:2 3:3 +"), "{story:?}");
    assert_eq!(story[2..], ["ring 1 2 3"]);
    assert_eq!(choir.sim.sightings().two_step_merges, 1);
}

/// S7: two rings at the same time may have one sequence, told apart by the representative.
#[test]
fn rings_of_different_parts_can_have_one_sequence() {
    let is_seen = (0..20).any(|seed| {
        let mut choir = Choir::with(seed, 2, Default::default());
        choir.sim.part(&[]);
        choir.settle();
        let ring = |singer: usize| {
            let rings = choir.singers[singer].heard.iter().filter_map(|event| match event {
                Event::Ring(ring) => Some(ring.id),
                _ => None,
            });
            rings.last().unwrap()
        };
        let (first, second) = (ring(0), ring(1));
        assert_ne!(first, second);
        first.sequence == second.sequence
    });
    assert!(is_seen);
}

/// S8: a cascade of changes hides an absence from who was absent.
#[test]
fn a_gap_can_be_silent() {
    let mut choir = Choir::new(3);
    choir.sim.pause_daemon(node(3));
    choir.settle();
    choir.send(0, "missed");
    choir.settle();
    choir.sim.stall_next_sync();
    choir.sim.resume_daemon(node(3));
    choir.run(1);
    choir.sim.lose_token(node(3));
    choir.settle();
    choir.send(0, "after");
    choir.settle();
    assert_eq!(choir.story(2), ["ring 1 2 3", "after"]);
    assert_eq!(
        choir.story(1),
        [
            "1:1 2:2 -3:3 node down",
            "ring 1 2",
            "missed",
            "1:1 2:2 3:3 +3:3 node up",
            "ring 1 2 3",
            "after"
        ]
    );
    let seen = choir.sim.sightings();
    assert_eq!((seen.silent_gaps, seen.aborted_rings), (1, 1));
}

/// S9: begun in the old ring, ended in the new one: nothing to those who were not in both.
#[test]
fn a_message_that_straddles_is_lost_where_nodes_merge() {
    let mut choir = Choir::new(3);
    choir.sim.part(&[&[node(1), node(2)]]);
    choir.settle();
    choir.sim.straddle_next(node(1));
    choir.send(0, "straddles");
    choir.send(0, "does not");
    choir.run(10);
    choir.sim.heal();
    choir.settle();
    let after = |story: Vec<String>| {
        let ring = story.iter().position(|line| line == "ring 1 2 3").unwrap();
        story[ring + 1..].to_vec()
    };
    assert_eq!(after(choir.story(0)), ["straddles", "does not"]);
    assert_eq!(after(choir.story(1)), ["straddles", "does not"]);
    assert_eq!(after(choir.story(2)), ["does not"]);
    assert_eq!(choir.sim.sightings().straddled, 1);
}

/// S13: a ring can be told although nothing changed in the group.
#[test]
fn a_ring_of_the_same_nodes_is_told_alone() {
    let mut choir = Choir::new(2);
    choir.send(0, "before");
    choir.run(1);
    choir.sim.lose_token(node(2));
    choir.settle();
    for singer in [0, 1] {
        assert_eq!(choir.story(singer), ["before", "ring 1 2"]);
    }
    assert_eq!(choir.sim.sightings().bare_rings, 2);
}

/// S13: a connection hears of rings before its own join, and of the same one twice.
#[test]
fn a_ring_can_come_before_the_own_join_and_twice() {
    let detection_max = std::time::Duration::from_millis(200);
    let faults = cpg::sim::Faults { detection_max, ..Default::default() };
    let mut choir = Choir::with(3, 1, faults);
    choir.sim.lose_token(node(1));
    let late = choir.join(1, 10);
    choir.settle();
    assert_eq!(choir.story(late), ["ring 1", "1:1 1:10 +1:10 join", "ring 1"]);
    assert_eq!(choir.sim.sightings().early_rings, 1);
}
