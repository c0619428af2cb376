//! What a connection to Corosync does when its daemon dies and comes back, and who may have
//! one at all.
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

/// Users that no system has.
const ALLOWED: u32 = 41_001;
const STRANGER: u32 = 41_002;

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
    // The same daemon has handed all of it to its clients; who died has not taken any yet.
    listens.until_message("before 20");
    cluster.node(1).kill_daemon()?;
    stays.until_left(dies.me);

    let error = loop {
        match dies.member.next(SOON) {
            Ok(Some(event)) => dies.heard.push(event),
            Ok(None) => panic!("the connection does not end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Library);
    let heard = dies.heard.iter().filter(|event| matches!(event, Event::Deliver { .. })).count();
    assert_eq!(heard, 20, "what had been received is handed out:\n{}", dies.trace());
    assert_eq!(dies.member.next(Duration::ZERO), Err(Error::Library), "and it stays so");
    assert_eq!(dies.member.join(&group), Err(Error::Library));
    assert_eq!(dies.member.multicast(Guarantee::Agreed, &[b"x"]), Err(Error::Library));
    assert_eq!(dies.member.leave(), Err(Error::Library));
    assert_eq!(dies.member.members(&group), Err(Error::Library));
    assert_eq!(dies.member.groups(&Iteration::All), Err(Error::Library));

    let say = |node: u32| {
        let mut command = cluster.node(node).command(std::env::current_exe().unwrap());
        said_by(make_guest(&mut command))
    };
    let without_daemon = say(1);
    assert!(
        without_daemon == "refused: Library" || without_daemon == "refused: TryAgain",
        "{without_daemon}"
    );

    cluster.node(1).start_daemon()?;
    let ring = cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mut again = Observer::new(cluster.node(1));
    again.join();
    stays.until_members(2);
    let last = configurations(&stays.heard).last().unwrap();
    assert_eq!(last.joined[0].member, again.me);
    assert_eq!(last.joined[0].reason, Reason::Join);
    again.send("a new life");
    stays.until_message("a new life");
    assert_eq!(dies.member.join(&group), Err(Error::Library), "the old one does not revive");

    let expected =
        format!("quorate, ring {}.{}, nodes 1 2 3", ring.ring.representative, ring.ring.sequence);
    assert_eq!(say(1), expected);
    Ok(())
}

#[test]
fn quorum_and_rings_speak_of_the_same_ring() -> rig::Result<()> {
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
            |heard| matches!(heard.last(), Some(Event::Ring(ring)) if ring.nodes == wanted),
        );
        let Some(Event::Ring(ring)) = observer.heard.last() else { unreachable!() };
        let nodes: Vec<_> = nodes.iter().map(u32::to_string).collect();
        let expected = format!("{quorate}, ring {}, nodes {}", ring.id, nodes.join(" "));
        // The service is told of the ring after the groups are.
        let deadline = Instant::now() + SOON;
        loop {
            let mut command = cluster.node(node).command(std::env::current_exe().unwrap());
            let said = said_by(make_guest(&mut command));
            if said == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{said} is not {expected}");
        }
    }
    Ok(())
}

#[test]
fn only_users_that_are_named_may_connect() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(1).allow_uid(ALLOWED).start()?;
    cluster.wait_for_ring(&[1], SOON)?;
    // Where anybody may run it.
    let program = cluster.node(1).directory().join("guest");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let say = |uid: u32, program: &PathBuf| {
        let mut command = cluster.node(1).command_as(uid, uid, program);
        said_by(make_guest(&mut command))
    };
    assert!(say(ALLOWED, &program).starts_with("quorate, ring 1."));
    assert_eq!(say(STRANGER, &program), "refused: Access");
    let message = Error::Access.to_string();
    assert!(message.contains("/etc/corosync/uidgid.d"), "{message}");
    Ok(())
}

/// What a guest says about its engine.
fn said_by(command: &mut Command) -> String {
    let Output { stdout, stderr, .. } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let said = stdout.lines().find_map(|line| line.split_once("GUEST: "));
    said.unwrap_or_else(|| panic!("a guest says nothing:\n{stdout}{stderr}")).1.to_owned()
}
