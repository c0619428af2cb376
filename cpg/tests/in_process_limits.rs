//! Limits and nodes of a ring within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::IoSlice;
use std::time::Duration;

use cpg::embedded::{BACKLOG_BYTES_MAX, EVENT_BYTES, LocalRing, MEMBERS_MAX, OWN_BYTES_MAX};
use cpg::{Connection, Dispatch, Error, Event, GroupName, Guarantee, Options, Reason};

fn group() -> GroupName {
    GroupName::new("group").unwrap()
}

fn joined(ring: &LocalRing) -> Connection {
    let connection = ring.node().connect(Options::default()).unwrap();
    connection.join(&group()).unwrap();
    connection
}

fn take(connection: &Connection) -> Vec<Event> {
    let mut events = Vec::new();
    connection.dispatch(Dispatch::All, |event| events.push(event)).unwrap();
    events
}

fn send(connection: &Connection, message: &[u8]) -> Result<(), Error> {
    connection.multicast(Guarantee::Agreed, &[IoSlice::new(message)])
}

#[test]
fn a_group_has_an_upper_size() {
    let ring = LocalRing::new();
    let mut members: Vec<_> = (0..MEMBERS_MAX).map(|_| joined(&ring)).collect();
    let late = ring.node().connect(Options::default()).unwrap();
    assert_eq!(late.join(&group()), Err(Error::TooManyGroups));
    members.pop();
    late.join(&group()).unwrap();
    assert_eq!(late.members(&group()).unwrap().len(), MEMBERS_MAX);
}

#[test]
fn a_sender_that_does_not_dispatch_is_held_back_and_others_are_not() {
    let ring = LocalRing::new();
    let (sender, other) = (joined(&ring), joined(&ring));
    let mut sent = 0;
    while send(&sender, &[0; 1_000]) == Ok(()) {
        sent += 1;
    }
    assert_eq!(sent, OWN_BYTES_MAX.div_ceil(1_000 + EVENT_BYTES));
    assert_eq!(send(&sender, b""), Err(Error::TryAgain));
    send(&other, b"not me").unwrap();
    take(&sender);
    send(&sender, b"again").unwrap();
    let messages = take(&other).into_iter().filter(|event| matches!(event, Event::Deliver { .. }));
    assert_eq!(messages.count(), sent + 2, "what was refused was not sent");
    while send(&sender, &[0; 100_000]) == Ok(()) {}
    sender.leave().unwrap();
    assert_eq!(send(&sender, b""), Err(Error::NotExist), "trying again would be of no use");
}

#[test]
fn a_member_that_does_not_dispatch_is_cut_off_in_the_end() {
    let ring = LocalRing::new();
    let (sender, slow) = (joined(&ring), joined(&ring));
    take(&sender);
    let message = vec![0; 1_000_000];
    let mut left = Vec::new();
    let mut sent = 0;
    while left.is_empty() {
        send(&sender, &message).unwrap();
        sent += 1;
        for event in take(&sender) {
            if let Event::Configuration(change) = event {
                left.extend(change.left);
            }
        }
        assert!(sent < 1_000);
    }
    assert_eq!(sent, BACKLOG_BYTES_MAX.div_ceil(message.len() + EVENT_BYTES));
    assert_eq!(left[0].member, slow.local_member());
    assert_eq!(left[0].reason, Reason::ProcessDown);
    let received = take(&slow).into_iter().filter(|event| matches!(event, Event::Deliver { .. }));
    assert_eq!(received.count(), sent);
    assert_eq!(slow.wait(None), Err(Error::Library));
    assert_eq!(send(&slow, b""), Err(Error::Library));
    assert_eq!(slow.members(&group()), Err(Error::Library));
}

#[test]
fn a_node_that_starts_again_has_no_connections() {
    let ring = LocalRing::new();
    let (here, there) = (ring.node(), ring.node());
    let stays = here.connect(Options::default()).unwrap();
    stays.join(&group()).unwrap();
    let gone = there.connect(Options::default()).unwrap();
    gone.join(&group()).unwrap();
    take(&stays);
    there.stop();
    there.stop();
    let [Event::Configuration(down), Event::Ring(alone)] = &take(&stays)[..] else {
        panic!("not one configuration and one ring");
    };
    assert_eq!(down.left[0].reason, Reason::NodeDown);
    assert_eq!(alone.nodes, [here.id()]);
    assert_eq!(there.connect(Options::default()).err(), Some(Error::Library));

    there.start();
    there.start();
    let [Event::Ring(both)] = &take(&stays)[..] else { panic!("not one ring") };
    assert_eq!(both.nodes, [here.id(), there.id()]);
    assert_eq!(both.id.sequence, alone.id.sequence + 4);
    assert_eq!(gone.join(&group()), Err(Error::Library), "the old connection stays dead");
    assert_eq!(gone.members(&group()), Err(Error::Library));
    let again = there.connect(Options::default()).unwrap();
    again.join(&group()).unwrap();
    assert_eq!(again.members(&group()).unwrap().len(), 2);
}

#[test]
fn a_stopped_node_takes_all_its_groups_with_it() {
    let ring = LocalRing::new();
    let (here, there) = (ring.node(), ring.node());
    let names = ["a", "b"].map(|name| GroupName::new(name).unwrap());
    let connect = |node: &cpg::embedded::Node, name| {
        let connection = node.connect(Options::default()).unwrap();
        connection.join(name).unwrap();
        connection
    };
    let stay: Vec<_> = names.iter().map(|name| connect(&here, name)).collect();
    let gone: Vec<_> = names.iter().map(|name| connect(&there, name)).collect();
    stay.iter().for_each(|connection| drop(take(connection)));
    there.stop();
    for connection in &stay {
        assert!(matches!(&take(connection)[..], [Event::Configuration(_), Event::Ring(_)]));
    }
    for connection in &gone {
        take(connection);
        assert_eq!(connection.wait(Some(Duration::ZERO)), Err(Error::Library));
    }
}
