//! Replicas that restart with their stores.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::disk::Kept;
use common::ledger::{Command, DEADLINE, Ledger, add, builder, read, wait_until};
use cpg::embedded::{LocalRing, Node};
use plainsong::{Replica, ReplicaId, Role, StartError};
use plainsong_storage::{LogOp, MemoryLog, MemorySnapshots, Record};

/// A replica with stores that outlive it.
struct Site {
    node: Node,
    id: u32,
    log: Kept<MemoryLog>,
    snapshots: Kept<MemorySnapshots>,
    replica: Option<Replica<Ledger>>,
}

impl Site {
    fn new(ring: &LocalRing, id: u32) -> Self {
        let (log, snapshots) = (Kept::default(), Kept::default());
        let mut site = Self { node: ring.node(), id, log, snapshots, replica: None };
        site.start();
        site
    }

    fn start(&mut self) {
        self.node.start();
        self.snapshots.with(MemorySnapshots::forget_drafts);
        let builder = builder(&self.node, self.id, &[1, 2, 3]);
        let builder = builder.stores(self.log.clone(), self.snapshots.clone());
        self.replica = Some(builder.start().unwrap());
    }

    /// Stops the replica without letting it leave the group.
    fn kill(&mut self) {
        self.node.stop();
        self.replica = None;
    }

    fn replica(&self) -> &Replica<Ledger> {
        self.replica.as_ref().unwrap()
    }
}

fn group() -> Vec<Site> {
    let ring = LocalRing::new();
    (1..=3).map(|id| Site::new(&ring, id)).collect()
}

fn votes(site: &Site) -> bool {
    matches!(site.replica().status().role, Role::Sequencer | Role::Voter)
}

#[test]
fn each_replica_in_turn_recovers_everything_after_a_kill() {
    let mut sites = group();
    for round in 0..6_u64 {
        let at = (round % 3) as usize;
        add(sites[at].replica(), round * 40..round * 40 + 20);
        sites[at].kill();
        let stays = (at + 1) % 3;
        add(sites[stays].replica(), round * 40 + 20..round * 40 + 40);
        sites[at].start();
        wait_until("it to vote again", || votes(&sites[at]));
        let (numbers, _) = read(sites[at].replica());
        assert!(numbers.into_iter().eq(0..(round + 1) * 40));
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_all_replicas_are_killed_at_once() {
    let mut sites = group();
    for round in 0..3_u64 {
        let at = (round % 3) as usize;
        add(sites[at].replica(), round * 70..round * 70 + 70);
        sites.iter_mut().for_each(Site::kill);
        // A majority is enough, in any order.
        sites[at].start();
        sites[(at + 2) % 3].start();
        let (numbers, _) = read(sites[at].replica());
        assert!(numbers.into_iter().eq(0..(round + 1) * 70));
        sites[(at + 1) % 3].start();
        wait_until("all to vote", || sites.iter().all(votes));
    }
    let epochs = sites[0].replica().status().epoch.unwrap().counter;
    assert!(epochs >= 4, "no new epoch after each restart: {epochs}");
}

#[test]
fn a_minority_that_was_away_for_long_receives_a_snapshot() {
    let mut sites = group();
    let ballast = Command::Grow(1_000_000);
    sites[0].replica().propose(ballast).wait_timeout(DEADLINE).unwrap();
    sites[2].kill();
    add(sites[0].replica(), 0..300);
    sites[2].start();
    wait_until("it to vote again", || votes(&sites[2]));
    assert_eq!(read(sites[2].replica()), read(sites[0].replica()));
    // The installed snapshot survives a restart.
    sites[2].kill();
    sites[2].start();
    wait_until("it to vote again", || votes(&sites[2]));
    assert_eq!(read(sites[2].replica()), read(sites[0].replica()));
}

#[test]
fn a_group_on_disk_continues_after_all_replicas_stopped() {
    let (ring, folder) = (LocalRing::new(), tempfile::tempdir().unwrap());
    let start = |id: u32| {
        let builder = builder(&ring.node(), id, &[1, 2, 3]);
        builder.folder(folder.path().join(id.to_string())).start()
    };
    for round in 0..2 {
        let replicas = [1, 2, 3].map(|id| start(id).unwrap());
        add(&replicas[1], round * 80..round * 80 + 80);
        let (numbers, _) = read(&replicas[2]);
        assert!(numbers.into_iter().eq(0..round * 80 + 80));
        let twice = start(1).map(drop).unwrap_err();
        assert!(matches!(twice, StartError::Store(_)), "a folder was opened twice: {twice}");
    }
    let path = folder.path().join("2");
    let wrong = builder(&ring.node(), 3, &[1, 2, 3]).folder(path).start().map(drop).unwrap_err();
    assert!(wrong.to_string().contains("belongs to replica 2, and this is replica 3"), "{wrong}");
}

#[test]
fn the_store_of_another_replica_is_rejected_with_both_ids() {
    let mut sites = group();
    add(sites[0].replica(), 0..1);
    sites[1].kill();
    sites[1].id = 7;
    let Site { node, log, snapshots, .. } = &sites[1];
    let wrong = builder(node, 7, &[]).stores(log.clone(), snapshots.clone());
    let error = wrong.start().map(drop).unwrap_err();
    assert!(matches!(error, StartError::Store(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("belongs to replica 2, and this is replica 7"), "{text}");
}

#[test]
fn a_damaged_log_is_rejected_with_the_damaged_entry() {
    let mut sites = group();
    add(sites[0].replica(), 0..10);
    sites[1].kill();
    sites[1].log.with(|log| {
        let last = log.last();
        let Record { index, head, body } = log.record(last - 1).unwrap().clone();
        let after = log.record(last).unwrap().clone();
        let mut damaged = body.to_vec();
        damaged[4] ^= 1;
        let record = Record { index, head, body: damaged.into() };
        let ops = vec![LogOp::Truncate(last - 2), LogOp::Append(record), LogOp::Append(after)];
        plainsong_storage::LogStore::write(log, ops).unwrap();
    });
    let Site { node, log, snapshots, .. } = &sites[1];
    let again = builder(node, 2, &[]).stores(log.clone(), snapshots.clone());
    let text = again.start().map(drop).unwrap_err().to_string();
    assert!(text.contains("of the log is damaged"), "{text}");
    // The other replicas continue without it.
    add(sites[0].replica(), 10..20);
    assert_eq!(sites[0].replica().status().voters, [1, 2, 3].map(ReplicaId));
}
