//! Subscribers of a replica receive the changes of its status; watchers of a feed receive the
//! changes of its state machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::time::{Duration, Instant};

use cpg::embedded::LocalRing;
use plainsong::{
    Consistency, Context, Event, Feed, News, Replica, ReplicaId, Role, StateMachine, StopReason,
    Watcher,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Adds numbers and publishes each sum.
struct Sum {
    sum: u64,
    sums: Feed<u64>,
}

impl StateMachine for Sum {
    type Command = u64;
    type Output = u64;
    type Snapshot = u64;

    fn apply(&mut self, context: &Context, number: u64) -> u64 {
        self.sum += number;
        self.sums.push(context.index(), self.sum);
        self.sum
    }

    fn snapshot(&self) -> u64 {
        self.sum
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.sum = plainsong::snapshot::read(from)?;
        self.sums.jump();
        Ok(())
    }
}

fn start(ring: &LocalRing, id: u32, voters: &[u32]) -> Replica<Sum> {
    Replica::builder(ReplicaId(id), Sum { sum: 0, sums: Feed::new(1000) })
        .transport(ring.node())
        .group("events")
        .bootstrap(voters.iter().copied().map(ReplicaId))
        .snapshot_every(20)
        .keep_entries(0)
        .start()
        .unwrap()
}

/// Receives events until one matches.
fn wait_for(what: &str, watcher: &mut Watcher<Event>, matches: impl Fn(&Event) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match watcher.wait_timeout(left) {
            Ok(Some(News::Item(_, event))) if matches(&event) => return,
            Ok(Some(News::Item(..))) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_subscriber_receives_changes_of_role_members_voters_and_the_stop() {
    let ring = LocalRing::new();
    let first = start(&ring, 1, &[1, 2]);
    let mut events = first.subscribe();
    wait_for(
        "what it waits for",
        &mut events,
        |event| matches!(event, Event::Waiting(Some(what)) if what.contains("all of 1 2")),
    );
    let second = start(&ring, 2, &[1, 2]);
    wait_for("members", &mut events, |event| {
        let replicas = |members: &[(_, Option<ReplicaId>)]| -> Vec<_> {
            members.iter().filter_map(|(_, replica)| *replica).collect()
        };
        matches!(event, Event::Members(m) if replicas(m) == [ReplicaId(1), ReplicaId(2)])
    });
    let mut others = second.subscribe();
    first.propose(1).wait_timeout(DEADLINE).unwrap();
    wait_for(
        "progress",
        &mut events,
        |event| matches!(event, Event::Progress { applied, .. } if applied.0 > 1),
    );
    first.admin().remove_voter(ReplicaId(2)).wait_timeout(DEADLINE).unwrap();
    wait_for("voters", &mut events, |event| {
        *event == Event::Voters { voters: vec![ReplicaId(1)], settled: true }
    });
    wait_for("a role", &mut others, |event| *event == Event::Role(Role::Learner));
    second.stop();
    wait_for("the stop", &mut others, |event| *event == Event::Stopped(StopReason::Asked));
    while others.try_next().is_some() {}
    assert_eq!(others.wait(), None);
    wait_for(
        "a departure",
        &mut events,
        |event| matches!(event, Event::Members(members) if members.len() == 1),
    );
}

#[test]
fn a_watcher_created_in_a_read_receives_all_later_changes() {
    let ring = LocalRing::new();
    let replicas: Vec<_> = [1, 2].map(|id| start(&ring, id, &[1, 2])).into();
    for number in 1..10 {
        replicas[0].propose(number).wait_timeout(DEADLINE).unwrap();
    }
    let look = |sum: &Sum| (sum.sum, sum.sums.watch());
    let (before, mut sums) =
        replicas[1].read(Consistency::Linearizable, look).wait_timeout(DEADLINE).unwrap();
    assert_eq!(before, 45);
    for number in 10..15 {
        replicas[0].propose(number).wait_timeout(DEADLINE).unwrap();
    }
    let mut sum = 45;
    let mut last = None;
    for number in 10..15 {
        sum += number;
        match sums.wait_timeout(DEADLINE).unwrap() {
            Some(News::Item(index, received)) => {
                assert_eq!(received, sum);
                assert!(Some(index) > last);
                last = Some(index);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_watcher_learns_that_a_snapshot_replaced_the_state() {
    let ring = LocalRing::new();
    let replicas: Vec<_> = [1, 2].map(|id| start(&ring, id, &[1, 2])).into();
    for number in 1..100 {
        replicas[0].propose(number).wait_timeout(DEADLINE).unwrap();
    }
    let sums = Feed::new(1000);
    let mut watcher = sums.watch();
    let late = Replica::builder(ReplicaId(3), Sum { sum: 0, sums })
        .transport(ring.node())
        .group("events")
        .start()
        .unwrap();
    assert_eq!(watcher.wait_timeout(DEADLINE).unwrap(), Some(News::Lagged(None)));
    late.propose(50).wait_timeout(DEADLINE).unwrap();
    let mut news = None;
    while !matches!(news, Some(News::Item(_, 5000))) {
        news = watcher.wait_timeout(DEADLINE).unwrap();
    }
}
