//! The fate of accepted messages.

use std::time::Duration;

use bytes::Bytes;
use cpg::Error;
use cpg::sim::Faults;

use super::test_group::{TestGroup, node};

fn slow_detection() -> Faults {
    Faults { detection_max: Duration::from_millis(500), ..Faults::default() }
}

/// S2.
#[test]
fn a_message_can_be_taken_over_and_lost() {
    let mut group = TestGroup::new(2);
    group.sim.swallow_next(node(1), 1);
    group.send(0, "lost");
    group.send(0, "heard");
    group.settle();
    assert_eq!(group.trace_without_rings(0), ["heard"]);
    assert_eq!(group.trace_without_rings(1), ["heard"]);
    assert_eq!(group.sim.observed().lost_messages, 1);
}

/// S2: who dies before its daemon has read what it sent, did not send it.
#[test]
fn a_process_can_die_faster_than_its_messages() {
    let mut group = TestGroup::with(0, 2, Faults { undrained: 1000, ..Faults::default() });
    group.send(1, "read");
    group.run(1);
    group.send(1, "not read");
    group.sim.close(group.members.pop().unwrap().id);
    group.settle();
    assert_eq!(group.trace_without_rings(0), ["read", "1:1 -2:2 process down"]);
    assert_eq!(group.sim.observed().lost_messages, 1);
}

/// S2: while the daemon stands still, nothing is read at all.
#[test]
fn a_process_that_dies_while_its_daemon_stands_still_loses_all() {
    let mut group = TestGroup::with(1, 2, slow_detection());
    group.sim.pause_daemon(node(2));
    for _ in 0..50 {
        group.send(1, "not read");
    }
    group.sim.close(group.members.pop().unwrap().id);
    group.run(1);
    group.sim.resume_daemon(node(2));
    group.settle();
    assert_eq!(group.trace(0), ["1:1 -2:2 process down"], "a short pause breaks no ring");
    assert_eq!(group.sim.observed().lost_messages, 50);
}

/// S3.
#[test]
fn a_ring_that_agrees_on_its_members_takes_nothing() {
    let mut group = TestGroup::new(2);
    group.sim.refuse_next(node(1), 1);
    assert_eq!(group.try_send(0, "refused"), Err(Error::TryAgain));
    assert_eq!(group.try_send(0, "first"), Ok(()));
    group.run(1);
    group.sim.stall_next_sync();
    group.sim.lose_token(node(1));
    group.run(1);
    assert_eq!(group.try_send(0, "refused"), Err(Error::TryAgain));
    assert_eq!(group.sim.leave(group.members[0].id), Err(Error::TryAgain));
    assert_eq!(group.sim.join(node(1), cpg::Pid(9)), Err(Error::TryAgain));
    group.sim.lose_token(node(1));
    group.settle();
    group.send(0, "second");
    group.settle();
    assert_eq!(group.trace(1), ["first", "ring 1 2", "second"]);
    assert_eq!(group.sim.observed().refusals, 4);
}

/// S3: what is sent while the ring is broken comes out in the next, whatever that is.
#[test]
fn a_message_can_come_out_in_a_later_ring() {
    let mut group = TestGroup::with(1, 3, slow_detection());
    group.sim.part(&[&[node(1), node(2)]]);
    group.send(2, "alone after all");
    group.run(1);
    assert_eq!(group.trace_without_rings(2), [""; 0]);
    group.settle();
    assert_eq!(
        group.trace_without_rings(2),
        ["3:3 -1:1 node down -2:2 node down", "alone after all"]
    );
    assert_eq!(group.trace_without_rings(0), ["1:1 2:2 -3:3 node down"]);
    assert_eq!(group.sim.observed().late_messages, 1);
}

/// S3: queues have an end.
#[test]
fn a_ring_that_does_not_form_takes_only_so_much() {
    let mut group = TestGroup::with(1, 2, slow_detection());
    group.sim.part(&[]);
    let message = Bytes::from(vec![0; 100_000]);
    let mut taken = 0;
    while group.sim.multicast(group.members[0].id, message.clone()).is_ok() {
        taken += 1;
        if taken % 5 == 0 {
            group.run(1);
        }
        assert!(taken < 1000);
    }
    assert!(taken >= 10);
    group.settle();
    let heard =
        group.trace_without_rings(0).iter().filter(|line| line.len() == message.len()).count();
    assert_eq!(heard, taken, "what was taken comes out");
    assert_eq!(group.try_send(0, "and there is room again"), Ok(()));
}

/// A process on node 1 sends while the ring is broken, and dies while the next one agrees on
/// its members: its departure overtakes what it had sent.
fn die_in_sync(with_a_second_process: bool) -> (TestGroup, Vec<String>) {
    let mut group = TestGroup::new(3);
    if with_a_second_process {
        group.join(1, 10);
    }
    group.sim.set_faults(slow_detection());
    group.sim.pause_daemon(node(3));
    group.send(0, "X1");
    group.send(0, "X2");
    group.run(1);
    group.sim.stall_next_sync();
    group.run_into_sync(1);
    group.sim.close(group.members[0].id);
    group.members[1].heard.clear();
    group.sim.lose_token(node(1));
    group.settle();
    let trace = group.trace_without_rings(1).into_iter().filter(|line| !line.is_empty()).collect();
    (group, trace)
}

/// S10.
#[test]
fn a_dead_process_can_be_heard_after_its_departure() {
    let (group, trace) = die_in_sync(true);
    let told = ["1:1 1:10 2:2 -3:3 node down", "1:10 2:2 -1:1 process down", "X1", "X2"];
    assert_eq!(trace, told);
    assert_eq!(group.sim.observed().posthumous, 4);
}

/// S10: Corosync asks whether it knows the node.
#[test]
fn a_dead_process_is_not_heard_if_it_was_the_last_of_its_node() {
    let (group, trace) = die_in_sync(false);
    assert_eq!(trace, ["1:1 2:2 -3:3 node down", "2:2 -1:1 process down"]);
    assert_eq!(group.sim.observed().unknown_node, 2);
}

/// S12: the path for larger messages is never taken.
#[test]
fn a_message_is_at_most_as_large_as_one_request() {
    let mut group = TestGroup::new(1);
    let id = group.members[0].id;
    let largest = Bytes::from(vec![1; cpg::embedded::MESSAGE_BYTES_MAX]);
    assert_eq!(group.sim.multicast(id, largest.clone()), Ok(()));
    let larger = Bytes::from(vec![1; largest.len() + 1]);
    assert_eq!(group.sim.multicast(id, larger), Err(Error::TooBig));
    group.settle();
    assert_eq!(group.trace_without_rings(0).len(), 1);
}

/// S16, S17: who does not listen holds up nobody, and wakes up among stale views.
#[test]
fn a_process_that_does_not_listen_hears_all_of_it_later() {
    let mut group = TestGroup::new(3);
    let sleeper = group.members.pop().unwrap();
    for round in 0..1000 {
        group.send(round % 2, &round.to_string());
        group.run(1);
        match round {
            300 => group.sim.part(&[&[node(1), node(2)]]),
            600 => group.sim.heal(),
            _ => {}
        }
    }
    group.settle();
    let trace = group.trace_without_rings(0);
    group.members.push(sleeper);
    group.listen();
    let late = group.trace_without_rings(2);
    assert_eq!(late[..301], trace[..301]);
    assert_eq!(late[301], "3:3 -1:1 node down -2:2 node down");
    assert_eq!(late[303..], trace[trace.len() - (late.len() - 303)..]);
}
