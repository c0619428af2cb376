//! Corosync's behavior when a second ring change follows before the first is complete. A version of
//! Corosync that changes one of these facts fails here.
//!
//! The windows are a few milliseconds wide, so an attempt may miss them. Each test makes several
//! attempts, prints how many it needed, and fails if all missed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use std::fs;

use corosync_common::{Observer, SOON, be_child, configurations, place_of, rings, tell};
use cpg::Reason;
use cpg::conformance::Member as _;
use plainsong_tests::rig::{self, Cluster, Node};

const TRIES: usize = 20;

/// A daemon's log line when a ring is formed, before the services have synchronized.
const FORMED: &str = "A new membership";

#[test]
fn child() {
    be_child();
}

/// A member misses messages of its group and is not told at all.
///
/// A node is away for a while. It returns, and another node fails before the services have
/// synchronized with the new ring. The members that stayed learn that the first one left and
/// joined. The first one itself receives only a ring event and the next message.
#[test]
fn a_gap_can_be_silent() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(4).start()?;
    delay_ring_of_one(cluster.node(3))?;
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

        assert_eq!(place_of(&gap.received, "missed 1"), None, "{}", gap.trace());
        if configurations(&gap.received).all(|change| change.left.is_empty()) {
            assert_eq!(configurations(&gap.received).last().unwrap().members.len(), 2);
            let reasons: Vec<_> = configurations(&stays.received)
                .flat_map(|change| change.left.iter().chain(&change.joined))
                .filter(|change| change.member == gap.me)
                .map(|change| change.reason)
                .collect();
            assert_eq!(
                reasons,
                [Reason::Join, Reason::NodeDown, Reason::NodeUp],
                "the members that stayed are told: {}",
                stays.trace()
            );
            tell(&format!(
                "silent gap in attempt {attempt}; events of the member that missed three messages:"
            ));
            tell(&gap.trace());
            return Ok(());
        }
        assert!(rings(&gap.received).count() > 1);
    }
    panic!("in {TRIES} attempts each member that missed messages was told");
}

/// Makes a node search for others longer than they search for it. So it returns before it has
/// formed a ring alone, and has not been told that all others left.
fn delay_ring_of_one(node: &Node) -> rig::Result<()> {
    node.stop_daemon()?;
    let path = node.etc().join("corosync.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("totem {", "totem {\n    consensus: 5000", 1)).unwrap();
    node.start_daemon()
}

/// If a process dies while the services synchronize with a ring, its departure is delivered before
/// messages that it sent and that still wait for the ring. So a message can come from a sender that
/// is no longer in the configuration.
#[test]
fn a_departure_can_overtake_messages() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    for attempt in 1..=TRIES {
        cluster.wait_for_ring(&[1, 2, 3], SOON)?;
        // Another process of the node is in the group; otherwise the messages would be dropped.
        let nodes = [2, 1, 1].map(|id| cluster.node(id));
        let [mut witness, _other, mut gone] =
            Observer::group_named(&format!("attempt {attempt}"), nodes);
        let mark = cluster.mark();
        cluster.node(3).pause_daemon()?;
        let daemon = cluster.node(1).daemon()?;
        daemon.wait_for_line_from(mark, "forming new configuration", SOON)?;
        gone.send("last words");
        daemon.wait_for_line_from(mark, FORMED, SOON)?;
        // The daemon must find the process dead as soon as it resumes.
        cluster.node(1).pause_daemon()?;
        let who = gone.me;
        gone.member.kill();
        cluster.node(1).resume_daemon()?;

        let left = witness.until_left(who);
        witness.send("end");
        witness.until_message("end");
        cluster.node(3).resume_daemon()?;
        let words = place_of(&witness.received, "last words");
        if words.is_some_and(|words| left < words) {
            tell(&format!(
                "a departure overtook a message in attempt {attempt}; events of a witness:"
            ));
            tell(&witness.trace());
            return Ok(());
        }
    }
    panic!("in {TRIES} attempts each departure came after the messages");
}
