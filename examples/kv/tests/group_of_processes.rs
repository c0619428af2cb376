//! Three processes under load, some of which are killed.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::thread;
use std::time::Duration;

mod common;
use common::{Load, Random, Record, Serve, check, ready, together, until};
use service_lib::testing::lock_holder;

struct Group {
    directory: tempfile::TempDir,
    replicas: Vec<Serve>,
}

impl Group {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut group = Self { directory, replicas: Vec::new() };
        group.start_in_memory();
        group
    }

    fn start_in_memory(&mut self) {
        let arguments = ["--timeout", "5", "--durability", "memory"];
        self.replicas = [1, 2, 3].map(|id| Serve::start(id, &self.socket(), &arguments)).into();
        self.wait();
    }

    /// Starts a group with its data on disk.
    fn start_on_disk() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut group = Self { directory, replicas: Vec::new() };
        for id in 1..=3 {
            group.start_with_its_data(id);
        }
        group.wait();
        group
    }

    fn start_with_its_data(&mut self, id: u32) {
        let data = self.directory.path().join(format!("data-{id}")).display().to_string();
        // Often enough that snapshots are taken and the log is compacted all the time.
        let often = ["--snapshot-every", "40", "--keep-entries", "10"];
        let mut arguments = vec!["--timeout", "5", "--durability", "disk", "--data-dir", &data];
        arguments.extend(often);
        self.replicas.push(Serve::start(id, &self.socket(), &arguments));
    }

    fn wait(&self) {
        for replica in &self.replicas {
            ready(replica.address);
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("ring")
    }

    fn sequencer(&self) -> usize {
        until("a sequencer", || {
            let id: u32 = self.replicas[0].info("sequencer").parse().ok()?;
            self.replicas.iter().position(|replica| replica.id == id)
        })
    }

    /// Returns the replica whose process serves the socket: the one that holds the socket's lock
    /// file.
    fn hub(&self) -> usize {
        let pid = lock_holder(&self.directory.path().join("ring.lock"));
        let pid = pid.expect("a process that serves the socket");
        self.replicas
            .iter()
            .position(|replica| replica.process.pid() == pid)
            .expect("a replica of this group")
    }
}

/// Kills a replica under load. Checks that the others keep working and that no acknowledged write
/// is lost. Returns the group, with the dead replica last.
fn survives_the_death_of(choose: impl Fn(&Group) -> usize) -> (Group, Vec<Record>) {
    let mut group = Group::start();
    let load = Load::start(group.replicas.iter().map(|replica| replica.address).collect(), 0);
    load.wait_for_writes(500);
    let victim = choose(&group);
    let mut dead = group.replicas.remove(victim);
    dead.process.kill();
    for replica in &group.replicas {
        ready(replica.address);
    }
    load.wait_for_writes(500);
    let records = load.end();
    for replica in &group.replicas {
        check(replica, &records);
    }
    group.replicas.push(dead);
    (group, records)
}

#[test]
fn the_group_works_when_the_sequencer_is_killed() {
    let _ = survives_the_death_of(Group::sequencer);
}

#[test]
fn the_group_works_when_the_process_that_serves_the_socket_is_killed() {
    let _ = survives_the_death_of(Group::hub);
}

#[test]
fn a_restarted_replica_reports_what_it_is_waiting_for() {
    let (mut group, records) = survives_the_death_of(|group| (group.sequencer() + 1) % 3);
    let dead = group.replicas.pop().unwrap();
    let back = Serve::start(dead.id, &group.socket(), &["--timeout", "0.5"]);
    // Its store is empty. Until it has caught up, its replies are errors that say what it is
    // waiting for. Once it answers without an error, it has every acknowledged write.
    until("a report of what the replica is waiting for", || {
        back.info("obstacle").starts_with("waiting ").then_some(())
    });
    let replies = ["GET 0:0:1", "SET a 1", "GET 0:1:1"].map(|request| back.client().ask(request));
    let errors = replies.iter().filter(|reply| reply.starts_with('-'));
    for reply in errors.clone() {
        assert!(reply.contains("waiting "), "{reply}");
    }
    if errors.count() < replies.len() {
        check(&back, &records);
    }
    until("a line in its log", || {
        back.process.err().iter().any(|line| line.contains("; waiting ")).then_some(())
    });
    // It does not disturb the others.
    for replica in &group.replicas {
        assert_eq!(replica.client().ask("SET after 1"), "OK");
    }
}

#[test]
fn without_a_majority_clients_receive_errors() {
    let mut group = Group::start();
    assert_eq!(group.replicas[0].client().ask("SET a 1"), "OK");
    for replica in &mut group.replicas[1..] {
        replica.process.kill();
    }
    let alone = &group.replicas[0];
    let waiting = until("a report of what the replica is waiting for", || {
        Some(alone.info("obstacle")).filter(|obstacle| obstacle.contains("majority"))
    });
    assert_eq!(waiting, "waiting for a majority of 1 2 3: have 1");
    let reply = alone.client().ask("GET a");
    assert_eq!(reply, format!("-CLUSTERDOWN no answer within 5 s: {waiting}"));
    let reply = alone.client().ask("SET a 2");
    assert!(reply.starts_with("-UNKNOWN outcome: no answer within 5 s"), "{reply}");
}

#[test]
fn orderly_stopped_replicas_leave_the_group_at_once() {
    let mut group = Group::start();
    let sequencer = group.sequencer();
    let mut leaver = group.replicas.remove(sequencer);
    leaver.process.signal(rustix::process::Signal::TERM);
    assert_eq!(leaver.process.ended().code(), Some(0));
    for replica in &group.replicas {
        ready(replica.address);
        assert_eq!(replica.client().ask("SET a 1"), "OK");
    }
}

#[test]
fn acknowledged_writes_survive_when_all_replicas_are_killed_and_restarted() {
    let mut group = Group::start_on_disk();
    let mut all = Vec::new();
    for _ in 0..3 {
        let load = Load::start(group.replicas.iter().map(|replica| replica.address).collect(), 0);
        load.wait_for_writes(300);
        for replica in &mut group.replicas {
            replica.process.kill();
        }
        all.push(load.end());
        // Restarts them in another order, one of them later.
        group.replicas.clear();
        for id in [3, 1] {
            group.start_with_its_data(id);
        }
        group.wait();
        group.start_with_its_data(2);
        group.wait();
        for replica in &group.replicas {
            check(replica, &together(&all));
        }
    }
}

#[test]
fn data_in_memory_survives_one_failure_and_not_three() {
    let mut group = Group::start();
    assert_eq!(group.replicas[0].client().ask("SET a 1"), "OK");
    group.replicas.remove(0).process.kill();
    assert_eq!(group.replicas[0].client().ask("GET a"), "\"1\"");
    for replica in &mut group.replicas {
        replica.process.kill();
    }
    group.replicas.clear();
    group.start_in_memory();
    assert_eq!(group.replicas[0].client().ask("GET a"), "nil");
}

/// Default number of rounds. The environment variable `PLAINSONG_KILLS` overrides it.
const KILLS: usize = 6;

/// In each round some replicas are killed at random moments. If a majority is left, it must keep
/// working, and is killed as well. Then all are restarted.
#[test]
fn acknowledged_writes_survive_random_kills() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let kills = number("PLAINSONG_KILLS").map_or(KILLS, |kills| kills as usize);
    let mut random = Random::new(number("PLAINSONG_SEED").unwrap_or(1));
    let mut group = Group::start_on_disk();
    let (mut all, mut killed, mut acknowledged) = (Vec::new(), 0, 0);
    while killed < kills {
        let load = Load::start(group.replicas.iter().map(|replica| replica.address).collect(), 0);
        load.wait_for_writes(1 + random.below(300));
        let first = 1 + random.index(3);
        for count in [first, 3 - first] {
            // At a random moment between two replies.
            thread::sleep(Duration::from_micros(random.below(20_000)));
            for _ in 0..count {
                let victim = random.index(group.replicas.len());
                group.replicas.remove(victim).process.kill();
                killed += 1;
            }
            if group.replicas.len() == 2 {
                load.wait_for_writes(1 + random.below(100));
            }
        }
        let records = load.end();
        acknowledged += records.iter().map(|record| record.set.len()).sum::<usize>();
        let mut order = vec![1, 2, 3];
        while !order.is_empty() {
            group.start_with_its_data(order.remove(random.index(order.len())));
        }
        group.wait();
        all.push(records);
        // The writes of this round at each replica, and all writes at the end.
        let newest = together(&all[all.len() - 1..]);
        for replica in &group.replicas {
            for record in &newest {
                common::check_set(replica, record);
            }
        }
    }
    for replica in &group.replicas {
        check(replica, &together(&all));
    }
    for id in 1..=3 {
        let index = group.directory.path().join(format!("data-{id}/store/snapshots.index"));
        let length = std::fs::metadata(index).unwrap().len();
        assert!(length > 40, "replica {id} never completed a snapshot");
    }
    println!("{killed} kills in {} rounds, {acknowledged} acknowledged writes found", all.len());
}
