//! A hub that goes in order, and rings that end and begin again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Meeting, hub_of};
use cpg::conformance::{Local, Member, Remote};
use cpg::{Error, Event, GroupName, Guarantee, Options, Reason, Transport};

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

fn local(meeting: &Meeting) -> Local {
    Local(Transport::Socket(meeting.path()).connect(Options::default()).unwrap())
}

fn joined(mut member: Remote) -> Remote {
    member.join(&group()).unwrap();
    while !matches!(next(&mut member), Event::Configuration(_)) {}
    member
}

fn send(member: &mut dyn Member, message: &[u8]) {
    while let Err(error) = member.multicast(Guarantee::Agreed, &[message]) {
        assert_eq!(error, Error::TryAgain);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_hub_that_closes_hands_over() {
    let meeting = Meeting::new();
    let hub = joined(meeting.child(Options::default()));
    let mut second = joined(meeting.child(Options::default()));
    let mut third = joined(meeting.child(Options::default()));
    assert_eq!(hub_of(&meeting.path()), Some(hub.pid()));
    assert!(matches!(next(&mut second), Event::Configuration(_)));
    let hub_pid = hub.pid();
    for number in 0..500_u32 {
        send(&mut second, &number.to_le_bytes());
    }
    Box::new(hub).close();
    for number in 500..1_000_u32 {
        send(&mut second, &number.to_le_bytes());
    }
    let mut histories = Vec::new();
    for member in [&mut second, &mut third] {
        let mut history = Vec::new();
        while !matches!(history.last(), Some(Event::Deliver { message, .. }) if **message == 999_u32.to_le_bytes())
        {
            history.push(next(member));
        }
        histories.push(history);
    }
    assert!(histories[0] == histories[1]);
    let numbers = histories[0].iter().filter_map(|event| match event {
        Event::Deliver { message, .. } => Some(u32::from_le_bytes(message[..].try_into().unwrap())),
        _ => None,
    });
    assert!(numbers.eq(0..1_000), "each once and in order");
    let changes: Vec<_> =
        histories[0].iter().filter(|event| !matches!(event, Event::Deliver { .. })).collect();
    let [Event::Configuration(change), Event::Ring(_)] = changes.as_slice() else {
        panic!("not the departure of the hub and then a ring, but {changes:?}");
    };
    assert_eq!(change.left[0].reason, Reason::ProcessDown);
    assert_eq!(change.left[0].member.pid.0, hub_pid);
    assert_ne!(hub_of(&meeting.path()), Some(hub_pid));
}

#[test]
fn a_hub_that_leaves_its_group_stays_hub() {
    let meeting = Meeting::new();
    let mut hub = joined(meeting.child(Options::default()));
    let mut second = joined(meeting.child(Options::default()));
    hub.leave().unwrap();
    let Event::Configuration(change) = next(&mut second) else { panic!("not a configuration") };
    assert_eq!(change.left[0].reason, Reason::Leave);
    send(&mut second, b"no ring between");
    assert!(matches!(next(&mut second), Event::Deliver { .. }));
    assert_eq!(hub_of(&meeting.path()), Some(hub.pid()));
}

#[test]
fn connections_in_no_group_hear_of_the_new_ring() {
    let meeting = Meeting::new();
    let hub = meeting.child(Options::default());
    let mut idle = local(&meeting);
    Box::new(hub).close();
    let Event::Ring(first) = next(&mut idle) else { panic!("not a ring") };
    idle.join(&group()).unwrap();
    assert!(matches!(next(&mut idle), Event::Configuration(_)));
    send(&mut idle, b"we go on");
    assert!(matches!(next(&mut idle), Event::Deliver { .. }));

    // When all have gone, the next ring is still a later one.
    drop(idle);
    let connection =
        Transport::Socket(meeting.path()).connect(Options { initial_ring: true }).unwrap();
    let mut member = Local(connection);
    member.join(&group()).unwrap();
    assert!(matches!(next(&mut member), Event::Configuration(_)));
    let Event::Ring(ring) = next(&mut member) else { panic!("not a ring") };
    assert!(ring.id > first.id);
    assert_eq!(ring.id.sequence % 4, 0);
}

#[test]
fn a_hub_goes_on_while_its_process_has_any_connection() {
    let meeting = Meeting::new();
    let first = local(&meeting);
    let mut second = local(&meeting);
    let mut child = joined(meeting.child(Options::default()));
    second.join(&GroupName::new("other").unwrap()).unwrap();
    assert!(matches!(next(&mut second), Event::Configuration(_)));
    drop(first);
    send(&mut child, b"no ring between");
    assert!(matches!(next(&mut child), Event::Deliver { .. }));
    assert_eq!(hub_of(&meeting.path()), Some(std::process::id()));
    drop(second);
    assert!(matches!(next(&mut child), Event::Ring(_)));
    assert_eq!(hub_of(&meeting.path()), Some(child.pid()));
}
