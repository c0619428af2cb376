//! A daemon that dies, leaves or is paused: the others detect it, and it can return.

use std::time::Duration;

use plainsong_tests::rig::{self, Cluster};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_killed_daemon_is_detected_and_can_return() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().encrypted(true).start()?;
    let whole = cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    // The representative of the ring.
    cluster.node(1).kill_daemon()?;
    let rest = cluster.wait_for_ring(&[2, 3], SOON)?;
    assert!(rest.quorate);
    assert_eq!(rest.ring.representative, 2);
    assert!(rest.ring.sequence > whole.ring.sequence);
    assert!(cluster.node(1).membership().is_err());

    cluster.node(1).start_daemon()?;
    let again = cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    assert!(again.ring.sequence > rest.ring.sequence);
    Ok(())
}

#[test]
fn an_orderly_shutdown_is_detected_at_once() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let mark = cluster.mark();
    cluster.node(2).stop_daemon()?;
    assert!(cluster.node(2).daemon()?.status().is_some_and(|status| status.success()));
    cluster.wait_for_ring(&[1, 3], SOON)?;
    // The others were told and did not have to wait for a timeout.
    let one = cluster.node(1).daemon()?;
    one.wait_for_line_from(mark, "Members left: 2", SOON)?;
    assert!(!one.lines().iter().any(|line| line.text.contains("Failed to receive the leave")));
    Ok(())
}

#[test]
fn a_paused_daemon_leaves_the_ring_and_returns() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let three = cluster.node(3);
    three.pause_daemon()?;
    cluster.wait_for_ring(&[1, 2], SOON)?;
    assert!(three.membership().is_err(), "it cannot answer");
    assert!(three.daemon()?.status().is_none());

    three.resume_daemon()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    Ok(())
}
