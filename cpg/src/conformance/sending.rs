//! Cases about sending and backpressure.

use std::time::Duration;

use super::Cluster;
use super::observer::{Observer, messages, new_group};
use crate::{Error, Event, Guarantee};

pub(super) fn sending_needs_membership(cluster: &dyn Cluster) {
    let group = new_group();
    let mut member = Observer::joined(cluster, 0, &group);
    let mut outsider = Observer::new(cluster, 1);
    assert_eq!(outsider.member.multicast(Guarantee::Agreed, &[b"x"]), Err(Error::NotExist));
    outsider.assert_quiet();
    member.assert_quiet();
}

pub(super) fn sending_right_after_joining_works(cluster: &dyn Cluster) {
    let group = new_group();
    let mut witness = Observer::joined(cluster, 0, &group);
    let mut observer = Observer::new(cluster, 1);
    observer.join(&group);
    observer.send("at once");
    for observer in [&mut observer, &mut witness] {
        observer.until_message(b"at once");
        let last = &observer.history()[observer.history().len() - 2..];
        assert!(
            matches!(last, [Event::Configuration(_), Event::Deliver { .. }]),
            "the join comes before what is sent after it: {last:?}"
        );
    }
}

pub(super) fn an_empty_message_is_a_message(cluster: &dyn Cluster) {
    let mut observers = Observer::group(cluster, 2, &new_group());
    observers[0].member.multicast(Guarantee::Agreed, &[]).unwrap();
    observers[0].member.multicast(Guarantee::Agreed, &[b"", b""]).unwrap();
    observers[0].send("end");
    for observer in &mut observers {
        observer.until_message(b"end");
        let lengths: Vec<_> = messages(&observer.heard).map(|(_, message)| message.len()).collect();
        assert_eq!(lengths, [0, 0, 3]);
    }
}

pub(super) fn many_slices_are_one_message(cluster: &dyn Cluster) {
    let mut observers = Observer::group(cluster, 2, &new_group());
    // Corosync's library has room for 63 and writes beyond it.
    let slices: Vec<_> = (0..=200_u8).map(|byte| vec![byte; usize::from(byte % 3)]).collect();
    let borrowed: Vec<_> = slices.iter().map(Vec::as_slice).collect();
    observers[0].member.multicast(Guarantee::Agreed, &borrowed).unwrap();
    let whole = slices.concat();
    observers.iter_mut().for_each(|observer| observer.until_message(&whole));
}

pub(super) fn the_largest_message_passes_and_no_larger(cluster: &dyn Cluster) {
    let mut observers = Observer::group(cluster, 2, &new_group());
    let size = observers[0].member.max_atomic_message_size();
    let message: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
    observers[0].send(&message);
    let one_more = observers[0].member.multicast(Guarantee::Agreed, &[&message, b"x"]);
    assert_eq!(one_more, Err(Error::TooBig));
    observers[0].send("end");
    for observer in &mut observers {
        observer.until_message(b"end");
        let heard: Vec<_> = messages(&observer.heard).map(|(_, message)| message).collect();
        assert_eq!(heard.len(), 2, "what is refused is heard by nobody");
        assert!(heard[0] == &message, "the message was changed");
    }
}

pub(super) fn only_what_is_given_can_be_asked_for(cluster: &dyn Cluster) {
    let mut observer = Observer::joined(cluster, 0, &new_group());
    for guarantee in [Guarantee::Unordered, Guarantee::Safe] {
        assert_eq!(observer.member.multicast(guarantee, &[b"no"]), Err(Error::NotSupported));
    }
    observer.member.multicast(Guarantee::Fifo, &[b"fifo"]).unwrap();
    observer.member.multicast(Guarantee::Agreed, &[b"agreed"]).unwrap();
    observer.until_message(b"agreed");
    let heard: Vec<_> = messages(&observer.heard).map(|(_, message)| message).collect();
    assert_eq!(heard, ["fifo", "agreed"]);
}

pub(super) fn a_flood_keeps_its_order(cluster: &dyn Cluster) {
    const COUNT: u32 = 3_000;
    let mut observers = Observer::group(cluster, 2, &new_group());
    let mut refused = 0;
    for number in 0..COUNT {
        let mut message = number.to_le_bytes().to_vec();
        message.resize(4_096, 0);
        loop {
            match observers[0].member.multicast(Guarantee::Agreed, &[&message]) {
                Ok(()) => break,
                Err(Error::TryAgain) => {
                    refused += 1;
                    observers[0].hear(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    for observer in &mut observers {
        observer.until("the flood", |heard| heard.len() > COUNT as usize);
        observer.until_message(&{
            let mut last = (COUNT - 1).to_le_bytes().to_vec();
            last.resize(4_096, 0);
            last
        });
        let numbers = messages(&observer.heard)
            .map(|(_, message)| u32::from_le_bytes(message[..4].try_into().unwrap()));
        assert!(numbers.eq(0..COUNT), "each once and in order, after {refused} refusals");
    }
}

pub(super) fn a_slow_member_holds_up_nobody(cluster: &dyn Cluster) {
    const COUNT: usize = 400;
    let mut observers = Observer::group(cluster, 3, &new_group());
    let mut slow = observers.pop().unwrap();
    let message = vec![7; 32 * 1024];
    for _ in 0..COUNT {
        observers[0].send(&message);
    }
    for observer in &mut observers {
        observer.until("all of it", |heard| messages(heard).count() == COUNT);
    }
    slow.until("all of it, late", |heard| messages(heard).count() == COUNT);
    assert!(messages(&slow.heard).all(|(_, heard)| heard == &message));
}
