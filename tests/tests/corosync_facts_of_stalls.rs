//! What Corosync does when one change of the ring comes into another. As with the other facts,
//! a version that changes one of these is to be noticed here.
//!
//! The windows are some milliseconds wide, and a try may miss them: each test tries several
//! times, tells how many it took, and fails if none hit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use std::fs;

use corosync_common::{Observer, SOON, be_child, configurations, place_of, rings, tell};
use cpg::Reason;
use cpg::conformance::Member as _;
use plainsong_tests::rig::{self, Cluster, Node};

const TRIES: usize = 20;

/// What a daemon says when a ring is formed, before the services come to terms with it.
const FORMED: &str = "A new membership";

#[test]
fn child() {
    be_child();
}

/// The worst of all: a member misses messages of its group and is told nothing at all.
///
/// A node is away for a while. It comes back, and before the services have come to terms with
/// the new ring, another node goes. Then those who stayed hear that the first one left and
/// came; it hears neither, but a ring and the next message.
#[test]
fn a_gap_can_be_silent() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(4).start()?;
    be_slow_to_be_alone(cluster.node(3))?;
    for attempt in 1..=TRIES {
        cluster.wait_for_ring(&[1, 2, 3, 4], SOON)?;
        let nodes = [1, 3].map(|id| cluster.node(id));
        let [mut stays, mut gap] = Observer::group_named(&format!("attempt {attempt}"), nodes);
        cluster.node(3).cut()?;
        stays.until_left(gap.me);
        for number in 1..=3 {
            stays.send(&format!("missed {number}"));
        }
        stays.until_message("missed 3");
        let mark = cluster.mark();
        cluster.node(3).heal()?;
        cluster.node(1).daemon()?.wait_for_line_from(mark, "Members joined: 3", SOON)?;
        cluster.node(4).pause_daemon()?;
        stays.until_members(2);
        stays.send("after");
        stays.until_message("after");
        gap.until_message("after");
        cluster.node(4).resume_daemon()?;

        assert_eq!(place_of(&gap.heard, "missed 1"), None, "{}", gap.trace());
        if configurations(&gap.heard).all(|change| change.left.is_empty()) {
            assert_eq!(configurations(&gap.heard).last().unwrap().members.len(), 2);
            let reasons: Vec<_> = configurations(&stays.heard)
                .flat_map(|change| change.left.iter().chain(&change.joined))
                .filter(|change| change.member == gap.me)
                .map(|change| change.reason)
                .collect();
            assert_eq!(
                reasons,
                [Reason::Join, Reason::NodeDown, Reason::NodeUp],
                "those who stay can tell: {}",
                stays.trace()
            );
            tell(&format!("silent gap in try {attempt}; the member that misses three heard:"));
            tell(&gap.trace());
            return Ok(());
        }
        assert!(rings(&gap.heard).count() > 1);
    }
    panic!("in {TRIES} tries each member that missed something was told so");
}

/// Lets a node look for others longer than they look for it, so that it is back before it has
/// formed a ring of its own, and has heard that all others left.
fn be_slow_to_be_alone(node: &Node) -> rig::Result<()> {
    node.stop_daemon()?;
    let path = node.etc().join("corosync.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("totem {", "totem {\n    consensus: 5000", 1)).unwrap();
    node.start_daemon()
}

/// The departure of a process that dies while the services come to terms with a ring goes
/// before what it had sent and what still waits for the ring. So messages come from somebody
/// who is not in the configuration any more.
#[test]
fn a_departure_can_overtake_messages() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    for attempt in 1..=TRIES {
        cluster.wait_for_ring(&[1, 2, 3], SOON)?;
        // Another process of the node is in the group, or the messages would be dropped.
        let nodes = [2, 1, 1].map(|id| cluster.node(id));
        let [mut witness, _other, mut gone] =
            Observer::group_named(&format!("attempt {attempt}"), nodes);
        let mark = cluster.mark();
        cluster.node(3).pause_daemon()?;
        let daemon = cluster.node(1).daemon()?;
        daemon.wait_for_line_from(mark, "forming new configuration", SOON)?;
        gone.send("last words");
        daemon.wait_for_line_from(mark, FORMED, SOON)?;
        // So that the daemon finds the process dead as soon as it goes on.
        cluster.node(1).pause_daemon()?;
        let who = gone.me;
        gone.member.kill();
        cluster.node(1).resume_daemon()?;

        let left = witness.until_left(who);
        witness.send("end");
        witness.until_message("end");
        cluster.node(3).resume_daemon()?;
        let words = place_of(&witness.heard, "last words");
        if words.is_some_and(|words| left < words) {
            tell(&format!("a departure overtook a message in try {attempt}; a witness heard:"));
            tell(&witness.trace());
            return Ok(());
        }
    }
    panic!("in {TRIES} tries each departure came after the messages");
}
