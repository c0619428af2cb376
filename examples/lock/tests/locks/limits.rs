//! Limits, and the list of locks.

use lock::Locks;
use lock::command::{Command, Output, Refusal, Terms};
use lock::limits::{CLAIMS_PER_LOCK_MAX, CLAIMS_PER_SESSION_MAX, LISTED_HOLDERS_MAX};
use plainsong::Timestamp;

use super::{A, B, SHARE, WAIT, World, name, run};

#[test]
fn requests_beyond_a_limit_are_refused_and_change_nothing() {
    let mut world = World::default();
    for lock in 0..CLAIMS_PER_SESSION_MAX {
        assert!(matches!(world.lock(A, &format!("l{lock}"), WAIT), Output::Granted(_)));
    }
    assert_eq!(world.lock(A, "one-more", WAIT), Output::Refused(Refusal::SessionFull));
    assert_eq!(world.lock(A, "l0", WAIT), Output::Refused(Refusal::Held));
    let mut locks = Locks::default();
    let mut acquire = |session: usize| {
        let session = session as u64;
        let command = Command::Acquire { session, name: name("a"), terms: SHARE };
        locks.execute(Timestamp(0), run(1), command, &mut Vec::new())
    };
    for session in 0..CLAIMS_PER_LOCK_MAX {
        assert!(matches!(acquire(session), Output::Granted(_)));
    }
    assert_eq!(acquire(CLAIMS_PER_LOCK_MAX), Output::Refused(Refusal::LockFull));
    locks.check().unwrap();
}

#[test]
fn the_list_continues_after_a_name_and_limits_the_holders_shown() {
    let mut world = World::default();
    for session in 0..20 {
        world.lock((1, session), "b", SHARE);
    }
    world.lock(B, "b", WAIT);
    world.lock(A, "a", Terms { lease_ms: Some(10), ..WAIT });
    world.lock(A, "c", WAIT);
    let list = |world: &World, after: Option<&str>| world.locks.list(after.map(name).as_ref(), 2);
    let first = list(&world, None);
    let counts: Vec<_> = first.iter().map(|l| (l.name.as_str(), l.holders, l.waiters)).collect();
    assert_eq!(counts, [("a", 1, 0), ("b", 20, 1)]);
    assert_eq!(first[0].first[0].until, Some(Timestamp(10)));
    assert_eq!(first[1].first.len(), LISTED_HOLDERS_MAX);
    let rest = list(&world, Some("b"));
    assert_eq!(rest.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(list(&world, Some("c")), []);
}
