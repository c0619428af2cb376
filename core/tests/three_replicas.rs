//! Three replicas in one process, on the embedded transport, with their real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use cpg::embedded::{LocalRing, Node};
use plainsong::{
    AdminError, Context, ProposeError, Replica, ReplicaId, Role, StateMachine, StopReason,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Records every command in order.
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
fn the_group_continues_without_its_sequencer_and_loses_nothing() {
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
        // The sequencer's node dies during this.
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
    assert_eq!(journal, acknowledged, "a command is lost or was applied twice");
    assert_eq!(journal.len(), 6000);
    wait_until("the disconnected replica to notice", || {
        let waiting = replicas[gone].status().waiting.unwrap_or_default();
        waiting.starts_with("waiting for the transport to come back")
    });
    // The same incarnation, with its log, joins again when its node is back, and catches up.
    nodes[gone].start();
    wait_until("the replica to catch up", || replicas[gone].status().role == Role::Voter);
    let mut caught_up = replicas[gone].propose(None).wait_timeout(DEADLINE).unwrap();
    caught_up.sort_unstable();
    assert_eq!(caught_up, acknowledged);
}

#[test]
fn all_replicas_join_again_when_their_transport_returns() {
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
fn the_group_continues_at_once_when_a_replica_stops_in_order() {
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
fn without_a_majority_a_replica_reports_what_it_waits_for() {
    let (nodes, replicas) = group(&LocalRing::new());
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let stays = sequencer(&replicas);
    let others: Vec<_> = (0..3).filter(|at| *at != stays).collect();
    others.iter().for_each(|at| nodes[*at].stop());
    let waiting = format!("waiting for a majority of 1 2 3: have {}", stays + 1);
    wait_until("the blocked status", || {
        replicas[stays].status().waiting.as_ref() == Some(&waiting)
    });
    let answer = replicas[stays].propose(Some(2)).wait_timeout(Duration::from_millis(100));
    assert_eq!(answer, Err(ProposeError::Timeout));
}

/// Waits until the replica is a voter of a settled group.
fn wait_for_vote(replica: &Replica<Journal>) {
    wait_until("the replica to vote", || {
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
    // All replicas lose their stores, one after the other, but no command is lost.
    for gone in 0..3 {
        nodes[gone].stop();
        nodes[gone] = ring.node();
        replicas[gone] = start(&nodes[gone], gone as u32 + 1, &[1, 2, 3]);
        // The status of the restarted replica suffices to decide that the next may restart.
        wait_until("a safe restart", || replicas[gone].status().restart_obstacle().is_none());
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
    wait_until("a safe restart", || replicas.iter().all(|replica| obstacle(replica).is_none()));
    nodes[2].stop();
    wait_until("the missing voter", || {
        obstacle(&replicas[0]).is_some_and(|why| why == "replica 3, a voter, is not in the group")
    });
    // Replica 3 cannot become a voter again without a majority.
    nodes[1].stop();
    nodes[2] = ring.node();
    replicas[2] = start(&nodes[2], 3, &[1, 2, 3]);
    wait_until("the missing majority", || {
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
    wait_until("the new voters", || voters(0) == [2, 3].map(ReplicaId));
    let refused = admin.remove_voter(ReplicaId(1)).wait_timeout(DEADLINE);
    assert_eq!(refused, Err(AdminError::NotAVoter(ReplicaId(1))));
    let refused = admin.add_voter(ReplicaId(4)).wait_timeout(DEADLINE);
    assert_eq!(refused, Err(AdminError::NotListed(ReplicaId(4))));
    let refused = admin.force_new_cluster().wait_timeout(DEADLINE);
    assert_eq!(refused, Err(AdminError::MajorityIsHere("2 3".into())));
    admin.replace_voter(ReplicaId(2), ReplicaId(1)).wait_timeout(DEADLINE).unwrap();
    admin.add_voter(ReplicaId(2)).wait_timeout(DEADLINE).unwrap();
    wait_until("the new voters", || voters(0) == [1, 2, 3].map(ReplicaId));
    // Every replica can propose, with or without a vote.
    for replica in &replicas {
        replica.propose(Some(2)).wait_timeout(DEADLINE).unwrap();
    }
    let journal = replicas[0].propose(None).wait_timeout(DEADLINE).unwrap();
    assert_eq!(journal, [1, 2, 2, 2]);
}

#[test]
fn the_last_replica_with_the_log_can_be_forced_into_a_new_cluster() {
    let ring = LocalRing::new();
    let (nodes, mut replicas) = group(&ring);
    replicas[0].propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    let old = replicas[2].status().cluster;
    nodes[..2].iter().for_each(Node::stop);
    wait_until("a group of one", || replicas[2].status().members.len() == 1);
    replicas[2].admin().force_new_cluster().wait_timeout(DEADLINE).unwrap();
    replicas[2].propose(Some(2)).wait_timeout(DEADLINE).unwrap();
    wait_until("another cluster", || {
        let cluster = replicas[2].status().cluster;
        cluster.is_some() && cluster != old
    });
    // The others join with empty stores, and become voters when an operator adds them.
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
fn a_single_replica_forms_a_group() {
    let replica = start(&LocalRing::new().node(), 7, &[7]);
    replica.propose(Some(1)).wait_timeout(DEADLINE).unwrap();
    assert_eq!(replica.propose(None).wait_timeout(DEADLINE), Ok(vec![1]));
    wait_until("the role to show", || replica.status().role == Role::Sequencer);
}
