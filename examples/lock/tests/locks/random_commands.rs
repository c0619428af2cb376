//! Properties that hold for random commands.

use std::collections::BTreeMap;

use lock::Name;
use lock::command::{Command, Mode, Output, Patience, SessionEvent, SessionId, Terms};
use plainsong::testing::Random;

use super::{OWNER, World, name, run};

/// Executes a random step. If it was a request for a lock, returns the session, the lock and the
/// output.
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

/// Checks after every step, beside the invariants of `check`, that tokens grow and that each lock
/// is granted in the order of the requests.
#[test]
fn random_commands_keep_grants_in_order_and_tokens_growing() {
    let seeds = std::env::var("PLAINSONG_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let mut world = World::default();
        let mut last_token = 0;
        let mut asked = 0_u64;
        // Number of the request of each waiting session, and of the last granted one of each lock.
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
        assert!(grants > 50, "seed {seed}: only {grants} waits ended with a grant");
    }
}

#[test]
fn the_same_commands_give_the_same_state_also_after_a_serialized_copy() {
    for seed in 0..5 {
        let mut worlds = [World::default(), World::default()];
        for step in 0..2000 {
            let [one, other] = &mut worlds;
            let outputs = [&mut *one, other]
                .map(|world| at_random(&mut Random::new(seed * 10_000 + step), world));
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
