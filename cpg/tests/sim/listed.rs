//! Processes that are listed as members after their death.

use cpg::sim::Faults;

use super::test_group::{TestGroup, node};

/// S11: the list of a node that died in a sync is believed in the next.
#[test]
fn a_member_can_be_listed_after_its_node_died() {
    let mut group = TestGroup::new(3);
    group.sim.part(&[&[node(1), node(2)]]);
    group.settle();
    group.sim.stall_next_sync();
    group.sim.heal();
    group.run(1);
    group.sim.kill_daemon(node(3));
    group.settle();
    let listed = "1:1 2:2 3:3 +3:3 node up";
    assert_eq!(group.trace(0), ["1:1 2:2 -3:3 node down", "ring 1 2", listed, "ring 1 2"]);
    assert_eq!(group.sim.observed().listed_dead, 2);
    group.run(10_000);
    assert_eq!(group.trace(1).last().unwrap(), "ring 1 2", "it stays");
    group.sim.lose_token(node(1));
    group.settle();
    assert_eq!(group.trace(0), ["1:1 2:2 -3:3 process down", "ring 1 2"]);
}

/// S11: a departure that is ordered among the lists of a sync is undone by them.
#[test]
fn a_member_can_be_listed_after_it_died_in_a_sync() {
    let mut group = TestGroup::with(0, 3, Faults { listed_dead: 1000, ..Faults::default() });
    group.sim.part(&[&[node(1), node(2)]]);
    group.settle();
    group.trace(1);
    group.sim.stall_next_sync();
    group.sim.lose_token(node(1));
    group.run(1);
    group.sim.close(group.members[0].id);
    group.run(1);
    group.sim.lose_token(node(1));
    group.settle();
    let told = ["2:2 -1:1 process down", "1:1 2:2 +1:1 node up", "ring 1 2"];
    assert_eq!(group.trace(1), told);
    assert_eq!(group.sim.members(node(1)).len(), 1, "its own node knows better");
    assert_eq!(group.sim.members(node(2)).len(), 2);
}

/// S11: a join that waits is overtaken by the departure, and is never taken back.
#[test]
fn a_member_can_be_listed_that_died_before_it_joined() {
    let faults =
        Faults { detection_max: std::time::Duration::from_millis(300), ..Faults::default() };
    let mut group = TestGroup::with(1, 2, faults);
    group.sim.lose_token(node(1));
    let listed = group.sim.join(node(1), cpg::Pid(10)).unwrap();
    group.run(1);
    group.sim.stall_next_sync();
    group.run_into_sync(0);
    group.sim.close(listed);
    group.sim.lose_token(node(1));
    group.settle();
    for id in [1, 2] {
        assert!(group.sim.members(node(id)).iter().any(|member| member.pid.0 == 10));
    }
    assert_eq!(group.sim.observed().listed_dead, 1);
}

/// S11 and S8: a member that died during the silent gap of a node is reported to that node as a
/// dead process of a node that never left.
#[test]
fn a_member_that_vanished_during_a_silent_gap_is_a_dead_process() {
    let mut group = TestGroup::new(3);
    group.sim.pause_daemon(node(1));
    group.settle();
    group.sim.close(group.members[2].id);
    group.settle();
    group.sim.stall_next_sync();
    group.sim.resume_daemon(node(1));
    group.run(1);
    group.sim.lose_token(node(1));
    group.settle();
    assert_eq!(group.trace(0), ["1:1 2:2 -3:3 process down", "ring 1 2 3"]);
    assert_eq!(group.sim.observed().vanished, 1);
}

/// S11, S15: a process that comes back under its old name is not told to who still lists it.
#[test]
fn a_member_that_is_known_is_not_told_again() {
    let mut group = TestGroup::new(3);
    group.sim.pause_daemon(node(1));
    group.settle();
    group.sim.kill_daemon(node(3));
    group.settle();
    group.sim.start_daemon(node(3));
    group.settle();
    group.join(3, 3);
    group.trace(1);
    group.sim.stall_next_sync();
    group.sim.resume_daemon(node(1));
    group.run(1);
    group.sim.lose_token(node(1));
    group.settle();
    assert_eq!(group.trace(0), ["ring 1 2 3"], "as if 3:3 had never died");
    assert_eq!(group.sim.observed().silent_gaps, 1);
}
