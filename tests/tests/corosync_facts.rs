//! What Corosync does and does not promise, as `cpg::corosync` and the protocol of
//! Plainsong rely on it or defend against it. A version that changes one of these is to be
//! noticed here. None is a defect of this crate.
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
    // Node 3 still gets the token from node 2, so the ring stays; only what node 1 sends, and sends
    // again when node 3 asks for it, is lost.
    cluster.node(3).drop_from(1)?;
    let [first, second, third] = &mut observers;
    first.send("missed");
    first.until_message("missed");
    second.until_message("missed");
    cluster.node(3).cut()?;

    let me = third.me;
    for observer in [&mut *first, &mut *second] {
        let left = observer.until_left(me);
        let delivered = place_of(&observer.heard, "missed").unwrap();
        assert!(delivered < left, "delivered in the configuration of all three");
    }
    third.until_left(first.me);
    assert_eq!(place_of(&third.heard, "missed"), None, "{}", third.trace());
    Ok(())
}

/// What is sent while the ring breaks comes out in a later configuration, with whoever is
/// there then: a message does not carry the configuration that its sender was in. A node
/// alone delivers to itself, and needs nobody's consent. When the two sides come together,
/// each hears that the other came.
#[test]
fn there_is_no_sending_view_and_a_merge_has_two_sides() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mut observers = Observer::group([1, 2, 3].map(|id| cluster.node(id)));
    cluster.node(3).cut()?;
    let [first, _, third] = &mut observers;
    // Taken over: the break is not known yet.
    third.member.multicast(Guarantee::Agreed, &[b"stale"]).unwrap();
    assert_eq!(configurations(&third.heard).last().unwrap().members.len(), 3);

    third.until_message("stale");
    let alone = third.until_left(first.me);
    let stale = place_of(&third.heard, "stale").unwrap();
    assert!(alone < stale, "heard in the configuration it was sent in:\n{}", third.trace());
    assert_eq!(configurations(&third.heard).last().unwrap().members, [third.me]);
    let ring = |observer: &Observer| rings(&observer.heard).last().unwrap().clone();
    first.until_left(third.me);
    first.until("the ring of two", |heard| rings(heard).last().unwrap().nodes.len() == 2);
    assert_eq!(ring(third).nodes, [NodeId(3)]);
    assert_ne!(ring(first).id, ring(third).id, "the pair tells them apart");

    cluster.heal_all()?;
    for observer in &mut observers {
        observer.until("those who come", |heard| {
            let last = configurations(heard).last().unwrap();
            last.joined.iter().any(|came| came.reason == Reason::NodeUp)
        });
        observer.until("the ring", |heard| matches!(heard.last(), Some(Event::Ring(_))));
    }
    let came = |observer: &Observer| {
        let change = configurations(&observer.heard).last().unwrap();
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
    assert_eq!(place_of(&observers[0].heard, "stale"), None, "the others never get it");
    assert_eq!(place_of(&observers[1].heard, "stale"), None);
    Ok(())
}

/// A process that ends takes with it what the daemon has not read yet, though the library
/// had said `CS_OK`. To close the connection first is the remedy: the contract has it.
#[test]
fn an_exit_loses_what_was_sent() -> rig::Result<()> {
    const SENT: usize = 50;
    if !rig::usable() {
        return Ok(());
    }
    // The ring must not break while a daemon stands still.
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
    let heard = stays.heard.iter().filter(|event| matches!(event, Event::Deliver { .. })).count();
    let lost = SENT + 1 - heard;
    tell(&format!("lost at an exit: {lost} of {SENT} messages that were taken over"));
    assert!(lost > 0, "nothing was lost:\n{}", stays.trace());
    assert_eq!(rings(&stays.heard).count(), 1, "the ring had nothing to do with it");
    Ok(())
}
