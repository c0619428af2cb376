//! Runs the CPG contract, which the embedded transport also passes, on three Corosync daemons.
//!
//! All cases share one cluster, because forming a ring takes longer than most of them. Each runs in
//! a process of its own in the first node, which asks this process for faults.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use corosync_common::{SOON, be_child, become_test, child_command, make_child, tell};
use cpg::conformance::{self, Case, Local, Member, Remote};
use cpg::{Options, Transport};
use plainsong_tests::rig::{self, Cluster};

/// Environment variable with the name of the case to run.
const CASE: &str = "COROSYNC_TEST_CASE";
/// Environment variables with the commands that start children in the other nodes, one word per
/// line.
const OTHERS: [&str; 2] = ["COROSYNC_TEST_NODE_2", "COROSYNC_TEST_NODE_3"];
/// Timeout of a case, longer than its own.
const CASE_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn child() {
    be_child();
}

#[test]
fn three_daemons_keep_the_contract() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mut broken = Vec::new();
    for case in conformance::cases() {
        let began = Instant::now();
        let outcome = run(case, &cluster)?;
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        let line = format!("{verdict} {:5.2} s {}", began.elapsed().as_secs_f64(), case.name);
        tell(&line);
        cluster.note(&line);
        if let Err(said) = outcome {
            broken.push(format!("{}:\n{said}", case.name));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// Runs a case in the first node and executes the faults that it asks for. If it fails, returns its
/// output.
fn run(case: &Case, cluster: &Cluster) -> rig::Result<Result<(), String>> {
    let said = cluster.directory().join(case.name);
    let (control, theirs) = UnixStream::pair().unwrap();
    control.set_read_timeout(Some(CASE_WITHIN)).unwrap();
    let mut command = become_test(cluster.node(1), "case_in_the_first_node");
    command.env(CASE, case.name).stdin(OwnedFd::from(theirs));
    command.stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    for (name, node) in OTHERS.iter().zip(&cluster.nodes()[1..]) {
        let child = child_command(node);
        let words = std::iter::once(child.get_program()).chain(child.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        command.env(name, words.join("\n"));
    }
    let mut process = command.spawn().unwrap();
    // The command holds the child's end of the socket.
    drop(command);
    let mut stopped = false;
    let mut node = [0];
    let end = loop {
        match (&control).read_exact(&mut node) {
            Ok(()) => {
                cluster.node(node[0].into()).kill_daemon().unwrap();
                stopped = true;
                (&control).write_all(&node).unwrap();
            }
            Err(error) => break error.kind(),
        }
    };
    // The child's end closes when it exits. After a timeout it is killed.
    if end != io::ErrorKind::UnexpectedEof {
        process.kill().unwrap();
    }
    let status = process.wait().unwrap();
    if stopped {
        restart(cluster)?;
    }
    let said = fs::read_to_string(&said).unwrap();
    Ok(if status.success() { Ok(()) } else { Err(format!("{status}, {end}\n{said}")) })
}

/// Starts the daemons that a case has stopped.
fn restart(cluster: &Cluster) -> rig::Result<()> {
    for node in cluster.nodes() {
        if node.daemon()?.status().is_some() {
            node.start_daemon()?;
        }
    }
    cluster.wait_for_ring(&[1, 2, 3], SOON).map(drop)
}

/// The body of the process that runs one case.
#[test]
fn case_in_the_first_node() {
    let Ok(case) = env::var(CASE) else { return };
    conformance::run(&case, &Inside);
}

/// The cluster, as seen by a process in the first node.
struct Inside;

impl conformance::Cluster for Inside {
    fn transport(&self) -> Transport {
        Transport::Corosync
    }

    fn member(&self, node: usize, options: Options) -> Box<dyn Member> {
        if node == 0 {
            return Box::new(Local(self.transport().connect(options).unwrap()));
        }
        let words = env::var(OTHERS[node - 1]).unwrap();
        let mut words = words.split('\n');
        let mut command = Command::new(words.next().unwrap());
        Box::new(Remote::start(make_child(command.args(words)), options).unwrap())
    }

    fn stop(&self, node: usize) -> bool {
        let control = io::stdin().as_fd().try_clone_to_owned().unwrap();
        let mut control = UnixStream::from(control);
        let id = u8::try_from(node + 1).unwrap();
        control.write_all(&[id]).unwrap();
        control.read_exact(&mut [0]).unwrap();
        true
    }
}
