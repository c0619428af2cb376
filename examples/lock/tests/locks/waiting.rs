//! Waiting for a lock, and the order in which it is granted.

use lock::command::{Mode, Output, Patience, Terms};
use plainsong::Timestamp;

use super::{A, B, C, D, SHARE, TRY, WAIT, World, granted, timed_out};

#[test]
fn a_lock_is_granted_in_the_order_of_the_requests() {
    let mut world = World::default();
    assert_eq!(world.lock(A, "a", WAIT), Output::Granted(1));
    assert_eq!(world.lock(B, "a", WAIT), Output::Queued);
    assert_eq!(world.lock(C, "a", WAIT), Output::Queued);
    assert_eq!(world.lock(D, "a", TRY), Output::Taken);
    assert_eq!(world.lock(D, "b", TRY), Output::Granted(2), "another lock");
    assert_eq!(world.unlock(A, "a"), Output::Done(1));
    assert_eq!(world.news(), [granted(B, "a", 3)]);
    assert_eq!(world.unlock(A, "a"), Output::Done(0), "it no longer has the lock");
    assert_eq!(world.unlock(B, "a"), Output::Done(1));
    assert_eq!(world.news(), [granted(C, "a", 4)]);
    world.unlock(C, "a");
    world.unlock(D, "b");
    assert_eq!(world.lock(A, "a", TRY), Output::Granted(5));
}

#[test]
fn a_waiter_that_gives_up_is_skipped() {
    let mut world = World::default();
    world.lock(A, "a", WAIT);
    world.lock(B, "a", WAIT);
    world.lock(C, "a", WAIT);
    assert_eq!(world.unlock(B, "a"), Output::Done(1));
    world.unlock(A, "a");
    assert_eq!(world.news(), [granted(C, "a", 2)]);
}

#[test]
fn no_request_overtakes_a_waiter_and_shared_waiters_are_granted_together() {
    let mut world = World::default();
    assert_eq!(world.lock(A, "a", SHARE), Output::Granted(1));
    assert_eq!(world.lock(B, "a", SHARE), Output::Granted(2));
    assert_eq!(world.lock(C, "a", WAIT), Output::Queued);
    let try_shared = Terms { mode: Mode::Shared, ..TRY };
    assert_eq!(world.lock(D, "a", try_shared), Output::Taken, "it would starve the waiter");
    assert_eq!(world.lock(D, "a", SHARE), Output::Queued);
    assert_eq!(world.lock((3, 3), "a", SHARE), Output::Queued);
    world.unlock(A, "a");
    assert_eq!(world.news(), []);
    world.unlock(B, "a");
    assert_eq!(world.news(), [granted(C, "a", 3)]);
    world.unlock(C, "a");
    assert_eq!(world.news(), [granted(D, "a", 4), granted((3, 3), "a", 5)]);
}

#[test]
fn a_shared_waiter_is_granted_when_the_waiter_before_it_gives_up() {
    let mut world = World::default();
    world.lock(A, "a", SHARE);
    world.lock(B, "a", Terms { patience: Patience::Ms(10), ..WAIT });
    world.lock(C, "a", SHARE);
    world.passes(10);
    assert_eq!(world.news(), [timed_out(B, "a"), granted(C, "a", 10)]);
}

#[test]
fn a_wait_times_out_exactly_at_its_deadline() {
    let mut world = World::default();
    world.passes(1000);
    world.lock(A, "a", WAIT);
    world.lock(B, "a", Terms { patience: Patience::Ms(50), ..WAIT });
    assert_eq!(world.locks.next_deadline(), Some(Timestamp(1050)));
    world.passes(1049);
    assert_eq!(world.news(), []);
    world.passes(1050);
    assert_eq!(world.news(), [timed_out(B, "a")]);
    assert_eq!(world.locks.next_deadline(), None);
    world.unlock(A, "a");
    assert_eq!(world.news(), [], "there are no waiters left");
}

#[test]
fn a_granted_wait_does_not_time_out() {
    let mut world = World::default();
    world.lock(A, "a", WAIT);
    world.lock(B, "a", Terms { patience: Patience::Ms(50), ..WAIT });
    world.unlock(A, "a");
    assert_eq!(world.news(), [granted(B, "a", 2)]);
    assert_eq!(world.locks.next_deadline(), None);
}

#[test]
fn tokens_grow_with_log_time_and_within_one_command() {
    let mut world = World::default();
    assert_eq!(world.lock(A, "a", WAIT), Output::Granted(1));
    world.lock(B, "a", SHARE);
    world.lock(C, "a", SHARE);
    world.passes(5000);
    world.unlock(A, "a");
    assert_eq!(world.news(), [granted(B, "a", 5000), granted(C, "a", 5001)]);
    assert_eq!(world.lock(A, "b", WAIT), Output::Granted(5002), "tokens are shared by all locks");
    // A group that has lost its state starts from the log time, above all earlier tokens.
    let mut new = World::default();
    new.passes(6000);
    assert_eq!(new.lock(A, "a", WAIT), Output::Granted(6000));
}
