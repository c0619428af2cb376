//! A cluster ends with its owner and leaves no process, network, mount, shared memory or file
//! behind: when it is dropped, when the test panics, and when the test is killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plainsong_tests::rig::{self, Cluster};

const SOON: Duration = Duration::from_secs(20);

/// Returns the processes and the directory of a cluster.
fn traces(of: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mark = format!("PLAINSONG_RIG={}", of.display());
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let carries = read("environ").split(|byte| *byte == 0).any(|var| var == mark.as_bytes());
        let named = String::from_utf8_lossy(&read("cmdline")).contains(&*of.to_string_lossy());
        if carries || named {
            found.insert(format!("process {}", process.display()));
        }
    }
    if of.exists() {
        found.insert(format!("directory {}", of.display()));
    }
    found
}

/// Returns the directory of a cluster's log.
fn out(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("out").join(name)
}

/// Returns network interfaces, shared memory and mounts outside of the cluster that may come from
/// it. Other tests may run at the same time.
fn outside(of: &Path, daemons: &[u32]) -> Vec<String> {
    let names = |path: &str| {
        let names = fs::read_dir(path).unwrap().flatten().map(|entry| entry.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut found = names("/sys/class/net");
    found.retain(|name| ["bridge0", "port1", "port2"].contains(&name.as_str()));
    let memory = names("/dev/shm").into_iter();
    let ours = |name: &String| daemons.iter().any(|id| name.contains(&format!("-{id}-")));
    found.extend(memory.filter(ours));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = |line: &&str| line.contains("plainsong-rig") || line.contains(of.to_str().unwrap());
    found.extend(mounts.lines().filter(ours).map(str::to_owned));
    found
}

/// Returns the network namespaces of the nodes.
fn networks(cluster: &Cluster) -> BTreeSet<PathBuf> {
    let network = |process: u32| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    let nodes = cluster.nodes().iter().map(|node| network(node.daemon().unwrap().id()));
    let networks: BTreeSet<_> = nodes.collect();
    assert_eq!(networks.len(), cluster.nodes().len());
    assert!(!networks.contains(&network(std::process::id())));
    networks
}

fn is_used(network: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut links = processes.map(|entry| fs::read_link(entry.path().join("ns/net")));
    links.any(|link| link.is_ok_and(|link| link == network))
}

#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !there() {
        assert!(Instant::now() < deadline, "{what}: did not happen within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dropped_cluster_is_gone() {
    if !rig::usable() {
        return;
    }
    let cluster = Cluster::builder().start().unwrap();
    cluster.wait_for_ring(&[1, 2, 3], SOON).unwrap();
    let (home, networks) = (cluster.directory().to_owned(), networks(&cluster));
    // Difficult cases: a paused daemon, and programs with children of their own.
    cluster.node(2).pause_daemon().unwrap();
    let mut command = cluster.node(3).command("sh");
    command.args(["-c", "sleep 1000 & setsid sleep 1001 & echo started; exec sleep 1002"]);
    let program = cluster.node(3).spawn("deep", command).unwrap();
    program.wait_for_line("started", SOON).unwrap();
    cluster.node(1).cut().unwrap();
    assert!(traces(&home).len() > 8, "{:?}", traces(&home));
    let daemons: Vec<_> = cluster.nodes().iter().map(|node| node.daemon().unwrap().id()).collect();
    assert_eq!(outside(&home, &daemons), [""; 0]);

    drop(cluster);
    assert_eq!(traces(&home), BTreeSet::new());
    assert!(program.status().is_some());
    assert!(!networks.iter().any(|network| is_used(network)));
    assert_eq!(outside(&home, &daemons), [""; 0]);
}

#[test]
fn a_test_that_panics_leaves_only_its_log() {
    if !rig::usable() {
        return;
    }
    let name = "nothing_is_left_behind-panics";
    let home = std::sync::Mutex::new(PathBuf::new());
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let cluster = Cluster::builder().nodes(1).name(name).start().unwrap();
        *home.lock().unwrap() = cluster.directory().to_owned();
        cluster.note("about to fail");
        std::panic::resume_unwind(Box::new("as a test does"));
    }));
    assert!(failed.is_err());
    assert_eq!(traces(&home.into_inner().unwrap()), BTreeSet::new());
    let log = fs::read_to_string(out(name).join("log")).unwrap();
    assert!(log.contains("| about to fail\n"));
    fs::remove_dir_all(out(name)).unwrap();
}

/// A process that owns a cluster of two nodes.
struct Owner {
    child: Child,
    home: PathBuf,
    guard: String,
}

impl Owner {
    fn new() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
        command.arg("2").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines: Vec<_> = lines.map(Result::unwrap).take(5).collect();
        let word = |at: usize| lines[at].split_once(' ').unwrap().1.to_owned();
        Self { child, home: word(3).into(), guard: word(4) }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A killed test leaves its log behind.
        let _ = fs::remove_dir_all(out(&format!("by_hand-{}", self.child.id())));
    }
}

#[test]
fn the_cluster_of_a_killed_test_is_removed() {
    if !rig::usable() {
        return;
    }
    let mut owner = Owner::new();
    assert!(traces(&owner.home).len() > 5);
    owner.kill();
    until("removal by the guard", || traces(&owner.home).is_empty());
}

#[test]
fn the_next_start_removes_leftovers_but_not_running_clusters() {
    if !rig::usable() {
        return;
    }
    let living = Owner::new();
    let mut dead = Owner::new();
    // A tool that kills all processes of a test kills the guard as well.
    let killed = Command::new("kill").args(["-KILL", &dead.guard]).status().unwrap();
    assert!(killed.success());
    dead.kill();
    assert!(traces(&dead.home).len() > 5, "no guard is left to remove it");

    let next = Cluster::builder().nodes(1).start().unwrap();
    assert_eq!(traces(&dead.home), BTreeSet::new());
    assert!(traces(&living.home).len() > 5);
    assert!(traces(next.directory()).len() > 3);
    drop(next);
    let home = living.home.clone();
    drop(living);
    until("removal by the guard", || traces(&home).is_empty());
}
