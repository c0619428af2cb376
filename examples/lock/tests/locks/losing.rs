//! A session loses its locks when it ends, its server leaves, a lease expires or an operator breaks
//! them.

use lock::command::{Command, Loss, Output, Refusal, SessionEvent, Terms};
use plainsong::Timestamp;

use super::{A, B, C, SHARE, WAIT, World, granted, lost, name, run};

#[test]
fn a_session_that_ends_releases_all_its_locks() {
    let mut world = World::default();
    world.lock(A, "a", Terms { linger_ms: 100, ..WAIT });
    world.lock(A, "b", WAIT);
    world.lock(B, "c", WAIT);
    world.lock(A, "c", WAIT);
    world.lock(B, "a", WAIT);
    world.lock(C, "b", WAIT);
    assert_eq!(world.does(1, Command::End { session: 1 }), Output::Done(3));
    assert_eq!(world.news(), [granted(B, "a", 4), granted(C, "b", 5)]);
    assert_eq!(world.does(1, Command::End { session: 1 }), Output::Done(0));
}

/// Rule N9: the departure of a server takes effect at the same place of the log at all replicas.
#[test]
fn a_server_that_leaves_loses_all_its_sessions() {
    let mut world = World::default();
    world.lock((1, 5), "a", WAIT);
    world.lock((1, 2), "b", WAIT);
    world.lock(C, "a", WAIT);
    world.lock((1, 3), "a", WAIT);
    world.lock(B, "b", WAIT);
    world.lock(B, "a", WAIT);
    world.leaves(1);
    assert_eq!(
        world.news(),
        [granted(B, "b", 3), granted(C, "a", 4), SessionEvent::Dismissed(run(1))],
        "in the order of sessions, and without the waiters of the server that left"
    );
    world.unlock(C, "a");
    assert_eq!(world.news(), [granted(B, "a", 5)]);
    world.leaves(1);
    assert_eq!(world.news(), [SessionEvent::Dismissed(run(1))]);
}

#[test]
fn locks_of_a_departed_server_linger_as_agreed() {
    let mut world = World::default();
    world.lock(A, "a", Terms { linger_ms: 100, ..WAIT });
    world.lock(B, "a", WAIT);
    world.passes(10);
    world.leaves(1);
    world.news();
    world.passes(109);
    assert_eq!(world.news(), []);
    world.passes(110);
    assert_eq!(world.news(), [granted(B, "a", 110)]);
}

#[test]
fn locks_of_an_abandoned_session_linger_until_its_client_has_stopped() {
    let mut world = World::default();
    world.lock(A, "a", Terms { linger_ms: 100, ..WAIT });
    world.lock(B, "a", WAIT);
    world.lock(A, "b", WAIT);
    assert_eq!(world.does(1, Command::Abandon { session: 1 }), Output::Done(2));
    world.leaves(1);
    world.passes(50);
    assert_eq!(world.news(), [SessionEvent::Dismissed(run(1))]);
    assert_eq!(world.does(1, Command::Abandon { session: 1 }), Output::Done(1));
    assert_eq!(
        world.locks.next_deadline(),
        Some(Timestamp(100)),
        "the linger time does not start again"
    );
    assert_eq!(world.does(1, Command::Renew { session: 1, name: name("a") }), Output::Done(0));
    assert_eq!(world.lock(A, "a", WAIT), Output::Refused(Refusal::Held));
    assert_eq!(world.does(1, Command::End { session: 1 }), Output::Done(1));
    assert_eq!(world.news(), [granted(B, "a", 50)]);
}

#[test]
fn a_lease_expires_unless_it_is_renewed() {
    let mut world = World::default();
    world.lock(A, "a", Terms { lease_ms: Some(100), ..WAIT });
    world.lock(B, "a", Terms { lease_ms: Some(30), linger_ms: 7, ..WAIT });
    world.lock(C, "a", WAIT);
    world.passes(60);
    assert_eq!(world.does(1, Command::Renew { session: 1, name: name("a") }), Output::Done(1));
    assert_eq!(
        world.does(2, Command::Renew { session: 1, name: name("a") }),
        Output::Done(0),
        "a waiter has no lease"
    );
    world.passes(159);
    assert_eq!(world.news(), []);
    world.passes(160);
    assert_eq!(world.news(), [lost(A, "a", Loss::LeaseOver), granted(B, "a", 160)]);
    world.passes(190);
    assert_eq!(world.news(), [lost(B, "a", Loss::LeaseOver)], "the lease starts with the grant");
    world.passes(197);
    assert_eq!(world.news(), [granted(C, "a", 197)]);
}

#[test]
fn an_operator_breaks_a_lock_at_once_or_after_its_linger_time() {
    let mut world = World::default();
    world.lock(A, "a", Terms { linger_ms: 100, ..SHARE });
    world.lock(B, "a", SHARE);
    world.lock(C, "a", WAIT);
    let gently =
        |world: &mut World| world.does(9, Command::Break { name: name("a"), at_once: false });
    assert_eq!(gently(&mut world), Output::Done(2));
    assert_eq!(world.news(), [lost(A, "a", Loss::Broken), lost(B, "a", Loss::Broken)]);
    assert_eq!(gently(&mut world), Output::Done(0), "nothing left to break");
    let now = Command::Break { name: name("a"), at_once: true };
    assert_eq!(world.does(9, now.clone()), Output::Done(1));
    assert_eq!(world.news(), [granted(C, "a", 3)]);
    assert_eq!(world.does(9, now.clone()), Output::Done(1));
    assert_eq!(world.news(), [lost(C, "a", Loss::Broken)]);
    assert_eq!(world.does(9, now), Output::Done(0));
}
