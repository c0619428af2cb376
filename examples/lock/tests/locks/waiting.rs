//! Waiting for a lock, and the order in which it is granted.

use lock::command::{Mode, Output, Patience, Terms};
use plainsong::Timestamp;

use super::{A, B, C, D, SHARE, TRY, WAIT, World, granted, timed_out};

#[test]
fn a_lock_passes_on_in_the_order_of_asking() {
    let mut world = World::default();
    assert_eq!(world.lock(A, "a", WAIT), Output::Granted(1));
    assert_eq!(world.lock(B, "a", WAIT), Output::Queued);
    assert_eq!(world.lock(C, "a", WAIT), Output::Queued);
    assert_eq!(world.lock(D, "a", TRY), Output::Taken);
    assert_eq!(world.lock(D, "b", TRY), Output::Granted(2), "another lock");
    assert_eq!(world.unlock(A, "a"), Output::Done(1));
    assert_eq!(world.news(), [granted(B, "a", 3)]);
    assert_eq!(world.unlock(A, "a"), Output::Done(0), "it has it no more");
    assert_eq!(world.unlock(B, "a"), Output::Done(1));
    assert_eq!(world.news(), [granted(C, "a", 4)]);
    world.unlock(C, "a");
    world.unlock(D, "b");
    assert_eq!(world.lock(A, "a", TRY), Output::Granted(5));
}

#[test]
fn a_waiter_that_gives_up_is_passed_over() {
    let mut world = World::default();
    world.lock(A, "a", WAIT);
    world.lock(B, "a", WAIT);
    world.lock(C, "a", WAIT);
    assert_eq!(world.unlock(B, "a"), Output::Done(1));
    world.unlock(A, "a");
    assert_eq!(world.news(), [granted(C, "a", 2)]);
}

#[test]
fn nobody_overtakes_a_waiter_and_those_who_share_come_together() {
    let mut world = World::default();
    assert_eq!(world.lock(A, "a", SHARE), Output::Granted(1));
    assert_eq!(world.lock(B, "a", SHARE), Output::Granted(2));
    assert_eq!(world.lock(C, "a", WAIT), Output::Queued);
    let try_shared = Terms { mode: Mode::Shared, ..TRY };
    assert_eq!(world.lock(D, "a", try_shared), Output::Taken, "it would starve who waits");
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
fn who_shares_goes_on_when_the_waiter_in_front_gives_up() {
    let mut world = World::default();
    world.lock(A, "a", SHARE);
    world.lock(B, "a", Terms { patience: Patience::Ms(10), ..WAIT });
    world.lock(C, "a", SHARE);
    world.passes(10);
    assert_eq!(world.news(), [timed_out(B, "a"), granted(C, "a", 10)]);
}

#[test]
fn a_wait_ends_at_its_time_and_not_before() {
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
    assert_eq!(world.news(), [], "nobody waits any more");
}

#[test]
fn a_wait_that_was_rewarded_does_not_time_out() {
    let mut world = World::default();
    world.lock(A, "a", WAIT);
    world.lock(B, "a", Terms { patience: Patience::Ms(50), ..WAIT });
    world.unlock(A, "a");
    assert_eq!(world.news(), [granted(B, "a", 2)]);
    assert_eq!(world.locks.next_deadline(), None);
}

#[test]
fn tokens_grow_with_the_time_and_within_one_command() {
    let mut world = World::default();
    assert_eq!(world.lock(A, "a", WAIT), Output::Granted(1));
    world.lock(B, "a", SHARE);
    world.lock(C, "a", SHARE);
    world.passes(5000);
    world.unlock(A, "a");
    assert_eq!(world.news(), [granted(B, "a", 5000), granted(C, "a", 5001)]);
    assert_eq!(world.lock(A, "b", WAIT), Output::Granted(5002), "of whatever lock");
    // A group that has lost its state begins with the time, past what was given out.
    let mut new = World::default();
    new.passes(6000);
    assert_eq!(new.lock(A, "a", WAIT), Output::Granted(6000));
}
