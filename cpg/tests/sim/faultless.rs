//! Without faults: one order, one membership, and rings that break only when told to.

use bytes::Bytes;
use cpg::sim::{Faults, Observed, Sim};
use cpg::{Error, Pid};

use super::test_group::{TestGroup, ms, node};

#[test]
fn the_own_join_comes_first_and_then_the_ring() {
    let mut sim = TestGroup::new(2);
    let late = sim.join(2, 20);
    sim.send(0, "hello");
    sim.run(1);
    assert_eq!(sim.trace(late), ["1:1 2:2 2:20 +2:20 join", "ring 1 2", "hello"]);
    assert_eq!(sim.trace(0), ["1:1 2:2 2:20 +2:20 join", "hello"]);
}

#[test]
fn all_hear_the_same_in_the_same_order() {
    let mut group = TestGroup::new(3);
    for round in 0..100 {
        for member in 0..3 {
            group.send(member, &format!("{member} {round}"));
        }
        if round % 7 == 0 {
            group.run(1);
        }
    }
    group.settle();
    let traces = [0, 1, 2].map(|member| group.trace_without_rings(member));
    assert_eq!(traces[0].len(), 300);
    assert!(traces[1] == traces[0] && traces[2] == traces[0]);
    for member in 0..3 {
        let own: Vec<_> =
            traces[0].iter().filter(|line| line.starts_with(&member.to_string())).collect();
        assert!((0..100).map(|round| format!("{member} {round}")).eq(own.into_iter().cloned()));
    }
}

#[test]
fn parts_go_on_alone_and_merge_again() {
    let mut group = TestGroup::new(3);
    group.send(2, "before");
    group.sim.part(&[&[node(1), node(2)]]);
    group.settle();
    group.send(0, "here");
    group.send(2, "there");
    group.settle();
    group.sim.heal();
    group.settle();
    group.send(1, "together");
    group.settle();
    let merged = ["1:1 2:2 3:3 +3:3 node up", "ring 1 2 3", "together"];
    let apart = ["1:1 2:2 -3:3 node down", "ring 1 2", "here"];
    assert_eq!(group.trace(0), [&apart[..], &merged[..]].concat());
    let trace = group.trace(2);
    let apart = ["3:3 -1:1 node down -2:2 node down", "ring 3", "before", "there"];
    assert_eq!(trace[..4], apart);
    assert!(trace[4].starts_with("1:1 2:2 3:3 +"));
    assert_eq!(trace[5..], merged[1..]);
}

#[test]
fn a_dead_daemon_takes_its_clients_with_it() {
    let mut group = TestGroup::new(3);
    group.send(2, "lost");
    group.sim.kill_daemon(node(3));
    group.settle();
    assert_eq!(group.members[2].failed, Some(Error::Library));
    assert_eq!(group.try_send(2, "in vain"), Err(Error::Library));
    assert_eq!(group.sim.join(node(3), Pid(3)), Err(Error::Library));
    assert_eq!(group.trace_without_rings(0), ["1:1 2:2 -3:3 node down"]);
    group.sim.start_daemon(node(3));
    assert_eq!(group.sim.join(node(3), Pid(3)), Err(Error::TryAgain));
    group.settle();
    let again = group.join(3, 3);
    assert_eq!(group.trace_without_rings(again), ["1:1 2:2 3:3 +3:3 join"]);
    assert_eq!(group.trace_without_rings(0), ["1:1 2:2 3:3 +3:3 join"]);
    assert_eq!(group.sim.poll(group.members[2].id), Err(Error::Library), "for ever");
}

#[test]
fn leaving_comes_after_what_was_sent_and_is_the_last_event() {
    let mut group = TestGroup::new(2);
    group.send(1, "last words");
    group.sim.leave(group.members[1].id).unwrap();
    assert_eq!(group.try_send(1, "too late"), Err(Error::NotExist));
    group.settle();
    group.send(0, "alone");
    group.settle();
    assert_eq!(group.trace_without_rings(1), ["last words", "1:1 -2:2 leave"]);
    assert_eq!(group.trace_without_rings(0), ["last words", "1:1 -2:2 leave", "alone"]);
    assert_eq!(group.sim.join(node(2), Pid(2)), Err(Error::Exist));
    group.sim.close(group.members[1].id);
    assert_eq!(group.sim.poll(group.members[1].id), Err(Error::BadHandle));
}

#[test]
fn a_closed_connection_is_a_dead_process() {
    let mut group = TestGroup::new(2);
    group.send(1, "heard");
    group.sim.close(group.members.pop().unwrap().id);
    group.settle();
    assert_eq!(group.trace_without_rings(0), ["heard", "1:1 -2:2 process down"]);
}

#[test]
fn one_seed_gives_one_story() {
    let tell = |seed| {
        let mut group = TestGroup::with(seed, 4, Faults::drawn(seed));
        for round in 0..300 {
            for member in 0..4 {
                let _ = group.try_send(member, &format!("{member} {round}"));
            }
            group.run(5);
        }
        ([0, 1, 2, 3].map(|member| group.trace(member)), group.sim.observed())
    };
    for seed in 0..20 {
        assert!(tell(seed) == tell(seed), "seed {seed} told two stories");
    }
}

#[test]
fn nothing_unfortunate_happens() {
    let mut group = TestGroup::new(3);
    for round in 0..200 {
        for member in 0..3 {
            group.send(member, &format!("{round}"));
        }
        group.run(1);
        match round % 50 {
            10 => group.sim.part(&[&[node(1), node(3)]]),
            30 => group.sim.heal(),
            _ => continue,
        }
        group.run(1);
    }
    group.settle();
    let Observed { rings, .. } = group.sim.observed();
    assert_eq!(group.sim.observed(), Observed { rings, ..Observed::default() });
    assert_eq!(rings, 4 * 3);
}

#[test]
fn time_that_brings_nothing_costs_nothing() {
    let mut sim = Sim::new(1, [node(1), node(2)], Faults::default());
    let connection = sim.join(node(1), Pid(1)).unwrap();
    sim.advance(ms(1_000_000_000));
    sim.multicast(connection, Bytes::from_static(b"still here")).unwrap();
    assert_eq!(sim.now(), ms(1_000_000_000));
    sim.advance(ms(1));
    assert!(sim.has_events(connection));
}
