//! Programs inside nodes: their output and exit status, their isolation from other nodes and
//! clusters, and the permission to use the daemon.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use plainsong_tests::rig::{self, Cluster, Node, Program};

const SOON: Duration = Duration::from_secs(20);

fn shell(node: &Node, name: &str, script: &str) -> rig::Result<Program> {
    let mut command = node.command("sh");
    command.args(["-c", script]);
    node.spawn(name, command)
}

#[test]
fn the_output_and_status_of_programs_are_recorded() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(2).start()?;
    let (one, two) = (cluster.node(1), cluster.node(2));

    let counter = shell(one, "counter", "i=0; while sleep 0.01; do i=$((i+1)); echo at $i; done")?;
    let third = counter.wait_for_line("at 3", SOON)?;
    assert_eq!((&*third.source, &*third.text), ("node 1 counter", "at 3"));
    counter.pause()?;
    // Its earlier output arrives; then lines of another program are not followed by any of its own.
    let other = shell(two, "other", "echo out; echo error >&2; exec sleep 0.3")?;
    assert!(other.wait_exit(SOON)?.success());
    let texts: BTreeSet<_> = other.lines().into_iter().map(|line| line.text).collect();
    assert_eq!(texts, BTreeSet::from(["out".to_owned(), "error".to_owned()]));
    let last = counter.lines().pop().unwrap();
    assert!(last.number < other.lines()[0].number, "{last}");
    let mark = cluster.mark();
    counter.resume()?;
    assert!(counter.wait_for_line_from(mark, "at", SOON)?.at > last.at);

    assert_eq!(counter.status(), None);
    counter.kill()?;
    assert!(counter.status().is_some_and(|status| !status.success()));
    assert_eq!(shell(one, "fails", "exit 7")?.wait_exit(SOON)?.code(), Some(7));
    let missing = one.spawn("missing", one.command("no-such-program"))?;
    missing.wait_for_line("No such file", SOON)?;

    // All lines are in one order, by time.
    let logs = cluster.logs();
    assert!(logs.is_sorted_by_key(|line| line.at));
    assert!(logs.iter().enumerate().all(|(at, line)| line.number == at as u64));
    assert!(logs.iter().any(|line| &*line.source == "node 2 corosync"));
    assert!(logs.iter().any(|line| &*line.source == "rig" && line.text == "pause node 1 counter"));
    Ok(())
}

#[test]
fn programs_see_only_their_node() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    // Two equal clusters.
    let cluster = Cluster::builder().start()?;
    let other = Cluster::builder().nodes(2).start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    other.wait_for_ring(&[1, 2], SOON)?;

    for node in cluster.nodes() {
        let status = node.run("corosync-quorumtool", &["-s"])?;
        assert!(status.contains(&format!("Node ID:          {}\n", node.id())), "{status}");
        assert!(node.run("corosync-cpgtool", &[])?.contains("Group Name"));
        // The daemon's socket has an abstract name. Only this one is visible.
        let sockets = node.run("cat", &["/proc/net/unix"])?;
        assert_eq!(sockets.matches(" @cpg@").count(), 1, "{sockets}");
        let pid = node.run("cat", &["/run/corosync.pid"])?;
        assert_eq!(pid.trim(), node.daemon()?.id().to_string());
        let ring = format!("ringid_{}", node.id());
        assert_eq!(node.run("ls", &["/var/lib/corosync"])?.trim(), ring);
        assert_eq!(node.run("pwd", &[])?.trim(), node.directory().to_string_lossy());
        let memory = node.shared_memory()?;
        assert!(memory.iter().all(|name| name.contains(pid.trim())), "{memory:?}");
    }

    // A test connects to a program's port from outside the node.
    let address = (cluster.node(2).address(), 4000);
    let listener = cluster.node(2).within_network(|| TcpListener::bind(&address).unwrap())?;
    let connect = || TcpStream::connect(&address).unwrap();
    let mut near = cluster.node(1).within_network(connect)?;
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    let refused = other.node(1).within_network(|| TcpStream::connect(&address).is_err());
    assert!(refused?, "another cluster has another network");
    Ok(())
}

#[test]
fn only_permitted_users_can_use_the_daemon() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    const ALLOWED: u32 = 12_345;
    const OTHER: u32 = 12_346;
    let cluster = Cluster::builder().nodes(1).allow_uid(ALLOWED).start()?;
    cluster.wait_for_ring(&[1], SOON)?;
    let node = cluster.node(1);
    let mut who = node.command_as(ALLOWED, ALLOWED, "id");
    assert!(text(who.arg("-u")).starts_with("12345\n"));
    assert!(text(&mut node.command_as(ALLOWED, ALLOWED, "corosync-cpgtool")).contains("Group"));
    assert!(!text(&mut node.command_as(OTHER, OTHER, "corosync-cpgtool")).contains("Group"));
    Ok(())
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), output.status)
}
