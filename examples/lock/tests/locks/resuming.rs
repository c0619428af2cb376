//! Moving a lock to a session at another server.

use lock::command::{Command, Loss, Output, Refusal, SessionEvent, Terms};

use super::{A, B, C, D, WAIT, World, lost, name, run};

#[test]
fn a_lock_whose_server_is_gone_moves_to_another_session_and_keeps_its_token() {
    let mut world = World::default();
    let terms = Terms { linger_ms: 100, ..WAIT };
    assert_eq!(world.lock(A, "a", terms), Output::Granted(1));
    world.lock(C, "a", WAIT);
    let resume = |world: &mut World, (server, session): (u32, u64), token| {
        world.does(server, Command::Resume { session, name: name("a"), token })
    };
    assert_eq!(resume(&mut world, B, 2), Output::Taken, "no such grant");
    // The old server is still a member; its client no longer hears from it.
    assert_eq!(resume(&mut world, B, 1), Output::Resumed(1));
    assert_eq!(world.news(), [lost(A, "a", Loss::Moved)]);
    assert_eq!(world.does(1, Command::End { session: 1 }), Output::Done(0));
    world.leaves(2);
    assert_eq!(world.news(), [SessionEvent::Dismissed(run(2))]);
    world.passes(99);
    assert_eq!(resume(&mut world, D, 1), Output::Resumed(1));
    assert_eq!(world.news(), [lost(B, "a", Loss::Moved)]);
    world.passes(1000);
    assert_eq!(world.news(), [], "a resumed lock does not linger");
    assert_eq!(
        resume(&mut world, C, 1),
        Output::Refused(Refusal::Held),
        "the session already waits for the lock"
    );
    world.leaves(3);
    world.passes(1100);
    assert_eq!(resume(&mut world, A, 1), Output::Taken, "too late");
}

#[test]
fn a_lease_restarts_when_the_lock_moves() {
    let mut world = World::default();
    world.lock(A, "a", Terms { lease_ms: Some(50), linger_ms: 100, ..WAIT });
    world.passes(40);
    world.leaves(1);
    world.passes(120);
    let resume = Command::Resume { session: 1, name: name("a"), token: 1 };
    assert_eq!(world.does(2, resume.clone()), Output::Resumed(1));
    world.news();
    world.passes(169);
    assert_eq!(world.news(), []);
    world.passes(170);
    assert_eq!(world.news(), [lost(B, "a", Loss::LeaseOver)]);
    assert_eq!(world.does(3, resume), Output::Taken, "an expired lease cannot be resumed");
}

#[test]
fn a_broken_lock_cannot_be_resumed() {
    for is_lost_before in [false, true] {
        let mut world = World::default();
        world.lock(A, "a", Terms { linger_ms: 100, ..WAIT });
        if is_lost_before {
            world.leaves(1);
        }
        let gently = Command::Break { name: name("a"), at_once: false };
        assert_eq!(world.does(9, gently), Output::Done(1));
        let resume = Command::Resume { session: 1, name: name("a"), token: 1 };
        assert_eq!(world.does(2, resume), Output::Taken);
    }
}
