//! Who is listed as a member, and is not one.

use cpg::sim::Faults;

use super::choir::{Choir, node};

/// S11: the list of a node that died in a sync is believed in the next.
#[test]
fn a_member_can_be_listed_after_its_node_died() {
    let mut choir = Choir::new(3);
    choir.sim.part(&[&[node(1), node(2)]]);
    choir.settle();
    choir.sim.stall_next_sync();
    choir.sim.heal();
    choir.run(1);
    choir.sim.kill_daemon(node(3));
    choir.settle();
    let ghost = "1:1 2:2 3:3 +3:3 node up";
    assert_eq!(choir.story(0), ["1:1 2:2 -3:3 node down", "ring 1 2", ghost, "ring 1 2"]);
    assert_eq!(choir.sim.sightings().ghosts, 2);
    choir.run(10_000);
    assert_eq!(choir.story(1).last().unwrap(), "ring 1 2", "it stays");
    choir.sim.lose_token(node(1));
    choir.settle();
    assert_eq!(choir.story(0), ["1:1 2:2 -3:3 process down", "ring 1 2"]);
}

/// S11: a departure that is ordered among the lists of a sync is undone by them.
#[test]
fn a_member_can_be_listed_after_it_died_in_a_sync() {
    let mut choir = Choir::with(0, 3, Faults { ghosts: 1000, ..Faults::default() });
    choir.sim.part(&[&[node(1), node(2)]]);
    choir.settle();
    choir.story(1);
    choir.sim.stall_next_sync();
    choir.sim.lose_token(node(1));
    choir.run(1);
    choir.sim.close(choir.singers[0].id);
    choir.run(1);
    choir.sim.lose_token(node(1));
    choir.settle();
    let told = ["2:2 -1:1 process down", "1:1 2:2 +1:1 node up", "ring 1 2"];
    assert_eq!(choir.story(1), told);
    assert_eq!(choir.sim.members(node(1)).len(), 1, "its own node knows better");
    assert_eq!(choir.sim.members(node(2)).len(), 2);
}

/// S11: a join that waits is overtaken by the departure, and is never taken back.
#[test]
fn a_member_can_be_listed_that_died_before_it_joined() {
    let faults =
        Faults { detection_max: std::time::Duration::from_millis(300), ..Faults::default() };
    let mut choir = Choir::with(1, 2, faults);
    choir.sim.lose_token(node(1));
    let ghost = choir.sim.join(node(1), cpg::Pid(10)).unwrap();
    choir.run(1);
    choir.sim.stall_next_sync();
    choir.run_into_sync(0);
    choir.sim.close(ghost);
    choir.sim.lose_token(node(1));
    choir.settle();
    for id in [1, 2] {
        assert!(choir.sim.members(node(id)).iter().any(|member| member.pid.0 == 10));
    }
    assert_eq!(choir.sim.sightings().ghosts, 1);
}

/// S11 and S8: who died while a node was away, which heard of no absence, is told as a dead
/// process of a node that never left.
#[test]
fn a_member_that_vanished_during_a_silent_gap_is_a_dead_process() {
    let mut choir = Choir::new(3);
    choir.sim.pause_daemon(node(1));
    choir.settle();
    choir.sim.close(choir.singers[2].id);
    choir.settle();
    choir.sim.stall_next_sync();
    choir.sim.resume_daemon(node(1));
    choir.run(1);
    choir.sim.lose_token(node(1));
    choir.settle();
    assert_eq!(choir.story(0), ["1:1 2:2 -3:3 process down", "ring 1 2 3"]);
    assert_eq!(choir.sim.sightings().vanished, 1);
}

/// S11, S15: a process that comes back under its old name is not told to who still lists it.
#[test]
fn a_member_that_is_known_is_not_told_again() {
    let mut choir = Choir::new(3);
    choir.sim.pause_daemon(node(1));
    choir.settle();
    choir.sim.kill_daemon(node(3));
    choir.settle();
    choir.sim.start_daemon(node(3));
    choir.settle();
    choir.join(3, 3);
    choir.story(1);
    choir.sim.stall_next_sync();
    choir.sim.resume_daemon(node(1));
    choir.run(1);
    choir.sim.lose_token(node(1));
    choir.settle();
    assert_eq!(choir.story(0), ["ring 1 2 3"], "as if 3:3 had never died");
    assert_eq!(choir.sim.sightings().silent_gaps, 1);
}
