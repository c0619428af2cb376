//! `kv serve --engine corosync` on three nodes with encryption: a client goes on counting at
//! one of them while the replica that sequences, its daemon, or its node's network fails.
//! Each test prints how long the count stood still, and how long Corosync itself took.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plainsong_tests::client::{Info, KV_PORT, NodeClient, Reply};
use plainsong_tests::rig::{self, Cluster, Node, Program};

/// What the rig and a loaded machine may take in all.
const PATIENCE: Duration = Duration::from_secs(60);

struct Group {
    replicas: Vec<Program>,
    cluster: Cluster,
}

impl Group {
    /// Three replicas, once one of them sequences.
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

    /// Counts at one node while `fault` is done and until the count has gone on after it.
    /// What was acknowledged must be what is there at the end, at each of `readers`.
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
                // Whatever was under way when it happened is answered by now or later; a
                // hundred more are proof that the group goes on.
                let so_far = self.wait_for_count(at, 0)?;
                self.wait_for_count(at, so_far + 100)
            });
            stop.store(true, Ordering::Relaxed);
            let counted = counting.join();
            outcome.map(|_| counted.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let (acknowledged, stood_still) = counted?;
        for reader in readers {
            self.wait_for(*reader, "all that was acknowledged", |_| {
                self.counter(*reader).is_ok_and(|counter| counter == Some(acknowledged))
            })?;
        }
        Ok(stood_still)
    }

    /// Every answer must be the next number: nothing lost, nothing applied twice.
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
                counter => assert!(Instant::now() < deadline, "counted to {counter:?} only"),
            }
        }
    }
}

/// A node other than that one.
fn other(id: u32) -> u32 {
    id % 3 + 1
}

/// The one that is neither.
fn third(id: u32) -> u32 {
    other(other(id))
}

fn say(what: &str, stood_still: Duration) {
    println!("{what}: counting stood still for {} ms", stood_still.as_millis());
}

#[test]
fn goes_on_when_the_replica_that_sequences_is_killed() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = Group::start()?;
    let gone = group.sequencer()?;
    let stays = [other(gone), third(gone)];
    let stood_still =
        group.count_through(stays[0], &stays, || group.replicas[gone as usize - 1].kill())?;
    say("sequencer killed", stood_still);
    Ok(())
}

#[test]
fn goes_on_when_its_daemon_is_killed_and_the_replica_comes_back() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = Group::start()?;
    let gone = group.sequencer()?;
    let node = group.cluster.node(gone);
    let mut detected = Duration::ZERO;
    let stood_still = group.count_through(other(gone), &[other(gone), third(gone)], || {
        let killed = Instant::now();
        node.kill_daemon()?;
        let mut two = [other(gone), third(gone)];
        two.sort_unstable();
        group.cluster.wait_for_ring(&two, PATIENCE)?;
        detected = killed.elapsed();
        Ok(())
    })?;
    say("daemon killed", stood_still);
    println!("Corosync had a ring without it after {} ms", detected.as_millis());
    group.wait_for(gone, "word of the lost daemon", |info| {
        info.field("obstacle").starts_with("waiting for the transport to come back")
    })?;
    node.start_daemon()?;
    group.wait_for(gone, "return as a voter", |info| info.role() == "voter")?;
    let expected = group.counter(other(gone))?;
    assert_eq!(group.counter(gone)?, expected, "it has what it missed");
    Ok(())
}

#[test]
fn goes_on_when_its_node_is_cut_off_and_takes_it_back() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = Group::start()?;
    let gone = group.sequencer()?;
    let node = group.cluster.node(gone);
    let stood_still =
        group.count_through(other(gone), &[other(gone), third(gone)], || node.cut())?;
    say("node cut off", stood_still);
    group.wait_for(gone, "word of the missing majority", |info| {
        info.field("obstacle").starts_with("waiting for a majority of 1 2 3: have")
    })?;
    node.heal()?;
    group.wait_for(gone, "return as a voter", |info| info.role() == "voter")?;
    let expected = group.counter(other(gone))?;
    assert_eq!(group.counter(gone)?, expected, "it has what it missed");
    Ok(())
}
