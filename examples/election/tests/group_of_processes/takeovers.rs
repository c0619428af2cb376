//! Another member takes over, and commands never overlap.

use std::fs;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use service_lib::testing::{guard_of, until};

use super::{Group, WORK};

/// Number of leaders to kill: `PLAINSONG_KILLS`, or a few by default.
fn kills() -> u32 {
    std::env::var("PLAINSONG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn a_killed_leader_is_replaced_and_commands_never_overlap() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let mut last = group.leader_after(0);
    for _ in 0..kills() {
        for id in 1..=3 {
            group.is_ready(id);
        }
        // On a busy machine, the leader may have changed by itself.
        last = *group.begun().last().unwrap();
        group.members[last.0 as usize - 1].kill();
        let next = group.leader_after(last.1);
        group.replace(last.0, WORK);
        last = next;
    }
    assert!(group.begun().len() > kills() as usize);
    // The guards of the killed members stop their commands.
    drop(group.members.drain(..));
    until("the end of all commands", || {
        let guard = fs::File::open(group.path("guard")).unwrap();
        rustix::fs::flock(&guard, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()
    });
    assert!(last.1 > 0);
}

#[test]
fn a_member_that_stops_in_order_hands_over_at_once() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    group.members[id as usize - 1].signal(Signal::TERM);
    group.members[id as usize - 1].exits_with(0);
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}

#[test]
fn a_leader_that_resigns_hands_over_to_the_best_other_candidate() {
    let group = Group::start(WORK, &[&[], &["--priority", "-1"], &["--priority", "-1"]]);
    let (id, token) = group.leader_after(0);
    for id in 1..=3 {
        group.is_ready(id);
    }
    until("three candidates", || {
        let status = String::from_utf8(group.ask(1, "status").stdout).unwrap();
        (status.matches("candidate: ").count() == 3).then_some(())
    });
    assert_eq!(group.ask(id % 3 + 1, "resign").status.code(), Some(0));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
    if id != 1 {
        assert_eq!(next, 1);
    }
    let status = group.ask(id, "status");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&format!("leader: {next}, token ")), "{status}");
    assert!(status.contains("candidate: 1, priority 0\n"), "{status}");
    assert!(status.contains("voters: 1,2,3\n"), "{status}");
}

#[test]
fn a_member_whose_command_ends_exits_with_its_status_and_another_takes_over() {
    let script = "echo \"begin $ELECTION_ID $ELECTION_TOKEN $ELECTION_GROUP\" >> log; exit 7";
    let mut group = Group::start(script, &[&[]; 3]);
    let mut token = 0;
    for _ in 0..2 {
        let (id, next) = group.leader_after(token);
        group.members[id as usize - 1].exits_with(7);
        token = next;
    }
}

#[test]
fn a_frozen_leader_is_replaced_after_its_command_has_stopped() {
    let mut group = Group::start_beside_the_ring();
    let (id, token) = group.leader_after(0);
    for other in 1..=3 {
        group.is_ready(other);
    }
    group.members[id as usize - 1].signal(Signal::STOP);
    let since = Instant::now();
    // The next command would report an overlap.
    let (next, token) = group.leader_after(token);
    eprintln!("the next command began after {:?}", since.elapsed());
    assert_ne!(next, id);
    group.members[id as usize - 1].signal(Signal::CONT);
    // The former leader becomes a candidate again, and leads again when the next leader is gone.
    until("the former leader to be a candidate", || {
        let status = String::from_utf8_lossy(&group.ask(id, "status").stdout).into_owned();
        status.contains(&format!("candidate: {id}, ")).then_some(())
    });
    group.members[next as usize - 1].signal(Signal::TERM);
    group.members[next as usize - 1].exits_with(0);
    group.leader_after(token);
}

#[test]
fn a_leader_stops_its_command_while_its_guard_is_frozen() {
    let group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    for other in 1..=3 {
        group.is_ready(other);
    }
    let guard = guard_of(group.members[id as usize - 1].pid());
    kill_process(Pid::from_raw(guard as i32).unwrap(), Signal::STOP).unwrap();
    assert_eq!(group.ask(id, "resign").status.code(), Some(0));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}

#[test]
fn when_a_guard_is_killed_its_command_stops_and_another_member_takes_over() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    let guard = guard_of(group.members[id as usize - 1].pid());
    kill_process(Pid::from_raw(guard as i32).unwrap(), Signal::KILL).unwrap();
    group.members[id as usize - 1].exits_with(71);
    assert!(group.said().contains("the guard process of the command was killed"));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}
