//! Mutual exclusion by `lock run` and `election run` on three nodes with encryption: a command has
//! stopped before another one begins, even if the node of the first is cut off and returns. The
//! commands lock a file and record an overlap if it is already locked.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use plainsong_tests::rig::{self, Cluster, Program};

/// Timeout that allows for a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The command. It takes a while to stop.
const WORK: &str = "
    exec 9>$WORK/guard
    flock -n 9 || echo \"OVERLAP $TOKEN\" >> $WORK/log
    echo \"begin $NODE $TOKEN\" >> $WORK/log
    trap 'sleep 0.5; echo \"end $NODE $TOKEN\" >> $WORK/log; exit' TERM
    while :; do sleep 0.05; done";

/// The directory that the commands work on.
struct Work(PathBuf);

impl Work {
    fn script(&self, id: u32, token: &str) -> String {
        let set = format!("WORK={} NODE={id} TOKEN=${token}", self.0.display());
        format!("{set}\n{WORK}")
    }

    /// Returns the node and token of each command that has begun, in order. Checks that tokens grow
    /// and that no commands overlapped.
    fn begun(&self) -> Vec<(u32, u64)> {
        let log = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
        assert!(!log.contains("OVERLAP"), "two commands ran at the same time:\n{log}");
        let begun = log.lines().filter_map(|line| line.strip_prefix("begin "));
        let begun: Vec<(u32, u64)> = begun
            .map(|line| {
                let (id, token) = line.split_once(' ').expect("a node and a token");
                (id.parse().expect("a node"), token.parse().expect("a token"))
            })
            .collect();
        assert!(begun.is_sorted_by(|a, b| a.1 < b.1), "tokens do not grow:\n{log}");
        begun
    }

    /// Waits until a command has begun with a higher token.
    fn wait_for_token_after(&self, token: u64) -> (u32, u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.begun().last() {
                Some(last) if last.1 > token => return *last,
                _ => assert!(Instant::now() < deadline, "no command has begun after token {token}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn cluster() -> rig::Result<(Cluster, Work)> {
    let cluster = Cluster::builder().encrypted(true).token_ms(1000).start()?;
    cluster.wait_for_ring(&[1, 2, 3], PATIENCE)?;
    let work = Work(cluster.directory().join("work"));
    std::fs::create_dir(&work.0).expect("a directory");
    Ok((cluster, work))
}

/// Waits until a replica reports that it is a voter or the sequencer.
fn wait_until_it_votes(server: &Program) {
    let deadline = Instant::now() + PATIENCE;
    let says = |text| server.lines().iter().any(|line| line.text.contains(text));
    while !says(": voter, epoch") && !says(": sequencer, epoch") {
        assert!(Instant::now() < deadline, "a server does not vote");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_leader_that_is_cut_off_and_returns_does_not_overlap_its_successor() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let (cluster, work) = cluster()?;
    let start = |id: u32| {
        let node = cluster.node(id);
        let mut command = node.command(env!("CARGO_BIN_EXE_election_under_test"));
        let number = id.to_string();
        command.args(["run", "work", "--engine", "corosync", "--voters", "1,2,3"]);
        command.args(["--id", &number, "--lease", "2", "--kill-after", "2", "--"]);
        command.args(["sh", "-c", &work.script(id, "ELECTION_TOKEN")]);
        node.spawn("election", command)
    };
    let _members: Vec<Program> = (1..=3).map(start).collect::<rig::Result<_>>()?;
    let mut last = work.wait_for_token_after(0);
    for _ in 0..2 {
        let (leader, token) = last;
        cluster.node(leader).cut()?;
        last = work.wait_for_token_after(token);
        assert_ne!(last.0, leader);
        cluster.node(leader).heal()?;
        cluster.wait_for_ring(&[1, 2, 3], PATIENCE)?;
    }
    Ok(())
}

#[test]
fn a_lock_holder_that_is_cut_off_and_returns_does_not_overlap_its_successor() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let (cluster, work) = cluster()?;
    let socket = |id: u32| cluster.directory().join(format!("lock{id}.sock"));
    let serve = |id: u32| {
        let node = cluster.node(id);
        let mut command = node.command(env!("CARGO_BIN_EXE_lock_under_test"));
        command.args(["serve", "--engine", "corosync", "--voters", "1,2,3"]);
        command.args(["--id", &id.to_string()]).arg("--socket").arg(socket(id));
        node.spawn("lock serve", command)
    };
    let servers: Vec<Program> = (1..=3).map(serve).collect::<rig::Result<_>>()?;
    for server in &servers {
        wait_until_it_votes(server);
    }
    let run = |id: u32| {
        let node = cluster.node(id);
        let mut command = node.command(env!("CARGO_BIN_EXE_lock_under_test"));
        command.arg("run").arg("--at").arg(socket(id));
        command.args(["--kill-after", "2", "work", "--"]);
        command.args(["sh", "-c", &work.script(id, "LOCK_TOKEN")]);
        node.spawn("lock run", command)
    };
    let first = run(1)?;
    let (_, token) = work.wait_for_token_after(0);
    let _second = run(2)?;
    cluster.node(1).cut()?;
    let (holder, token) = work.wait_for_token_after(token);
    assert_eq!(holder, 2);
    assert_eq!(first.wait_exit(PATIENCE)?.code(), Some(75), "the lock was lost");
    cluster.node(1).heal()?;
    cluster.wait_for_ring(&[1, 2, 3], PATIENCE)?;
    // The reverse case.
    let _third = run(1)?;
    cluster.node(2).cut()?;
    assert_eq!(work.wait_for_token_after(token).0, 1);
    Ok(())
}

/// Default number of faults of the leader; `PLAINSONG_KILLS` in the environment overrides it.
const KILLS: u32 = 4;

#[test]
fn repeated_kills_and_pauses_of_leaders_cause_no_overlap() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let kills = std::env::var("PLAINSONG_KILLS").ok().and_then(|kills| kills.parse().ok());
    let (cluster, work) = cluster()?;
    let start = |id: u32| {
        let node = cluster.node(id);
        let mut command = node.command(env!("CARGO_BIN_EXE_election_under_test"));
        command.args(["run", "work", "--engine", "corosync", "--voters", "1,2,3"]);
        command.args(["--id", &id.to_string(), "--durability", "disk", "--data-dir"]);
        command.arg(node.directory().join("election"));
        command.args(["--lease", "2", "--kill-after", "2", "--"]);
        command.args(["sh", "-c", &work.script(id, "ELECTION_TOKEN")]);
        node.spawn("election", command)
    };
    let mut members: Vec<Program> = (1..=3).map(start).collect::<rig::Result<_>>()?;
    work.wait_for_token_after(0);
    let mut gaps = [Vec::new(), Vec::new()];
    for kill in 0..kills.unwrap_or(KILLS) {
        members.iter().for_each(wait_until_it_votes);
        // On a busy machine, the command may have moved to another node without a fault.
        let Some((leader, token)) = work.begun().last().copied() else { continue };
        let at = leader as usize - 1;
        let is_paused = kill % 2 == 1;
        let since = Instant::now();
        if is_paused {
            members[at].pause()?
        } else {
            members[at].kill()?
        }
        let (next, _) = work.wait_for_token_after(token);
        gaps[usize::from(is_paused)].push(since.elapsed());
        assert_ne!(next, leader);
        if is_paused { members[at].resume()? } else { members[at] = start(leader)? }
    }
    for (what, mut gaps) in ["killed", "paused"].into_iter().zip(gaps) {
        gaps.sort_unstable();
        let [median, longest] = [gaps.get(gaps.len() / 2), gaps.last()];
        println!(
            "{} times {what}: time until the next began: median {median:?}, longest {longest:?}",
            gaps.len()
        );
    }
    Ok(())
}
