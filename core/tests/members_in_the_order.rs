//! Membership notices that a state machine receives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::{Context, Incarnation, MembersChanged, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

const DEADLINE: Duration = Duration::from_secs(20);

/// A lock that its holder loses by leaving the group.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Lock {
    holder: Option<Incarnation>,
    /// All changes in order.
    journal: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Change {
    Joined(Incarnation),
    Left(Incarnation),
    Taken(Incarnation),
}

#[derive(Serialize, Deserialize)]
enum Command {
    Take,
    Journal,
}

impl StateMachine for Lock {
    type Command = Command;
    type Output = (bool, Vec<Change>);

    fn apply(&mut self, context: &Context, command: Command) -> (bool, Vec<Change>) {
        match command {
            Command::Journal => (false, self.journal.clone()),
            Command::Take => {
                let taken = self.holder.is_none();
                if taken {
                    self.holder = context.proposer();
                    self.journal.extend(context.proposer().map(Change::Taken));
                }
                (taken, Vec::new())
            }
        }
    }

    fn members_changed(&mut self, _: &Context, change: &MembersChanged) {
        self.journal.extend(change.left.iter().copied().map(Change::Left));
        self.journal.extend(change.joined.iter().copied().map(Change::Joined));
        self.holder = self.holder.filter(|holder| !change.left.contains(holder));
    }

    plainsong::snapshot_by_clone!();
}

fn start(node: &Node, id: u32) -> Replica<Lock> {
    Replica::builder(ReplicaId(id), Lock::default())
        .transport(node.clone())
        .group("lock")
        .bootstrap([1, 2, 3].map(ReplicaId))
        .start()
        .unwrap()
}

fn take(replica: &Replica<Lock>) -> bool {
    replica.propose(Command::Take).wait_timeout(DEADLINE).unwrap().0
}

fn journal(replica: &Replica<Lock>) -> Vec<Change> {
    replica.propose(Command::Journal).wait_timeout(DEADLINE).unwrap().1
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

/// Works without leases, whichever replica is the holder and whichever is the sequencer.
#[test]
fn a_lock_is_released_when_its_holder_leaves_at_one_position_at_all_replicas() {
    for holder in 0..3 {
        let ring = LocalRing::new();
        let nodes = [1, 2, 3].map(|_| ring.node());
        let replicas: Vec<_> = (1..).zip(&nodes).map(|(id, node)| start(node, id)).collect();
        let runs: Vec<_> = replicas.iter().map(|r| r.status().incarnation).collect();
        assert!(take(&replicas[holder]));
        let (one, other) = ((holder + 1) % 3, (holder + 2) % 3);
        assert!(!take(&replicas[one]));
        nodes[holder].stop();
        wait_until("the lock to be free", || take(&replicas[one]));
        let (changes, changes_elsewhere) = (journal(&replicas[one]), journal(&replicas[other]));
        assert_eq!(changes, changes_elsewhere);
        let joined = |run: &&Incarnation| changes.contains(&Change::Joined(**run));
        assert_eq!(runs.iter().filter(joined).count(), 3);
        let end =
            [Change::Taken(runs[holder]), Change::Left(runs[holder]), Change::Taken(runs[one])];
        assert!(changes.ends_with(&end), "{changes:?}");
        // The same incarnation returns and receives notices that it left and has joined.
        nodes[holder].start();
        let came_back = [Change::Joined(runs[holder])];
        wait_until("the holder to return", || journal(&replicas[holder]).ends_with(&came_back));
        assert!(!take(&replicas[holder]), "the lock of another replica was taken");
    }
}
