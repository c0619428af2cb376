//! A connection to Corosync when its daemon dies and returns, and the permission to connect.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use corosync_common::{Observer, SOON, be_child, be_guest, configurations, make_guest};
use cpg::conformance::Member as _;
use cpg::{Error, Event, GroupName, Guarantee, Iteration, NodeId, Reason};
use plainsong_tests::rig::{self, Cluster};

/// User ids that no system uses.
const ALLOWED: u32 = 41_001;
const UNPRIVILEGED: u32 = 41_002;

#[test]
fn child() {
    be_child();
}

#[test]
fn guest() {
    be_guest();
}

#[test]
fn a_connection_ends_with_its_daemon_and_a_new_one_is_a_new_member() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let group = GroupName::new("facts").unwrap();
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let [mut stays, mut dies, mut listens] = Observer::group([2, 1, 1].map(|id| cluster.node(id)));
    for number in 1..=20 {
        stays.send(&format!("before {number}"));
    }
    // The same daemon has passed all messages to its clients, but the dying member has not received
    // any yet.
    listens.until_message("before 20");
    cluster.node(1).kill_daemon()?;
    stays.until_left(dies.me);

    let error = loop {
        match dies.member.next(SOON) {
            Ok(Some(event)) => dies.received.push(event),
            Ok(None) => panic!("the connection does not fail"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Library);
    let count = dies.received.iter().filter(|event| matches!(event, Event::Deliver { .. })).count();
    assert_eq!(count, 20, "delivered before the error:\n{}", dies.trace());
    assert_eq!(dies.member.next(Duration::ZERO), Err(Error::Library), "the error is permanent");
    assert_eq!(dies.member.join(&group), Err(Error::Library));
    assert_eq!(dies.member.multicast(Guarantee::Agreed, &[b"x"]), Err(Error::Library));
    assert_eq!(dies.member.leave(), Err(Error::Library));
    assert_eq!(dies.member.members(&group), Err(Error::Library));
    assert_eq!(dies.member.groups(&Iteration::All), Err(Error::Library));

    let say = |node: u32| {
        let mut command = cluster.node(node).command(std::env::current_exe().unwrap());
        output_of(make_guest(&mut command))
    };
    let without_daemon = say(1);
    assert!(
        without_daemon == "error: Library" || without_daemon == "error: TryAgain",
        "{without_daemon}"
    );

    cluster.node(1).start_daemon()?;
    let ring = cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mut again = Observer::new(cluster.node(1));
    again.join();
    stays.until_members(2);
    let last = configurations(&stays.received).last().unwrap();
    assert_eq!(last.joined[0].member, again.me);
    assert_eq!(last.joined[0].reason, Reason::Join);
    again.send("a new life");
    stays.until_message("a new life");
    assert_eq!(dies.member.join(&group), Err(Error::Library), "the old connection stays dead");

    let expected =
        format!("quorate, ring {}.{}, nodes 1 2 3", ring.ring.representative, ring.ring.sequence);
    assert_eq!(say(1), expected);
    Ok(())
}

#[test]
fn the_quorum_service_reports_the_ring_of_the_last_event() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let [mut many, mut few] = Observer::group([1, 3].map(|id| cluster.node(id)));
    cluster.partition(&[&[1, 2], &[3]])?;
    for (observer, node, quorate, nodes) in
        [(&mut many, 1, "quorate", &[1, 2][..]), (&mut few, 3, "not quorate", &[3])]
    {
        let wanted: Vec<_> = nodes.iter().copied().map(NodeId).collect();
        observer.until(
            "its ring",
            |received| matches!(received.last(), Some(Event::Ring(ring)) if ring.nodes == wanted),
        );
        let Some(Event::Ring(ring)) = observer.received.last() else { unreachable!() };
        let nodes: Vec<_> = nodes.iter().map(u32::to_string).collect();
        let expected = format!("{quorate}, ring {}, nodes {}", ring.id, nodes.join(" "));
        // The quorum service learns of the ring after the groups do.
        let deadline = Instant::now() + SOON;
        loop {
            let mut command = cluster.node(node).command(std::env::current_exe().unwrap());
            let said = output_of(make_guest(&mut command));
            if said == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{said} is not {expected}");
        }
    }
    Ok(())
}

#[test]
fn only_users_with_permission_can_connect() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(1).allow_uid(ALLOWED).start()?;
    cluster.wait_for_ring(&[1], SOON)?;
    // A place from which every user may run it.
    let program = cluster.node(1).directory().join("guest");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let say = |uid: u32, program: &PathBuf| {
        let mut command = cluster.node(1).command_as(uid, uid, program);
        output_of(make_guest(&mut command))
    };
    assert!(say(ALLOWED, &program).starts_with("quorate, ring 1."));
    assert_eq!(say(UNPRIVILEGED, &program), "error: Access");
    let message = Error::Access.to_string();
    assert!(message.contains("/etc/corosync/uidgid.d"), "{message}");
    Ok(())
}

/// Returns the line that a guest prints.
fn output_of(command: &mut Command) -> String {
    let Output { stdout, stderr, .. } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let said = stdout.lines().find_map(|line| line.split_once("GUEST: "));
    said.unwrap_or_else(|| panic!("a guest printed nothing:\n{stdout}{stderr}")).1.to_owned()
}
