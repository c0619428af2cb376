//! A process that is stopped (`SIGSTOP`) holds up nobody, and hears all when it goes on, or
//! that it was cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{Meeting, hub_of, until};
use cpg::conformance::{Member, Remote};
use cpg::{Error, Event, GroupName, Guarantee, Options, Reason};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn child() {
    common::be_child();
}

fn group() -> GroupName {
    GroupName::new("group").unwrap()
}

fn next(member: &mut dyn Member) -> Event {
    member.next(Duration::from_secs(20)).unwrap().expect("an event")
}

/// Three members that know each other; the first is the hub.
fn three_members(meeting: &Meeting) -> [Remote; 3] {
    let mut members = [0; 3].map(|_| {
        let mut member = meeting.child(Options::default());
        member.join(&group()).unwrap();
        member
    });
    for member in &mut members {
        while !matches!(next(member), Event::Configuration(change) if change.members.len() == 3) {}
    }
    assert_eq!(hub_of(&meeting.path()), Some(members[0].pid()));
    members
}

fn signal(member: &Remote, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(member.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Stops all threads of a process, and waits until they are.
fn stop(member: &Remote) {
    signal(member, Signal::STOP);
    until("all threads to stop", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", member.pid())).unwrap();
        threads.map(|thread| thread.unwrap().path().join("stat")).all(|stat| {
            let stat = std::fs::read_to_string(stat).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
        })
    });
}

fn send(member: &mut Remote, message: &[u8]) {
    while let Err(error) = member.multicast(Guarantee::Agreed, &[message]) {
        assert_eq!(error, Error::TryAgain);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_stopped_member_misses_nothing_and_delays_nobody() {
    let meeting = Meeting::new();
    let [mut hub, mut sender, mut stopped] = three_members(&meeting);
    stop(&stopped);
    let message = vec![7; 100_000];
    let start = Instant::now();
    for _ in 0..200 {
        send(&mut sender, &message);
        assert!(matches!(next(&mut sender), Event::Deliver { .. }));
    }
    for _ in 0..200 {
        assert!(matches!(next(&mut hub), Event::Deliver { .. }));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    signal(&stopped, Signal::CONT);
    for _ in 0..200 {
        assert!(matches!(next(&mut stopped), Event::Deliver { .. }));
    }
}

#[test]
fn a_member_stopped_while_the_hub_dies_is_cut_off() {
    let meeting = Meeting::new();
    let [hub, mut goes_on, mut stopped] = three_members(&meeting);
    stop(&stopped);
    let hub_pid = hub.pid();
    Box::new(hub).kill();
    let mut left = Vec::new();
    loop {
        match next(&mut goes_on) {
            Event::Configuration(change) => {
                left.extend(change.left.iter().map(|gone| (gone.member.pid.0, gone.reason)));
            }
            Event::Ring(_) => break,
            Event::Deliver { .. } => {}
        }
    }
    left.sort_by_key(|(pid, _)| *pid);
    let mut expected = [(hub_pid, Reason::ProcessDown), (stopped.pid(), Reason::ProcessDown)];
    expected.sort_by_key(|(pid, _)| *pid);
    assert_eq!(left, expected);
    send(&mut goes_on, b"without you");
    assert!(matches!(next(&mut goes_on), Event::Deliver { .. }));

    signal(&stopped, Signal::CONT);
    let error = loop {
        match stopped.next(Duration::from_secs(20)) {
            Ok(Some(event)) => assert!(!matches!(event, Event::Deliver { .. }), "{event:?}"),
            Ok(None) => panic!("it does not hear that it was cut off"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Library);
}

#[test]
fn a_stopped_hub_goes_on_where_it_was() {
    let meeting = Meeting::new();
    let [mut hub, mut sender, _third] = three_members(&meeting);
    stop(&hub);
    send(&mut sender, b"while stopped");
    assert_eq!(sender.next(Duration::from_millis(100)), Ok(None), "the ring stands still");
    signal(&hub, Signal::CONT);
    for member in [&mut sender, &mut hub] {
        assert!(
            matches!(next(member), Event::Deliver { message, .. } if message == "while stopped")
        );
    }
}
