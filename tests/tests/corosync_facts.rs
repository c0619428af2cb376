//! Guarantees that Corosync gives and does not give. `cpg::corosync` and the protocol of Plainsong
//! rely on them or defend against them. A version of Corosync that changes one of them fails here.
//! None is a defect of this crate.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use corosync_common::{Observer, SOON, be_child, configurations, place_of, rings, tell, whose};
use cpg::conformance::Member as _;
use cpg::{Event, Guarantee, NodeId, Reason};
use plainsong_tests::rig::{self, Cluster};

#[test]
fn child() {
    be_child();
}

/// A node delivers a message as soon as it has all earlier ones, without waiting until the others
/// have it. Members of one configuration that are separated by a ring change may therefore have
/// delivered different messages in it: a delivery says nothing about a majority.
#[test]
fn delivery_is_agreed_but_not_safe() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mut observers = Observer::group([1, 2, 3].map(|id| cluster.node(id)));
    // Node 3 still gets the token from node 2, so the ring stays. Only messages of node 1 are lost,
    // including those that node 3 asks it to retransmit.
    cluster.node(3).drop_from(1)?;
    let [first, second, third] = &mut observers;
    first.send("missed");
    first.until_message("missed");
    second.until_message("missed");
    cluster.node(3).cut()?;

    let me = third.me;
    for observer in [&mut *first, &mut *second] {
        let left = observer.until_left(me);
        let delivered = place_of(&observer.received, "missed").unwrap();
        assert!(delivered < left, "delivered in the configuration of all three");
    }
    third.until_left(first.me);
    assert_eq!(place_of(&third.received, "missed"), None, "{}", third.trace());
    Ok(())
}

/// A message sent while the ring breaks is delivered in a later configuration, to its members: a
/// message does not carry the configuration of its sender. A node alone delivers to itself without
/// the consent of others. When the two sides merge, each learns that the other joined.
#[test]
fn a_message_can_be_delivered_in_a_later_configuration_and_both_sides_of_a_merge_join()
-> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mut observers = Observer::group([1, 2, 3].map(|id| cluster.node(id)));
    cluster.node(3).cut()?;
    let [first, _, third] = &mut observers;
    // Accepted, because the break is not known yet.
    third.member.multicast(Guarantee::Agreed, &[b"stale"]).unwrap();
    assert_eq!(configurations(&third.received).last().unwrap().members.len(), 3);

    third.until_message("stale");
    let alone = third.until_left(first.me);
    let stale = place_of(&third.received, "stale").unwrap();
    assert!(
        alone < stale,
        "delivered in the configuration in which it was sent:\n{}",
        third.trace()
    );
    assert_eq!(configurations(&third.received).last().unwrap().members, [third.me]);
    let ring = |observer: &Observer| rings(&observer.received).last().unwrap().clone();
    first.until_left(third.me);
    first.until("the ring of two", |received| rings(received).last().unwrap().nodes.len() == 2);
    assert_eq!(ring(third).nodes, [NodeId(3)]);
    assert_ne!(ring(first).id, ring(third).id, "the pair of representative and number differs");

    cluster.heal_all()?;
    for observer in &mut observers {
        observer.until("members that join", |received| {
            let last = configurations(received).last().unwrap();
            last.joined.iter().any(|came| came.reason == Reason::NodeUp)
        });
        observer.until("the ring", |received| matches!(received.last(), Some(Event::Ring(_))));
    }
    let came = |observer: &Observer| {
        let change = configurations(&observer.received).last().unwrap();
        assert_eq!(change.members.len(), 3);
        assert_eq!(change.left, []);
        whose(&change.joined, Reason::NodeUp)
    };
    assert_eq!(came(&observers[0]), [NodeId(3)]);
    assert_eq!(came(&observers[1]), [NodeId(3)]);
    assert_eq!(came(&observers[2]), [NodeId(1), NodeId(2)]);
    assert_eq!(ring(&observers[0]), ring(&observers[2]));

    observers[0].send("after");
    for observer in &mut observers {
        observer.until_message("after");
    }
    assert_eq!(place_of(&observers[0].received, "stale"), None, "the others never receive it");
    assert_eq!(place_of(&observers[1].received, "stale"), None);
    Ok(())
}

/// When a process exits, messages that the daemon has not read yet are lost, although the library
/// returned `CS_OK`. Closing the connection first prevents this; the contract has a case for it.
#[test]
fn an_exit_loses_sent_messages() -> rig::Result<()> {
    const SENT: usize = 50;
    if !rig::usable() {
        return Ok(());
    }
    // The ring must not break while a daemon is paused.
    let cluster = Cluster::builder().token_ms(4_000).start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let [mut stays, mut ends] = Observer::group([2, 1].map(|id| cluster.node(id)));
    ends.send("first");
    stays.until_message("first");
    cluster.node(1).pause_daemon()?;
    for number in 0..SENT {
        ends.member.multicast(Guarantee::Agreed, &[number.to_string().as_bytes()]).unwrap();
    }
    let gone = ends.me;
    ends.member.kill();
    cluster.node(1).resume_daemon()?;
    stays.until_left(gone);
    let received =
        stays.received.iter().filter(|event| matches!(event, Event::Deliver { .. })).count();
    let lost = SENT + 1 - received;
    tell(&format!("lost at an exit: {lost} of {SENT} accepted messages"));
    assert!(lost > 0, "nothing was lost:\n{}", stays.trace());
    assert_eq!(rings(&stays.received).count(), 1, "the ring changed");
    Ok(())
}
