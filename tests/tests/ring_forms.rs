//! Daemons find each other and form one ring, with and without encryption.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use plainsong_tests::rig::{self, Cluster, Node};

const SOON: Duration = Duration::from_secs(20);

/// Returns a statistic of the daemon's network. The daemon updates it about once per second.
fn statistic(node: &Node, name: &str) -> rig::Result<u64> {
    let text = node.run("corosync-cmapctl", &["-m", "stats", "-g", name])?;
    Ok(text.trim().rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap())
}

#[test]
fn three_nodes_form_a_ring_in_plain_text() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    let ring = cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    assert!(ring.quorate);
    assert_eq!(ring.ring.representative, 1);
    assert_eq!(statistic(cluster.node(1), "stats.knet.handle.tx_crypt_packets")?, 0);
    Ok(())
}

#[test]
fn three_nodes_form_an_encrypted_ring() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().encrypted(true).start()?;
    assert!(cluster.wait_for_ring(&[1, 2, 3], SOON)?.quorate);
    for node in cluster.nodes() {
        assert!(statistic(node, "stats.knet.handle.tx_crypt_packets")? > 0);
        assert!(statistic(node, "stats.knet.handle.rx_crypt_packets")? > 0);
    }
    Ok(())
}

#[test]
fn a_node_with_a_wrong_key_cannot_join() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().encrypted(true).start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let (one, three) = (cluster.node(1), cluster.node(3));
    three.stop_daemon()?;
    let pair = cluster.wait_for_ring(&[1, 2], SOON)?;

    let key = three.etc().join("authkey");
    let right = fs::read(&key).unwrap();
    let wrong: Vec<u8> = right.iter().map(|byte| !byte).collect();
    fs::write(&key, wrong).unwrap();
    three.start_daemon()?;
    let alone = cluster.wait_for_ring(&[3], SOON)?;
    assert!(!alone.quorate);
    // It keeps trying for longer than joining would take.
    let mut mark = cluster.mark();
    for _ in 0..10 {
        let refused = format!("Unable to decrypt packet from {}", three.address());
        mark = one.daemon()?.wait_for_line_from(mark, &refused, SOON)?.number + 1;
    }
    assert_eq!(one.membership()?, pair);
    assert_eq!(three.membership()?, alone);

    // With the right key it joins again.
    three.stop_daemon()?;
    fs::write(&key, right).unwrap();
    three.start_daemon()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    Ok(())
}
