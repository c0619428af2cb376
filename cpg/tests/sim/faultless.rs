//! Without faults: one order, one membership, and rings that break only when told to.

use bytes::Bytes;
use cpg::sim::{Faults, Sightings, Sim};
use cpg::{Error, Pid};

use super::choir::{Choir, ms, node};

#[test]
fn the_own_join_comes_first_and_then_the_ring() {
    let mut sim = Choir::new(2);
    let late = sim.join(2, 20);
    sim.send(0, "hello");
    sim.run(1);
    assert_eq!(sim.story(late), ["1:1 2:2 2:20 +2:20 join", "ring 1 2", "hello"]);
    assert_eq!(sim.story(0), ["1:1 2:2 2:20 +2:20 join", "hello"]);
}

#[test]
fn all_hear_the_same_in_the_same_order() {
    let mut choir = Choir::new(3);
    for round in 0..100 {
        for singer in 0..3 {
            choir.send(singer, &format!("{singer} {round}"));
        }
        if round % 7 == 0 {
            choir.run(1);
        }
    }
    choir.settle();
    let songs = [0, 1, 2].map(|singer| choir.song(singer));
    assert_eq!(songs[0].len(), 300);
    assert!(songs[1] == songs[0] && songs[2] == songs[0]);
    for singer in 0..3 {
        let own: Vec<_> =
            songs[0].iter().filter(|line| line.starts_with(&singer.to_string())).collect();
        assert!((0..100).map(|round| format!("{singer} {round}")).eq(own.into_iter().cloned()));
    }
}

#[test]
fn parts_go_on_alone_and_merge_again() {
    let mut choir = Choir::new(3);
    choir.send(2, "before");
    choir.sim.part(&[&[node(1), node(2)]]);
    choir.settle();
    choir.send(0, "here");
    choir.send(2, "there");
    choir.settle();
    choir.sim.heal();
    choir.settle();
    choir.send(1, "together");
    choir.settle();
    let merged = ["1:1 2:2 3:3 +3:3 node up", "ring 1 2 3", "together"];
    let apart = ["1:1 2:2 -3:3 node down", "ring 1 2", "here"];
    assert_eq!(choir.story(0), [&apart[..], &merged[..]].concat());
    let story = choir.story(2);
    let apart = ["3:3 -1:1 node down -2:2 node down", "ring 3", "before", "there"];
    assert_eq!(story[..4], apart);
    assert!(story[4].starts_with("1:1 2:2 3:3 +"));
    assert_eq!(story[5..], merged[1..]);
}

#[test]
fn a_dead_daemon_takes_its_clients_with_it() {
    let mut choir = Choir::new(3);
    choir.send(2, "lost");
    choir.sim.kill_daemon(node(3));
    choir.settle();
    assert_eq!(choir.singers[2].failed, Some(Error::Library));
    assert_eq!(choir.try_send(2, "in vain"), Err(Error::Library));
    assert_eq!(choir.sim.join(node(3), Pid(3)), Err(Error::Library));
    assert_eq!(choir.song(0), ["1:1 2:2 -3:3 node down"]);
    choir.sim.start_daemon(node(3));
    assert_eq!(choir.sim.join(node(3), Pid(3)), Err(Error::TryAgain));
    choir.settle();
    let again = choir.join(3, 3);
    assert_eq!(choir.song(again), ["1:1 2:2 3:3 +3:3 join"]);
    assert_eq!(choir.song(0), ["1:1 2:2 3:3 +3:3 join"]);
    assert_eq!(choir.sim.poll(choir.singers[2].id), Err(Error::Library), "for ever");
}

#[test]
fn leaving_comes_after_what_was_sent_and_is_the_last_event() {
    let mut choir = Choir::new(2);
    choir.send(1, "last words");
    choir.sim.leave(choir.singers[1].id).unwrap();
    assert_eq!(choir.try_send(1, "too late"), Err(Error::NotExist));
    choir.settle();
    choir.send(0, "alone");
    choir.settle();
    assert_eq!(choir.song(1), ["last words", "1:1 -2:2 leave"]);
    assert_eq!(choir.song(0), ["last words", "1:1 -2:2 leave", "alone"]);
    assert_eq!(choir.sim.join(node(2), Pid(2)), Err(Error::Exist));
    choir.sim.close(choir.singers[1].id);
    assert_eq!(choir.sim.poll(choir.singers[1].id), Err(Error::BadHandle));
}

#[test]
fn a_closed_connection_is_a_dead_process() {
    let mut choir = Choir::new(2);
    choir.send(1, "heard");
    choir.sim.close(choir.singers.pop().unwrap().id);
    choir.settle();
    assert_eq!(choir.song(0), ["heard", "1:1 -2:2 process down"]);
}

#[test]
fn one_seed_gives_one_story() {
    let tell = |seed| {
        let mut choir = Choir::with(seed, 4, Faults::drawn(seed));
        for round in 0..300 {
            for singer in 0..4 {
                let _ = choir.try_send(singer, &format!("{singer} {round}"));
            }
            choir.run(5);
        }
        ([0, 1, 2, 3].map(|singer| choir.story(singer)), choir.sim.sightings())
    };
    for seed in 0..20 {
        assert!(tell(seed) == tell(seed), "seed {seed} told two stories");
    }
}

#[test]
fn nothing_unfortunate_happens() {
    let mut choir = Choir::new(3);
    for round in 0..200 {
        for singer in 0..3 {
            choir.send(singer, &format!("{round}"));
        }
        choir.run(1);
        match round % 50 {
            10 => choir.sim.part(&[&[node(1), node(3)]]),
            30 => choir.sim.heal(),
            _ => continue,
        }
        choir.run(1);
    }
    choir.settle();
    let Sightings { rings, .. } = choir.sim.sightings();
    assert_eq!(choir.sim.sightings(), Sightings { rings, ..Sightings::default() });
    assert_eq!(rings, 4 * 3);
}

#[test]
fn time_that_brings_nothing_costs_nothing() {
    let mut sim = Sim::new(1, [node(1), node(2)], Faults::default());
    let client = sim.join(node(1), Pid(1)).unwrap();
    sim.advance(ms(1_000_000_000));
    sim.multicast(client, Bytes::from_static(b"still here")).unwrap();
    assert_eq!(sim.now(), ms(1_000_000_000));
    sim.advance(ms(1));
    assert!(sim.has_events(client));
}
