//! Cases about connections, processes and nodes that end unexpectedly.

use super::Cluster;
use super::observer::{Observer, configurations, messages, new_group, rings};
use crate::{Error, Event, Options, Reason};

pub(super) fn closing_without_leaving_is_a_process_down(cluster: &dyn Cluster) {
    let mut observers = Observer::group(cluster, 3, &new_group());
    let gone = observers.pop().unwrap();
    gone.member.close();
    assert_departure(&mut observers, gone.me, Reason::ProcessDown);
}

pub(super) fn a_killed_process_is_a_process_down(cluster: &dyn Cluster) {
    let mut observers = Observer::group(cluster, 3, &new_group());
    let gone = observers.pop().unwrap();
    gone.member.kill();
    assert_departure(&mut observers, gone.me, Reason::ProcessDown);
    observers[1].send("we go on");
    observers.iter_mut().for_each(|observer| observer.until_message(b"we go on"));
}

fn assert_departure(observers: &mut [Observer], gone: crate::Member, reason: Reason) {
    let mut stay: Vec<_> = observers.iter().map(|observer| observer.me).collect();
    stay.sort();
    for observer in observers {
        assert_eq!(observer.until_left(gone), reason);
        let last = configurations(&observer.heard).last().unwrap();
        assert_eq!(last.members, stay);
        assert_eq!(last.joined, []);
    }
}

pub(super) fn what_was_sent_before_closing_is_heard(cluster: &dyn Cluster) {
    let mut observers = Observer::group(cluster, 2, &new_group());
    let mut gone = observers.pop().unwrap();
    for number in 0..200 {
        gone.send(number.to_string());
    }
    gone.member.close();
    observers[0].until_left(gone.me);
    let heard: Vec<_> = messages(&observers[0].heard).map(|(_, message)| message.clone()).collect();
    let sent: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(heard, sent, "and all of it before the departure");
}

pub(super) fn a_stopped_node_is_a_node_down(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers = Observer::group(cluster, 3, &group);
    let mut gone = observers.pop().unwrap();
    observers[0].send("before");
    gone.until_message(b"before");
    if !cluster.stop(2) {
        return;
    }
    assert_departure(&mut observers, gone.me, Reason::NodeDown);
    observers[0].send("after");
    for observer in &mut observers {
        observer.until_message(b"after");
        let down = place(
            &observer.heard,
            |event| matches!(event, Event::Configuration(change) if !change.left.is_empty()),
        );
        let ring = down + place(&observer.heard[down..], |event| matches!(event, Event::Ring(_)));
        let after = place(
            &observer.heard,
            |event| matches!(event, Event::Deliver { message, .. } if message == "after"),
        );
        assert!(ring < after, "the ring comes after its configurations and before its messages");
    }
    let error = loop {
        match gone.member.next(cluster.patience()) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a connection to a dead transport does not end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Library);
    assert_eq!(gone.member.join(&group), Err(Error::Library));
    assert_eq!(gone.member.members(&group), Err(Error::Library));
}

fn place(heard: &[Event], is_it: impl Fn(&Event) -> bool) -> usize {
    heard.iter().position(is_it).expect("the event is there")
}

pub(super) fn a_new_ring_is_told_to_all(cluster: &dyn Cluster) {
    let mut member = Observer::joined(cluster, 0, &new_group());
    let mut outsider = Observer::new(cluster, 1);
    if !cluster.stop(2) {
        return;
    }
    for observer in [&mut member, &mut outsider] {
        observer.until("a ring", |heard| rings(heard).next().is_some());
        let ring = rings(&observer.heard).last().unwrap();
        assert!(ring.nodes.is_sorted());
        assert!(ring.nodes.contains(&observer.me.node));
        assert_eq!(ring.id.representative, ring.nodes[0]);
    }
    assert_eq!(rings(&member.heard).last(), rings(&outsider.heard).last());
    assert_eq!(configurations(&member.heard).count(), 1, "no group has changed");
}

/// A connection that joins while the ring changes also receives the ring of that change, which may
/// come before its own join: Corosync reports a new ring to all connections, joined or not.
pub(super) fn the_initial_ring_follows_the_own_join(cluster: &dyn Cluster) {
    let mut observer = Observer::with(cluster, 0, Options { initial_ring: true });
    observer.join(&new_group());
    observer.until("the initial ring", |heard| {
        heard
            .iter()
            .skip_while(|event| !matches!(event, Event::Configuration(_)))
            .any(|event| matches!(event, Event::Ring(_)))
    });
    observer.assert_quiet();
    let join = place(&observer.heard, |event| matches!(event, Event::Configuration(_)));
    let [Event::Configuration(own), Event::Ring(ring), ..] = &observer.heard[join..] else {
        panic!("not the own join and then the ring, but {:?}", observer.heard);
    };
    assert_eq!(own.members, [observer.me]);
    assert!(ring.nodes.contains(&observer.me.node));
    let others = observer.heard.iter().filter(|event| !matches!(event, Event::Ring(_)));
    assert_eq!(others.count(), 1, "nothing but the own join and rings: {:?}", observer.heard);
}

pub(super) fn no_initial_ring_unless_asked_for(cluster: &dyn Cluster) {
    let mut observer = Observer::joined(cluster, 0, &new_group());
    observer.send("end");
    observer.until_message(b"end");
    assert_eq!(rings(&observer.heard).count(), 0);
}
