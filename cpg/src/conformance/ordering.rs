//! One order for all.

use std::thread;

use super::Cluster;
use super::observer::{Observer, configurations, messages, new_group};
use crate::Event;

const EACH: usize = 300;

/// Three members that send at the same time, until each has heard all.
fn send_from_all(cluster: &dyn Cluster) -> Vec<Observer> {
    let mut observers = Observer::group(cluster, 3, &new_group());
    thread::scope(|scope| {
        for observer in &mut observers {
            scope.spawn(move || {
                for number in 0..EACH {
                    observer.send(number.to_string());
                    if number % 7 == 0 {
                        observer.hear(std::time::Duration::ZERO);
                    }
                }
                observer.until("all messages", |heard| messages(heard).count() == 3 * EACH);
            });
        }
    });
    observers
}

/// Returns the events from the time at which all members were there.
fn together(observer: &Observer) -> Vec<Event> {
    let history = observer.history();
    let start = history.iter().rposition(|event| matches!(event, Event::Configuration(_)));
    history[start.unwrap()..].to_vec()
}

pub(super) fn senders_are_in_one_order_for_all(cluster: &dyn Cluster) {
    let observers = send_from_all(cluster);
    for observer in &observers {
        assert_eq!(together(observer).len(), 3 * EACH + 1);
        assert!(
            together(observer) == together(&observers[0]),
            "{} heard another order",
            observer.me
        );
    }
}

pub(super) fn each_sender_is_in_its_own_order(cluster: &dyn Cluster) {
    let observers = send_from_all(cluster);
    let numbers: Vec<_> = (0..EACH).map(|number| number.to_string()).collect();
    for observer in &observers {
        for sender in &observers {
            let heard: Vec<_> = messages(&observer.heard)
                .filter(|(from, _)| *from == sender.me)
                .map(|(_, message)| String::from_utf8(message.to_vec()).unwrap())
                .collect();
            assert_eq!(heard, numbers, "{} heard {}", observer.me, sender.me);
        }
    }
}

pub(super) fn own_messages_are_heard(cluster: &dyn Cluster) {
    let mut observer = Observer::joined(cluster, 0, &new_group());
    observer.send("alone");
    observer.until_message(b"alone");
    assert!(messages(&observer.heard).all(|(sender, _)| sender == observer.me));
}

pub(super) fn changes_are_at_one_position_for_all(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers = Observer::group(cluster, 2, &group);
    let mut guest = Observer::new(cluster, 2);
    thread::scope(|scope| {
        for observer in &mut observers {
            scope.spawn(|| {
                for number in 0..EACH {
                    observer.send(number.to_string());
                }
                observer.until("all messages", |heard| messages(heard).count() > 2 * EACH);
                observer.until_members(2);
            });
        }
        scope.spawn(|| {
            guest.join(&group);
            guest.send("a guest");
            guest.until_message(b"a guest");
            guest.member.leave().unwrap();
            guest.until_left(guest.me);
        });
    });
    let (first, second) = (together_from(&observers[0], 2), together_from(&observers[1], 2));
    assert!(first == second, "changes and messages are in another order");
    let came = first.iter().position(
        |event| matches!(event, Event::Configuration(change) if change.members.len() == 3),
    );
    let went = first.iter().rposition(|event| matches!(event, Event::Configuration(_)));
    assert!(
        first[came.unwrap()..=went.unwrap()] == guest.history(),
        "the guest hears what the others hear between its coming and its going"
    );
}

/// Returns the events from the first configuration with this number of members.
fn together_from(observer: &Observer, members: usize) -> Vec<Event> {
    let history = observer.history();
    let start = history.iter().position(
        |event| matches!(event, Event::Configuration(change) if change.members.len() == members),
    );
    history[start.unwrap()..].to_vec()
}

pub(super) fn nothing_is_heard_from_before_joining(cluster: &dyn Cluster) {
    let group = new_group();
    let mut first = Observer::joined(cluster, 0, &group);
    let mut late = Observer::new(cluster, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..EACH {
                first.send(number.to_string());
            }
            first.until_members(2);
            first.send("the end");
            first.until_message(b"the end");
        });
        scope.spawn(|| {
            late.join(&group);
            late.until_message(b"the end");
        });
    });
    assert_eq!(configurations(&late.heard).next().unwrap().members.len(), 2);
    assert!(together_from(&first, 2) == late.history(), "all from its join on, and only that");
}

pub(super) fn groups_do_not_hear_each_other(cluster: &dyn Cluster) {
    let mut here = Observer::group(cluster, 2, &new_group());
    let mut there = Observer::group(cluster, 2, &new_group());
    here[0].send("here");
    there[0].send("there");
    for (observers, own) in [(&mut here, &b"here"[..]), (&mut there, b"there")] {
        for observer in observers {
            observer.until_message(own);
            assert_eq!(messages(&observer.heard).count(), 1);
        }
    }
    there[0].send("once more");
    there.iter_mut().for_each(|observer| observer.until_message(b"once more"));
    here.iter_mut().for_each(Observer::assert_quiet);
}
