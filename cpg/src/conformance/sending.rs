//! What can be sent, and what is held back.

use std::time::Duration;

use super::Cluster;
use super::ear::{Ear, messages, new_group};
use crate::{Error, Event, Guarantee};

pub(super) fn sending_needs_membership(cluster: &dyn Cluster) {
    let group = new_group();
    let mut member = Ear::joined(cluster, 0, &group);
    let mut outsider = Ear::new(cluster, 1);
    assert_eq!(outsider.member.multicast(Guarantee::Agreed, &[b"x"]), Err(Error::NotExist));
    outsider.assert_quiet();
    member.assert_quiet();
}

pub(super) fn sending_right_after_joining_works(cluster: &dyn Cluster) {
    let group = new_group();
    let mut witness = Ear::joined(cluster, 0, &group);
    let mut ear = Ear::new(cluster, 1);
    ear.join(&group);
    ear.send("at once");
    for ear in [&mut ear, &mut witness] {
        ear.until_message(b"at once");
        let last = &ear.history()[ear.history().len() - 2..];
        assert!(
            matches!(last, [Event::Configuration(_), Event::Deliver { .. }]),
            "the join comes before what is sent after it: {last:?}"
        );
    }
}

pub(super) fn an_empty_message_is_a_message(cluster: &dyn Cluster) {
    let mut choir = Ear::choir(cluster, 2, &new_group());
    choir[0].member.multicast(Guarantee::Agreed, &[]).unwrap();
    choir[0].member.multicast(Guarantee::Agreed, &[b"", b""]).unwrap();
    choir[0].send("end");
    for ear in &mut choir {
        ear.until_message(b"end");
        let lengths: Vec<_> = messages(&ear.heard).map(|(_, message)| message.len()).collect();
        assert_eq!(lengths, [0, 0, 3]);
    }
}

pub(super) fn many_slices_are_one_message(cluster: &dyn Cluster) {
    let mut choir = Ear::choir(cluster, 2, &new_group());
    // Corosync's library has room for 63 and writes beyond it.
    let slices: Vec<_> = (0..=200_u8).map(|byte| vec![byte; usize::from(byte % 3)]).collect();
    let borrowed: Vec<_> = slices.iter().map(Vec::as_slice).collect();
    choir[0].member.multicast(Guarantee::Agreed, &borrowed).unwrap();
    let whole = slices.concat();
    choir.iter_mut().for_each(|ear| ear.until_message(&whole));
}

pub(super) fn the_largest_message_passes_and_no_larger(cluster: &dyn Cluster) {
    let mut choir = Ear::choir(cluster, 2, &new_group());
    let size = choir[0].member.max_atomic_message_size();
    let message: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
    choir[0].send(&message);
    let one_more = choir[0].member.multicast(Guarantee::Agreed, &[&message, b"x"]);
    assert_eq!(one_more, Err(Error::TooBig));
    choir[0].send("end");
    for ear in &mut choir {
        ear.until_message(b"end");
        let heard: Vec<_> = messages(&ear.heard).map(|(_, message)| message).collect();
        assert_eq!(heard.len(), 2, "what is refused is heard by nobody");
        assert!(heard[0] == &message, "the message was changed");
    }
}

pub(super) fn only_what_is_given_can_be_asked_for(cluster: &dyn Cluster) {
    let mut ear = Ear::joined(cluster, 0, &new_group());
    for guarantee in [Guarantee::Unordered, Guarantee::Safe] {
        assert_eq!(ear.member.multicast(guarantee, &[b"no"]), Err(Error::NotSupported));
    }
    ear.member.multicast(Guarantee::Fifo, &[b"fifo"]).unwrap();
    ear.member.multicast(Guarantee::Agreed, &[b"agreed"]).unwrap();
    ear.until_message(b"agreed");
    let heard: Vec<_> = messages(&ear.heard).map(|(_, message)| message).collect();
    assert_eq!(heard, ["fifo", "agreed"]);
}

pub(super) fn a_flood_keeps_its_order(cluster: &dyn Cluster) {
    const COUNT: u32 = 3_000;
    let mut choir = Ear::choir(cluster, 2, &new_group());
    let mut refused = 0;
    for number in 0..COUNT {
        let mut message = number.to_le_bytes().to_vec();
        message.resize(4_096, 0);
        loop {
            match choir[0].member.multicast(Guarantee::Agreed, &[&message]) {
                Ok(()) => break,
                Err(Error::TryAgain) => {
                    refused += 1;
                    choir[0].hear(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    for ear in &mut choir {
        ear.until("the flood", |heard| heard.len() > COUNT as usize);
        ear.until_message(&{
            let mut last = (COUNT - 1).to_le_bytes().to_vec();
            last.resize(4_096, 0);
            last
        });
        let numbers = messages(&ear.heard)
            .map(|(_, message)| u32::from_le_bytes(message[..4].try_into().unwrap()));
        assert!(numbers.eq(0..COUNT), "each once and in order, after {refused} refusals");
    }
}

pub(super) fn a_slow_member_holds_up_nobody(cluster: &dyn Cluster) {
    const COUNT: usize = 400;
    let mut choir = Ear::choir(cluster, 3, &new_group());
    let mut slow = choir.pop().unwrap();
    let message = vec![7; 32 * 1024];
    for _ in 0..COUNT {
        choir[0].send(&message);
    }
    for ear in &mut choir {
        ear.until("all of it", |heard| messages(heard).count() == COUNT);
    }
    slow.until("all of it, late", |heard| messages(heard).count() == COUNT);
    assert!(messages(&slow.heard).all(|(_, heard)| heard == &message));
}
