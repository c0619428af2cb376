//! Three replicas in one process, on the embedded transport, with their real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::{
    AdminError, Context, ProposeError, Replica, ReplicaId, Role, StateMachine, StopReason,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Remembers every command in order.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Journal(Vec<u64>);

impl StateMachine for Journal {
    type Command = Option<u64>;
    type Output = Vec<u64>;

    fn apply(&mut self, _: &Context, command: Option<u64>) -> Vec<u64> {
        match command {
            Some(number) => {
                self.0.push(number);
                Vec::new()
            }
            None => self.0.clone(),
        }
    }

    plainsong::snapshot_by_clone!();
}

fn start(node: &Node, id: u32, listed: &[u32]) -> Replica<Journal> {
    Replica::builder(ReplicaId(id), Journal::default())
        .transport(node.clone())
        .group("journal")
        .bootstrap(listed.iter().copied().map(ReplicaId))
        .start()
        .unwrap()
}

fn group(ring: &LocalRing) -> (Vec<Node>, Vec<Replica<Journal>>) {
    let nodes: Vec<_> = (0..3).map(|_| ring.node()).collect();
    let replicas = (1..).zip(&nodes).map(|(id, node)| start(node, id, &[1, 2, 3])).collect();
    (nodes, replicas)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

fn sequencer(replicas: &[Replica<Journal>]) -> usize {
    let mut found = None;
    wait_until("a sequencer", || {
        found = replicas.iter().position(|replica| replica.status().role == Role::Sequencer);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn commands_of_all_replicas_are_applied_once_in_one_order() {
    let (_, replicas) = group(&LocalRing::new());
    std::thread::scope(|scope| {
        for (proposer, replica) in replicas.iter().enumerate() {
            scope.spawn(move || {
                let numbers = (0..500).map(|number| proposer as u64 * 1000 + number);
                let pending: Vec<_> = numbers.map(|number| replica.propose(Some(number))).collect();
                pending.into_iter().for_each(|answer| {
                    answer.wait_timeout(DEADLINE).unwrap();
                });
            });
        }
    });
    let journals: Vec<_> =
        replicas.iter().map(|r| r.propose(None).wait_timeout(DEADLINE).unwrap()).collect();
    assert!(journals.iter().all(|journal| *journal == journals[0]));
    for proposer in 0..3 {
        let of_one = journals[0].iter().copied().filter(|number| number / 1000 == proposer);
        assert!(of_one.eq((0..500).map(|number| proposer * 1000 + number)), "order of one caller");
    }
}

#[test]
fn the_group_goes_on_without_its_sequencer_and_loses_nothing() {
    let (nodes, replicas) = group(&LocalRing::new());
    let gone = sequencer(&replicas);
    let stays: Vec<_> = (0..3).filter(|at| *at != gone).collect();
    let mut acknowledged = Vec::new();
    std::thread::scope(|scope| {
        let replicas = &replicas;
        let workers: Vec<_> = stays
            .iter()
            .map(|&at| {
                scope.spawn(move || {
                    let mut answered = Vec::new();
                    for round in 0..300u64 {
                        let numbers = (0..10).map(|n| at as u64 * 10_000 + round * 10 + n);
                        let pending: Vec<_> =
                            numbers.map(|n| (n, replicas[at].propose(Some(n)))).collect();
                        answered.extend(pending.into_iter().filter_map(|(number, answer)| {
                            answer.wait_timeout(DEADLINE).map(|_| number).ok()
                        }));
                    }
                    answered
                })
            })
            .collect();
        // In the middle of it the sequencer's node dies.
        wait_until("some commits", || replicas[stays[0]].status().committed.0 > 20);
        nodes[gone].stop();
        for worker in workers {
            acknowledged.extend(worker.join().unwrap());
        }
    });
    let journals: Vec<_> = stays
        .iter()
        .map(|at| replicas[*at].propose(None).wait_timeout(DEADLINE).unwrap())
        .collect();
    assert_eq!(journals[0], journals[1]);
    acknowledged.sort_unstable();
    let mut journal = journals[0].clone();
    journal.sort_unstable();
    assert_eq!(journal, acknowledged, "each of 6000 acknowledged commands is there once");
    assert_eq!(journal.len(), 6000);
    wait_until("the dead replica to know", || {
        let waiting = replicas[gone].status().waiting.unwrap_or_default();
        waiting.starts_with("waiting for the transport to come back")
    });
    // It is the same run, with its log: when its node is back, it joins and catches up.
    nodes[gone].start();
    wait_until("it to be back in step", || replicas[gone].status().role == Role::Voter);
    let mut caught_up = replicas[gone].propose(None).wait_timeout(DEADLINE).unwrap();
    caught_up.sort_unstable();
    assert_eq!(caught_up, acknowledged);
}

#[test]
fn all_replicas_come_back_when_their_engine_was_away() {
    let (nodes, replicas) = group(&LocalRing::new());
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    nodes.iter().for_each(Node::stop);
    let under_way = replicas[1].propose(Some(2));
    nodes.iter().for_each(Node::start);
    under_way.wait_timeout(DEADLINE).unwrap();
    replicas[2].propose(Some(3)).wait_timeout(DEADLINE).unwrap();
    let journal = replicas[0].propose(None).wait_timeout(DEADLINE).unwrap();
    assert_eq!(journal, [1, 2, 3]);
}

#[test]
fn a_replica_that_stops_in_order_is_not_waited_for() {
    let (_, mut replicas) = group(&LocalRing::new());
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let gone = sequencer(&replicas);
    replicas.remove(gone).stop();
    for replica in &replicas {
        replica.propose(Some(2)).wait_timeout(DEADLINE).unwrap();
    }
    let journal = replicas[0].propose(None).wait_timeout(DEADLINE).unwrap();
    assert_eq!(journal, [1, 2, 2]);
}

#[test]
fn without_a_majority_it_says_what_it_waits_for_and_a_deadline_passes() {
    let (nodes, replicas) = group(&LocalRing::new());
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let stays = sequencer(&replicas);
    let others: Vec<_> = (0..3).filter(|at| *at != stays).collect();
    others.iter().for_each(|at| nodes[*at].stop());
    let waiting = format!("waiting for a majority of 1 2 3: have {}", stays + 1);
    wait_until("to say so", || replicas[stays].status().waiting.as_ref() == Some(&waiting));
    let answer = replicas[stays].propose(Some(2)).wait_timeout(Duration::from_millis(100));
    assert_eq!(answer, Err(ProposeError::Timeout));
}

/// Waits until that replica is a voter of a settled group.
fn wait_for_vote(replica: &Replica<Journal>) {
    wait_until("to vote", || {
        let status = replica.status();
        matches!(status.role, Role::Voter | Role::Sequencer) && status.voters_settled
    });
}

#[test]
fn a_replica_restarted_without_its_store_takes_its_place_again() {
    let ring = LocalRing::new();
    let (mut nodes, mut replicas) = group(&ring);
    for number in 0..100 {
        replicas[0].propose(Some(number)).wait_timeout(DEADLINE).unwrap();
    }
    // One after the other all lose their stores, and nothing is lost.
    for gone in 0..3 {
        nodes[gone].stop();
        nodes[gone] = ring.node();
        replicas[gone] = start(&nodes[gone], gone as u32 + 1, &[1, 2, 3]);
        // What the one that was restarted says is enough.
        wait_until("to be safe", || replicas[gone].status().restart_obstacle().is_none());
    }
    let journal = replicas[2].propose(None).wait_timeout(DEADLINE).unwrap();
    assert!(journal.into_iter().eq(0..100));
    let voters = replicas[0].status().voters;
    assert_eq!(voters, [1, 2, 3].map(ReplicaId));
}

#[test]
fn a_replica_reports_why_no_other_should_be_restarted() {
    let ring = LocalRing::new();
    let (mut nodes, mut replicas) = group(&ring);
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let obstacle = |replica: &Replica<Journal>| replica.status().restart_obstacle();
    wait_until("to be safe", || replicas.iter().all(|replica| obstacle(replica).is_none()));
    nodes[2].stop();
    wait_until("to notice", || {
        obstacle(&replicas[0]).is_some_and(|why| why == "replica 3, a voter, is not in the group")
    });
    // It cannot be taken in while nobody else is there.
    nodes[1].stop();
    nodes[2] = ring.node();
    replicas[2] = start(&nodes[2], 3, &[1, 2, 3]);
    wait_until("to notice", || {
        obstacle(&replicas[0]).is_some_and(|why| why.starts_with("waiting for a majority"))
    });
    assert!(obstacle(&replicas[2]).is_some());
}

#[test]
fn voters_change_as_the_operator_asks() {
    let (_nodes, replicas) = group(&LocalRing::new());
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let voters = |at: usize| replicas[at].status().voters;
    let admin = replicas[1].admin();
    admin.remove_voter(ReplicaId(1)).wait_timeout(DEADLINE).unwrap();
    wait_until("to hear of it", || voters(0) == [2, 3].map(ReplicaId));
    let refused = admin.remove_voter(ReplicaId(1)).wait_timeout(DEADLINE);
    assert_eq!(refused, Err(AdminError::NotAVoter(ReplicaId(1))));
    let refused = admin.add_voter(ReplicaId(4)).wait_timeout(DEADLINE);
    assert_eq!(refused, Err(AdminError::NotListed(ReplicaId(4))));
    let refused = admin.force_new_cluster().wait_timeout(DEADLINE);
    assert_eq!(refused, Err(AdminError::MajorityIsHere("2 3".into())));
    admin.replace_voter(ReplicaId(2), ReplicaId(1)).wait_timeout(DEADLINE).unwrap();
    admin.add_voter(ReplicaId(2)).wait_timeout(DEADLINE).unwrap();
    wait_until("to hear of it", || voters(0) == [1, 2, 3].map(ReplicaId));
    // A replica proposes whether or not it votes.
    for replica in &replicas {
        replica.propose(Some(2)).wait_timeout(DEADLINE).unwrap();
    }
    let journal = replicas[0].propose(None).wait_timeout(DEADLINE).unwrap();
    assert_eq!(journal, [1, 2, 2, 2]);
}

#[test]
fn the_last_with_the_log_goes_on_alone_when_it_is_forced() {
    let ring = LocalRing::new();
    let (nodes, mut replicas) = group(&ring);
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let old = replicas[2].status().cluster;
    nodes[..2].iter().for_each(Node::stop);
    wait_until("to be alone", || replicas[2].status().members.len() == 1);
    replicas[2].admin().force_new_cluster().wait_timeout(DEADLINE).unwrap();
    replicas[2].propose(Some(2)).wait_timeout(DEADLINE).unwrap();
    wait_until("another cluster", || {
        let cluster = replicas[2].status().cluster;
        cluster.is_some() && cluster != old
    });
    // The others join it with empty stores, and are taken in when they are asked in.
    for (at, id) in [(0, 1), (1, 2)] {
        replicas[at] = start(&ring.node(), id, &[1, 2, 3]);
        replicas[2].admin().add_voter(ReplicaId(id)).wait_timeout(DEADLINE).unwrap();
    }
    replicas.iter().for_each(wait_for_vote);
    let journal = replicas[0].propose(None).wait_timeout(DEADLINE).unwrap();
    assert_eq!(journal, [1, 2]);
}

#[test]
fn the_later_of_two_processes_with_one_id_stops_and_names_both() {
    let ring = LocalRing::new();
    let (_, replicas) = group(&ring);
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let twin = start(&ring.node(), 2, &[1, 2, 3]);
    wait_until("the twin to stop", || twin.status().role == Role::Stopped);
    let reason = twin.status().stopped.unwrap();
    assert!(matches!(reason, StopReason::Duplicate { replica: ReplicaId(2), .. }), "{reason}");
    let refused = twin.propose(Some(2)).wait_timeout(DEADLINE).unwrap_err();
    assert!(!refused.may_still_take_effect());
    replicas[1].propose(Some(3)).wait_timeout(DEADLINE).unwrap();
    let journal = replicas[1].propose(None).wait_timeout(DEADLINE).unwrap();
    assert_eq!(journal, [1, 3]);
}

#[test]
fn a_group_of_one_needs_nobody() {
    let replica = start(&LocalRing::new().node(), 7, &[7]);
    replica.propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    assert_eq!(replica.propose(None).wait_timeout(DEADLINE), Ok(vec![1]));
    wait_until("the role to show", || replica.status().role == Role::Sequencer);
}
