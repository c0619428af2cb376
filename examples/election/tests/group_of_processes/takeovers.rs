//! Another member takes over, and no two commands run at once.

use std::fs;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use service_lib::testing::{guard_of, until};

use super::{Group, WORK};

/// As many as the environment says, and few by default.
fn kills() -> u32 {
    std::env::var("PLAINSONG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn when_the_leader_is_killed_another_takes_over_and_no_two_run_at_once() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let mut last = group.leader_after(0);
    for _ in 0..kills() {
        for id in 1..=3 {
            group.is_ready(id);
        }
        // The command may have gone to another by itself, on a machine that is too busy.
        last = *group.begun().last().unwrap();
        group.members[last.0 as usize - 1].kill();
        let next = group.leader_after(last.1);
        group.replace(last.0, WORK);
        last = next;
    }
    assert!(group.begun().len() > kills() as usize);
    // The guards of those who were killed have stopped their commands.
    drop(group.members.drain(..));
    until("the end of all commands", || {
        let guard = fs::File::open(group.path("guard")).unwrap();
        rustix::fs::flock(&guard, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()
    });
    assert!(last.1 > 0);
}

#[test]
fn who_is_asked_to_stop_stops_its_command_and_the_next_begins_at_once() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    group.members[id as usize - 1].signal(Signal::TERM);
    group.members[id as usize - 1].exits_with(0);
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}

#[test]
fn who_resigns_hands_over_to_the_best_of_the_others() {
    let group = Group::start(WORK, &[&[], &["--priority", "-1"], &["--priority", "-1"]]);
    let (id, token) = group.leader_after(0);
    for id in 1..=3 {
        group.is_ready(id);
    }
    until("all to stand", || {
        let told = String::from_utf8(group.ask(1, "status").stdout).unwrap();
        (told.matches("stands: ").count() == 3).then_some(())
    });
    assert_eq!(group.ask(id % 3 + 1, "resign").status.code(), Some(0));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
    if id != 1 {
        assert_eq!(next, 1);
    }
    let told = group.ask(id, "status");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(&format!("leader: {next}, token ")), "{told}");
    assert!(told.contains("stands: 1, priority 0\n"), "{told}");
    assert!(told.contains("voters: 1,2,3\n"), "{told}");
}

#[test]
fn when_the_command_ends_the_member_ends_with_its_code_and_another_takes_over() {
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
fn a_leader_that_stands_still_loses_its_place_and_its_command_stops_before_the_next_begins() {
    let mut group = Group::start_beside_the_ring();
    let (id, token) = group.leader_after(0);
    for other in 1..=3 {
        group.is_ready(other);
    }
    group.members[id as usize - 1].signal(Signal::STOP);
    let since = Instant::now();
    // What the next writes would tell of an overlap.
    let (next, token) = group.leader_after(token);
    eprintln!("the next began after {:?}", since.elapsed());
    assert_ne!(next, id);
    group.members[id as usize - 1].signal(Signal::CONT);
    // It stands again, and leads again when the next is gone.
    until("the former leader to stand", || {
        let told = String::from_utf8_lossy(&group.ask(id, "status").stdout).into_owned();
        told.contains(&format!("stands: {id}, ")).then_some(())
    });
    group.members[next as usize - 1].signal(Signal::TERM);
    group.members[next as usize - 1].exits_with(0);
    group.leader_after(token);
}

#[test]
fn a_leader_that_is_told_to_stop_does_so_while_its_guard_stands_still() {
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
fn a_command_whose_guard_is_killed_is_stopped_and_another_takes_over() {
    let mut group = Group::start(WORK, &[&[]; 3]);
    let (id, token) = group.leader_after(0);
    let guard = guard_of(group.members[id as usize - 1].pid());
    kill_process(Pid::from_raw(guard as i32).unwrap(), Signal::KILL).unwrap();
    group.members[id as usize - 1].exits_with(71);
    assert!(group.said().contains("the process that guards the command was killed"));
    let (next, _) = group.leader_after(token);
    assert_ne!(next, id);
}
