//! Effects of a ring change on messages and on membership events.

use cpg::Event;

use super::test_group::{TestGroup, node};

/// S5, S4: the only one who has heard a message is who sent it; those who go on together skip
/// it and deliver what came later.
#[test]
fn a_hole_is_passed_over_by_those_who_go_on_together() {
    let mut group = TestGroup::new(3);
    group.sim.lose_next(node(1), &[node(2), node(3)]);
    group.send(0, "only at 1");
    group.run(1);
    group.send(1, "after the hole");
    group.run(100);
    assert_eq!(group.trace(0), ["only at 1", "after the hole"]);
    assert_eq!(group.trace(1), [""; 0], "held up by the hole");
    group.sim.part(&[&[node(2), node(3)]]);
    group.settle();
    for member in [1, 2] {
        let trace = group.trace(member);
        assert_eq!(trace, ["after the hole", "2:2 3:3 -1:1 node down", "ring 2 3"]);
    }
    let seen = group.sim.observed();
    assert_eq!((seen.holes, seen.only_at_sender), (1, 1));
}

/// S4: behind a hole, only what those who go on together sent themselves.
#[test]
fn behind_a_hole_what_others_sent_is_skipped_too() {
    let mut group = TestGroup::new(4);
    group.sim.lose_next(node(1), &[node(2), node(3)]);
    group.send(0, "lost");
    group.run(1);
    group.send(3, "received, but of 4");
    group.run(1);
    group.send(2, "received, of 3");
    group.run(1);
    group.sim.part(&[&[node(2), node(3)], &[node(1), node(4)]]);
    group.settle();
    assert_eq!(group.trace_without_rings(0)[..3], ["lost", "received, but of 4", "received, of 3"]);
    assert_eq!(
        group.trace_without_rings(1),
        ["received, of 3", "2:2 3:3 -1:1 node down -4:4 node down"]
    );
    assert_eq!(
        group.trace_without_rings(2),
        ["received, of 3", "2:2 3:3 -1:1 node down -4:4 node down"]
    );
}

/// S4: the same configuration, and different ends of it.
#[test]
fn those_who_part_deliver_different_ends() {
    let mut group = TestGroup::new(3);
    group.sim.lose_next(node(1), &[node(3)]);
    group.send(0, "not at 3");
    group.run(1);
    group.sim.part(&[&[node(1), node(2)]]);
    group.settle();
    assert_eq!(group.trace_without_rings(0), ["not at 3", "1:1 2:2 -3:3 node down"]);
    assert_eq!(group.trace_without_rings(1), ["not at 3", "1:1 2:2 -3:3 node down"]);
    assert_eq!(group.trace_without_rings(2), ["3:3 -1:1 node down -2:2 node down"]);
    assert_eq!(group.sim.observed().partly_delivered, 1);
}

/// S7: a node that stood still hears at once that all left and that all joined.
#[test]
fn a_paused_node_hears_that_all_left_and_joined() {
    let mut group = TestGroup::new(3);
    group.sim.pause_daemon(node(3));
    group.settle();
    group.send(0, "missed");
    group.settle();
    group.sim.resume_daemon(node(3));
    group.settle();
    assert_eq!(
        group.trace(1),
        ["1:1 2:2 -3:3 node down", "ring 1 2", "missed", "1:1 2:2 3:3 +3:3 node up", "ring 1 2 3"]
    );
    let trace = group.trace(2);
    assert_eq!(trace[0], "3:3 -1:1 node down -2:2 node down");
    assert!(trace[1].starts_with("1:1 2:2 3:3 +"), "{trace:?}");
    assert_eq!(trace[2..], ["ring 1 2 3"]);
    assert_eq!(group.sim.observed().two_step_merges, 1);
}

/// S7: two rings at the same time may have one sequence, told apart by the representative.
#[test]
fn rings_of_different_parts_can_have_one_sequence() {
    let is_seen = (0..20).any(|seed| {
        let mut group = TestGroup::with(seed, 2, Default::default());
        group.sim.part(&[]);
        group.settle();
        let ring = |member: usize| {
            let rings = group.members[member].heard.iter().filter_map(|event| match event {
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
    let mut group = TestGroup::new(3);
    group.sim.pause_daemon(node(3));
    group.settle();
    group.send(0, "missed");
    group.settle();
    group.sim.stall_next_sync();
    group.sim.resume_daemon(node(3));
    group.run(1);
    group.sim.lose_token(node(3));
    group.settle();
    group.send(0, "after");
    group.settle();
    assert_eq!(group.trace(2), ["ring 1 2 3", "after"]);
    assert_eq!(
        group.trace(1),
        [
            "1:1 2:2 -3:3 node down",
            "ring 1 2",
            "missed",
            "1:1 2:2 3:3 +3:3 node up",
            "ring 1 2 3",
            "after"
        ]
    );
    let seen = group.sim.observed();
    assert_eq!((seen.silent_gaps, seen.aborted_rings), (1, 1));
}

/// S9: begun in the old ring, ended in the new one: nothing to those who were not in both.
#[test]
fn a_message_that_straddles_is_lost_where_nodes_merge() {
    let mut group = TestGroup::new(3);
    group.sim.part(&[&[node(1), node(2)]]);
    group.settle();
    group.sim.straddle_next(node(1));
    group.send(0, "straddles");
    group.send(0, "does not");
    group.run(10);
    group.sim.heal();
    group.settle();
    let after = |trace: Vec<String>| {
        let ring = trace.iter().position(|line| line == "ring 1 2 3").unwrap();
        trace[ring + 1..].to_vec()
    };
    assert_eq!(after(group.trace(0)), ["straddles", "does not"]);
    assert_eq!(after(group.trace(1)), ["straddles", "does not"]);
    assert_eq!(after(group.trace(2)), ["does not"]);
    assert_eq!(group.sim.observed().straddled, 1);
}

/// S13: a ring can be told although nothing changed in the group.
#[test]
fn a_ring_of_the_same_nodes_is_told_alone() {
    let mut group = TestGroup::new(2);
    group.send(0, "before");
    group.run(1);
    group.sim.lose_token(node(2));
    group.settle();
    for member in [0, 1] {
        assert_eq!(group.trace(member), ["before", "ring 1 2"]);
    }
    assert_eq!(group.sim.observed().bare_rings, 2);
}

/// S13: a connection hears of rings before its own join, and of the same one twice.
#[test]
fn a_ring_can_come_before_the_own_join_and_twice() {
    let detection_max = std::time::Duration::from_millis(200);
    let faults = cpg::sim::Faults { detection_max, ..Default::default() };
    let mut group = TestGroup::with(3, 1, faults);
    group.sim.lose_token(node(1));
    let late = group.join(1, 10);
    group.settle();
    assert_eq!(group.trace(late), ["ring 1", "1:1 1:10 +1:10 join", "ring 1"]);
    assert_eq!(group.sim.observed().early_rings, 1);
}
