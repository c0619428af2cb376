//! The state alone: who gets which lock, when, and with which token.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;

use lock::command::{
    Command, Loss, Mode, Output, Patience, Refusal, SessionEvent, SessionId, Terms,
};
use lock::limits::{CLAIMS_PER_LOCK_MAX, CLAIMS_PER_SESSION_MAX, LISTED_HOLDERS_MAX};
use lock::{LockMachine, Locks, Name, Owner};
use plainsong::snapshot::Snapshot;
use plainsong::{Context, Incarnation, Index, Nonce, ReplicaId, StateMachine, Timestamp};
use tokio::sync::mpsc;

/// The locks and a log's time, which only a test moves.
#[derive(Clone, Default)]
struct World {
    locks: Locks,
    time: u64,
    events: Vec<SessionEvent>,
}

impl World {
    #[track_caller]
    fn does(&mut self, server: u32, command: Command) -> Output {
        let mut events = Vec::new();
        let output = self.locks.execute(Timestamp(self.time), run(server), command, &mut events);
        self.took(events);
        output
    }

    #[track_caller]
    fn lock(&mut self, (server, session): (u32, u64), lock: &str, terms: Terms) -> Output {
        self.does(server, Command::Acquire { session, name: name(lock), terms })
    }

    #[track_caller]
    fn unlock(&mut self, (server, session): (u32, u64), lock: &str) -> Output {
        self.does(server, Command::Release { session, name: name(lock) })
    }

    /// The time passes, as a replica has it: with a wake-up where one was asked for.
    #[track_caller]
    fn passes(&mut self, time: u64) {
        self.time = time;
        if self.locks.next_deadline().is_some_and(|at| at.0 <= time) {
            let mut events = Vec::new();
            self.locks.expire(Timestamp(time), &mut events);
            self.took(events);
        }
    }

    #[track_caller]
    fn leaves(&mut self, server: u32) {
        let mut events = Vec::new();
        self.locks.dismiss(Timestamp(self.time), run(server), &mut events);
        self.took(events);
    }

    #[track_caller]
    fn took(&mut self, events: Vec<SessionEvent>) {
        self.locks.check().unwrap();
        self.events.extend(events);
    }

    fn news(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.events)
    }
}

fn run(server: u32) -> Incarnation {
    Incarnation { replica: ReplicaId(server), nonce: Nonce(7) }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

const WAIT: Terms = Terms {
    mode: Mode::Exclusive,
    patience: Patience::Endless,
    lease_ms: None,
    linger_ms: 0,
    owner: OWNER,
};
const TRY: Terms = Terms {
    mode: Mode::Exclusive,
    patience: Patience::None,
    lease_ms: None,
    linger_ms: 0,
    owner: OWNER,
};
const SHARE: Terms = Terms {
    mode: Mode::Shared,
    patience: Patience::Endless,
    lease_ms: None,
    linger_ms: 0,
    owner: OWNER,
};
const OWNER: Owner = Owner::NONE;

fn granted((server, number): (u32, u64), lock: &str, token: u64) -> SessionEvent {
    let session = SessionId { server: run(server), number };
    SessionEvent::Granted { session, name: name(lock), token }
}

fn timed_out((server, number): (u32, u64), lock: &str) -> SessionEvent {
    SessionEvent::TimedOut { session: SessionId { server: run(server), number }, name: name(lock) }
}

fn lost((server, number): (u32, u64), lock: &str, why: Loss) -> SessionEvent {
    SessionEvent::Lost { session: SessionId { server: run(server), number }, name: name(lock), why }
}

const A: (u32, u64) = (1, 1);
const B: (u32, u64) = (2, 1);
const C: (u32, u64) = (3, 1);
const D: (u32, u64) = (3, 2);

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

#[test]
fn a_session_that_ends_gives_everything_back() {
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

/// Rule N9: the group tells it in the order of the log, at the same place everywhere.
#[test]
fn a_server_that_leaves_takes_its_sessions_with_it() {
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
        "by session, and without who waited there"
    );
    world.unlock(C, "a");
    assert_eq!(world.news(), [granted(B, "a", 5)]);
    world.leaves(1);
    assert_eq!(world.news(), [SessionEvent::Dismissed(run(1))]);
}

#[test]
fn what_a_server_held_lingers_where_that_was_agreed() {
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
fn a_session_given_up_lingers_until_its_client_has_stopped() {
    let mut world = World::default();
    world.lock(A, "a", Terms { linger_ms: 100, ..WAIT });
    world.lock(B, "a", WAIT);
    world.lock(A, "b", WAIT);
    assert_eq!(world.does(1, Command::Abandon { session: 1 }), Output::Done(2));
    world.leaves(1);
    world.passes(50);
    assert_eq!(world.news(), [SessionEvent::Dismissed(run(1))]);
    assert_eq!(world.does(1, Command::Abandon { session: 1 }), Output::Done(1));
    assert_eq!(world.locks.next_deadline(), Some(Timestamp(100)), "it does not begin anew");
    assert_eq!(world.does(1, Command::Renew { session: 1, name: name("a") }), Output::Done(0));
    assert_eq!(world.lock(A, "a", WAIT), Output::Refused(Refusal::Held));
    assert_eq!(world.does(1, Command::End { session: 1 }), Output::Done(1));
    assert_eq!(world.news(), [granted(B, "a", 50)]);
}

#[test]
fn a_lease_ends_unless_it_is_renewed() {
    let mut world = World::default();
    world.lock(A, "a", Terms { lease_ms: Some(100), ..WAIT });
    world.lock(B, "a", Terms { lease_ms: Some(30), linger_ms: 7, ..WAIT });
    world.lock(C, "a", WAIT);
    world.passes(60);
    assert_eq!(world.does(1, Command::Renew { session: 1, name: name("a") }), Output::Done(1));
    assert_eq!(
        world.does(2, Command::Renew { session: 1, name: name("a") }),
        Output::Done(0),
        "who waits has no lease"
    );
    world.passes(159);
    assert_eq!(world.news(), []);
    world.passes(160);
    assert_eq!(world.news(), [lost(A, "a", Loss::LeaseOver), granted(B, "a", 160)]);
    world.passes(190);
    assert_eq!(world.news(), [lost(B, "a", Loss::LeaseOver)], "its lease began with the grant");
    world.passes(197);
    assert_eq!(world.news(), [granted(C, "a", 197)]);
}

#[test]
fn a_lock_whose_server_is_gone_moves_to_another_session_with_its_token() {
    let mut world = World::default();
    let terms = Terms { linger_ms: 100, ..WAIT };
    assert_eq!(world.lock(A, "a", terms), Output::Granted(1));
    world.lock(C, "a", WAIT);
    let resume = |world: &mut World, (server, session): (u32, u64), token| {
        world.does(server, Command::Resume { session, name: name("a"), token })
    };
    assert_eq!(resume(&mut world, B, 2), Output::Taken, "no such grant");
    // Its server is there still, and its client does not hear it.
    assert_eq!(resume(&mut world, B, 1), Output::Resumed(1));
    assert_eq!(world.news(), [lost(A, "a", Loss::Moved)]);
    assert_eq!(world.does(1, Command::End { session: 1 }), Output::Done(0));
    world.leaves(2);
    assert_eq!(world.news(), [SessionEvent::Dismissed(run(2))]);
    world.passes(99);
    assert_eq!(resume(&mut world, D, 1), Output::Resumed(1));
    assert_eq!(world.news(), [lost(B, "a", Loss::Moved)]);
    world.passes(1000);
    assert_eq!(world.news(), [], "it lingers no more");
    assert_eq!(resume(&mut world, C, 1), Output::Refused(Refusal::Held), "it waits for it");
    world.leaves(3);
    world.passes(1100);
    assert_eq!(resume(&mut world, A, 1), Output::Taken, "too late");
}

#[test]
fn a_lease_that_moves_begins_anew() {
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
    assert_eq!(world.does(3, resume), Output::Taken, "what has run out is not resumed");
}

#[test]
fn a_broken_lock_is_not_resumed() {
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

#[test]
fn an_operator_breaks_a_lock_now_or_when_its_holder_has_had_time() {
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

#[test]
fn limits_are_told_and_nothing_changes() {
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
fn the_list_goes_on_behind_a_name_and_tells_some_holders_of_many() {
    let mut world = World::default();
    for session in 0..20 {
        world.lock((1, session), "b", SHARE);
    }
    world.lock(B, "b", WAIT);
    world.lock(A, "a", Terms { lease_ms: Some(10), ..WAIT });
    world.lock(A, "c", WAIT);
    let list = |world: &World, after: Option<&str>| world.locks.list(after.map(name).as_ref(), 2);
    let first = list(&world, None);
    let told: Vec<_> = first.iter().map(|l| (l.name.as_str(), l.holders, l.waiters)).collect();
    assert_eq!(told, [("a", 1, 0), ("b", 20, 1)]);
    assert_eq!(first[0].first[0].until, Some(Timestamp(10)));
    assert_eq!(first[1].first.len(), LISTED_HOLDERS_MAX);
    let rest = list(&world, Some("b"));
    assert_eq!(rest.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(list(&world, Some("c")), []);
}

#[test]
fn a_replica_that_takes_over_a_snapshot_has_the_same_locks_and_tells_its_server() {
    let (sender, mut events) = mpsc::channel(16);
    let context = |time| Context::new(Index(1), Timestamp(time)).proposed_by(run(1));
    let acquire = |session| Command::Acquire { session, name: name("a"), terms: TRY };
    let mut one = LockMachine::new(sender.clone());
    assert_eq!(one.apply(&context(5), acquire(1)), Output::Granted(5));
    let mut bytes = Vec::new();
    one.snapshot().write(&mut bytes).unwrap();
    let mut other = LockMachine::new(sender);
    other.restore(&mut &bytes[..]).unwrap();
    assert_eq!(events.try_recv(), Ok(SessionEvent::Restored));
    assert_eq!(other.apply(&context(6), acquire(2)), Output::Taken);
    let release = Command::Release { session: 1, name: name("a") };
    assert_eq!(other.apply(&context(7), release), Output::Done(1));
    assert_eq!(other.apply(&context(5), acquire(2)), Output::Granted(6), "the token is known too");
}

/// Random numbers that a seed repeats (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Does something at random. If a lock was asked for, says by whom, and what the answer was.
fn at_random(random: &mut Random, world: &mut World) -> Option<(SessionId, Name, Output)> {
    let server = 1 + random.below(3) as u32;
    let session = 1 + random.below(4);
    let lock = name(["a", "b", "c"][random.below(3) as usize]);
    let command = match random.below(22) {
        20..=21 => {
            let listed = world.locks.list(None, usize::MAX);
            let of_it = listed.iter().filter(|listed| listed.name == lock);
            let holder = of_it.flat_map(|listed| &listed.first).next();
            let token = holder.map_or(0, |holder| holder.token);
            Command::Resume { session, name: lock.clone(), token }
        }
        0 => {
            world.leaves(server);
            return None;
        }
        1 => Command::End { session },
        2 => Command::Abandon { session },
        3 => Command::Break { name: lock.clone(), at_once: random.below(2) == 0 },
        4..=5 => {
            let time = world.time + random.below(30);
            world.passes(time);
            return None;
        }
        6 => Command::Renew { session, name: lock.clone() },
        7..=11 => Command::Release { session, name: lock.clone() },
        _ => {
            let patience = match random.below(3) {
                0 => Patience::None,
                1 => Patience::Ms(1 + random.below(50)),
                _ => Patience::Endless,
            };
            let mode = if random.below(2) == 0 { Mode::Shared } else { Mode::Exclusive };
            let lease_ms = (random.below(4) == 0).then(|| 1 + random.below(60));
            let linger_ms = random.below(3) * 20;
            let terms = Terms { mode, patience, lease_ms, linger_ms, owner: OWNER };
            Command::Acquire { session, name: lock.clone(), terms }
        }
    };
    let is_acquire = matches!(command, Command::Acquire { .. });
    let output = world.does(server, command);
    let session = SessionId { server: run(server), number: session };
    is_acquire.then_some((session, lock, output))
}

/// What `check` asserts at every step, and besides: tokens only grow, and each lock is
/// granted in the order of asking.
#[test]
fn whatever_happens_grants_are_in_order_and_tokens_grow() {
    let seeds = std::env::var("PLAINSONG_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        let mut random = Random(seed);
        let mut world = World::default();
        let mut last_token = 0;
        let mut asked = 0_u64;
        // When each session that waits has asked, and the last that was granted, by lock.
        let mut waits: BTreeMap<(Name, SessionId), u64> = BTreeMap::new();
        let mut granted: BTreeMap<Name, u64> = BTreeMap::new();
        let mut grants = 0;
        for _ in 0..3000 {
            let acquired = at_random(&mut random, &mut world);
            for event in world.news() {
                match event {
                    SessionEvent::Granted { session, name, token } => {
                        assert!(token > last_token, "seed {seed}");
                        last_token = token;
                        grants += 1;
                        let asked = waits.remove(&(name.clone(), session)).expect("a waiter");
                        let before = granted.insert(name, asked);
                        assert!(before.is_none_or(|before| before < asked), "seed {seed}");
                    }
                    SessionEvent::TimedOut { session, name } => {
                        waits.remove(&(name, session)).expect("a waiter");
                    }
                    SessionEvent::Lost { .. }
                    | SessionEvent::Dismissed(_)
                    | SessionEvent::Restored => {}
                }
            }
            let Some((session, name, output)) = acquired else { continue };
            asked += 1;
            match output {
                Output::Granted(token) => {
                    assert!(token > last_token, "seed {seed}");
                    last_token = token;
                    granted.insert(name, asked);
                }
                Output::Queued => {
                    waits.insert((name, session), asked);
                }
                _ => {}
            }
        }
        assert!(grants > 50, "seed {seed}: only {grants} waits were rewarded");
    }
}

#[test]
fn the_same_commands_make_the_same_state_also_from_a_copy_on_disk() {
    for seed in 0..5 {
        let mut worlds = [World::default(), World::default()];
        for step in 0..2000 {
            let [one, other] = &mut worlds;
            let outputs =
                [&mut *one, other].map(|world| at_random(&mut Random(seed * 10_000 + step), world));
            assert_eq!(outputs[0], outputs[1], "seed {seed}, step {step}");
            assert_eq!(one.news(), other.news(), "seed {seed}, step {step}");
            let bytes = bincode::serialize(&one.locks).unwrap();
            assert_eq!(bytes, bincode::serialize(&other.locks).unwrap(), "seed {seed}");
            if step % 100 == 0 {
                one.locks = bincode::deserialize(&bytes).unwrap();
                assert_eq!(one.locks, other.locks);
            }
        }
    }
}
