//! `kv serve --engine corosync` on three nodes with encryption. A client increments a counter at
//! one node while the sequencer, its daemon, or its node's network fails. Each test prints the
//! longest pause between two answers, and the detection time of Corosync itself.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plainsong_tests::client::{Info, KV_PORT, NodeClient, Reply};
use plainsong_tests::rig::{self, Cluster, Node, Program};

/// Timeout that allows for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Group {
    replicas: Vec<Program>,
    cluster: Cluster,
}

impl Group {
    /// Starts three replicas and waits for a sequencer.
    fn start() -> rig::Result<Self> {
        let cluster = Cluster::builder().encrypted(true).token_ms(1000).start()?;
        cluster.wait_for_ring(&[1, 2, 3], PATIENCE)?;
        let serve = |node: &Node| {
            let mut command = node.command(env!("CARGO_BIN_EXE_kv_under_test"));
            let id = node.id().to_string();
            command.args(["serve", "--engine", "corosync", "--voters", "1,2,3", "--id", &id]);
            command.args(["--timeout", "30"]);
            node.spawn("kv", command)
        };
        let replicas = cluster.nodes().iter().map(serve).collect::<rig::Result<_>>()?;
        let group = Self { replicas, cluster };
        for id in 1..=3 {
            group.wait_for(id, "a sequencer", |info| !info.field("sequencer").is_empty())?;
        }
        Ok(group)
    }

    fn info(&self, id: u32) -> rig::Result<Info> {
        let client = NodeClient::connect(self.cluster.node(id), KV_PORT)?;
        Ok(client.and_then(|mut client| client.info().ok()).unwrap_or_default())
    }

    fn wait_for(&self, id: u32, what: &str, holds: impl Fn(&Info) -> bool) -> rig::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.info(id)?;
            if holds(&info) {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "node {id}: no {what}, but:\n{}", info.0);
            std::thread::yield_now();
        }
    }

    fn sequencer(&self) -> rig::Result<u32> {
        Ok(self.info(1)?.field("sequencer").parse().unwrap_or(1))
    }

    /// Increments the counter at one node during `fault`, and until the count has advanced after
    /// it. Returns the longest pause. At the end, each of `readers` must have every acknowledged
    /// increment.
    fn count_through(
        &self,
        at: u32,
        readers: &[u32],
        fault: impl FnOnce() -> rig::Result<()>,
    ) -> rig::Result<Duration> {
        let stop = AtomicBool::new(false);
        let counted = std::thread::scope(|scope| {
            let counting = scope.spawn(|| self.count(at, &stop));
            let outcome = self.wait_for_count(at, 200).and_then(|_| fault()).and_then(|()| {
                // Calls in progress during the fault may be answered now or later; a hundred more
                // answers show that the group works.
                let so_far = self.wait_for_count(at, 0)?;
                self.wait_for_count(at, so_far + 100)
            });
            stop.store(true, Ordering::Relaxed);
            let counted = counting.join();
            outcome.map(|_| counted.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let (acknowledged, longest_pause) = counted?;
        for reader in readers {
            self.wait_for(*reader, "state with every acknowledged increment", |_| {
                self.counter(*reader).is_ok_and(|counter| counter == Some(acknowledged))
            })?;
        }
        Ok(longest_pause)
    }

    /// Every answer must be the next number: nothing is lost and nothing is applied twice.
    fn count(&self, at: u32, stop: &AtomicBool) -> rig::Result<(u64, Duration)> {
        let mut client =
            NodeClient::connect(self.cluster.node(at), KV_PORT)?.expect("a connection");
        let (mut count, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let answer = client.ask("INCR counter").expect("an answer");
            count += 1;
            assert_eq!(answer, Reply::Text(count.to_string()), "the next number");
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        Ok((count, longest))
    }

    fn counter(&self, at: u32) -> rig::Result<Option<u64>> {
        let client = NodeClient::connect(self.cluster.node(at), KV_PORT)?;
        let answer = client.and_then(|mut client| client.ask("GET counter").ok());
        Ok(match answer {
            Some(Reply::Text(text)) => text.parse().ok(),
            _ => None,
        })
    }

    fn wait_for_count(&self, at: u32, least: u64) -> rig::Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.counter(at)? {
                Some(counter) if counter >= least => return Ok(counter),
                counter => assert!(Instant::now() < deadline, "the count is only {counter:?}"),
            }
        }
    }
}

/// Returns another node.
fn other(id: u32) -> u32 {
    id % 3 + 1
}

/// Returns the third node.
fn third(id: u32) -> u32 {
    other(other(id))
}

fn say(what: &str, longest_pause: Duration) {
    println!("{what}: longest pause {} ms", longest_pause.as_millis());
}

#[test]
fn a_group_survives_a_killed_sequencer() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = Group::start()?;
    let gone = group.sequencer()?;
    let stays = [other(gone), third(gone)];
    let longest_pause =
        group.count_through(stays[0], &stays, || group.replicas[gone as usize - 1].kill())?;
    say("sequencer killed", longest_pause);
    Ok(())
}

#[test]
fn a_group_survives_a_killed_daemon_and_the_replica_returns() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = Group::start()?;
    let gone = group.sequencer()?;
    let node = group.cluster.node(gone);
    let mut detected = Duration::ZERO;
    let longest_pause = group.count_through(other(gone), &[other(gone), third(gone)], || {
        let killed = Instant::now();
        node.kill_daemon()?;
        let mut two = [other(gone), third(gone)];
        two.sort_unstable();
        group.cluster.wait_for_ring(&two, PATIENCE)?;
        detected = killed.elapsed();
        Ok(())
    })?;
    say("daemon killed", longest_pause);
    println!("Corosync had a ring without it after {} ms", detected.as_millis());
    group.wait_for(gone, "report of the lost daemon", |info| {
        info.field("obstacle").starts_with("waiting for the transport to come back")
    })?;
    node.start_daemon()?;
    group.wait_for(gone, "return as a voter", |info| info.role() == "voter")?;
    let expected = group.counter(other(gone))?;
    assert_eq!(group.counter(gone)?, expected, "it has caught up");
    Ok(())
}

#[test]
fn a_group_survives_an_isolated_node_and_the_replica_returns() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = Group::start()?;
    let gone = group.sequencer()?;
    let node = group.cluster.node(gone);
    let longest_pause =
        group.count_through(other(gone), &[other(gone), third(gone)], || node.cut())?;
    say("node cut off", longest_pause);
    group.wait_for(gone, "report of the missing majority", |info| {
        info.field("obstacle").starts_with("waiting for a majority of 1 2 3: have")
    })?;
    node.heal()?;
    group.wait_for(gone, "return as a voter", |info| info.role() == "voter")?;
    let expected = group.counter(other(gone))?;
    assert_eq!(group.counter(gone)?, expected, "it has caught up");
    Ok(())
}
