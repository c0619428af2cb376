//! Faults of the network: partitions, one-way links and random losses, and how they heal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use plainsong_tests::rig::{self, Cluster, Line};

const PORT: u16 = 4000;
const SOON: Duration = Duration::from_secs(20);

#[test]
fn each_side_of_a_partition_forms_a_ring() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().encrypted(true).start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    cluster.partition(&[&[1, 2], &[3]])?;
    assert!(cluster.wait_for_ring(&[1, 2], SOON)?.quorate);
    assert!(!cluster.wait_for_ring(&[3], SOON)?.quorate);

    // Directly to another partition: node 2 changes sides.
    cluster.partition(&[&[1], &[2, 3]])?;
    assert!(cluster.wait_for_ring(&[2, 3], SOON)?.quorate);
    assert!(!cluster.wait_for_ring(&[1], SOON)?.quorate);

    cluster.partition(&[])?;
    for node in 1..=3 {
        assert!(!cluster.wait_for_ring(&[node], SOON)?.quorate);
    }
    cluster.heal_all()?;
    assert!(cluster.wait_for_ring(&[1, 2, 3], SOON)?.quorate);

    cluster.node(2).cut()?;
    cluster.wait_for_ring(&[1, 3], SOON)?;
    cluster.wait_for_ring(&[2], SOON)?;
    cluster.node(2).heal()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    Ok(())
}

#[test]
fn a_node_that_receives_nothing_leaves_the_ring() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    let three = cluster.node(3);
    three.drop_from(1)?;
    three.drop_from(2)?;
    cluster.wait_for_ring(&[1, 2], SOON)?;
    cluster.wait_for_ring(&[3], SOON)?;
    three.heal()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;

    // A loss of 100 % has the same effect.
    three.loss_percent(100)?;
    cluster.wait_for_ring(&[1, 2], SOON)?;
    cluster.wait_for_ring(&[3], SOON)?;
    three.loss_percent(0)?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    Ok(())
}

#[test]
fn drops_have_a_direction_and_losses_are_random() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    let bind = |node: u32| {
        let address = (cluster.node(node).address(), PORT);
        let socket = cluster.node(node).within_network(|| UdpSocket::bind(address).unwrap())?;
        socket.set_read_timeout(Some(SOON)).unwrap();
        Ok::<_, rig::Error>(socket)
    };
    let sockets = [bind(1)?, bind(2)?, bind(3)?];
    let send = |from: u32, to: u32, text: &str| {
        let to = (cluster.node(to).address(), PORT);
        sockets[from as usize - 1].send_to(text.as_bytes(), to).unwrap();
    };
    let receive = |at: u32| {
        let mut bytes = [0; 100];
        let length = sockets[at as usize - 1].recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };

    cluster.node(3).drop_from(1)?;
    send(1, 3, "dropped");
    send(2, 3, "from another");
    assert_eq!(receive(3), "from another");
    send(3, 1, "the other way");
    assert_eq!(receive(1), "the other way");

    cluster.cut_between(1, 2)?;
    send(1, 2, "dropped");
    send(3, 2, "from another");
    assert_eq!(receive(2), "from another");
    send(2, 1, "dropped");
    send(3, 1, "from another");
    assert_eq!(receive(1), "from another");

    cluster.heal_all()?;
    cluster.node(2).loss_percent(50)?;
    for _ in 0..100 {
        send(1, 2, "by chance");
    }
    cluster.node(2).loss_percent(0)?;
    send(1, 2, "end");
    let arrived = std::iter::from_fn(|| Some(receive(2)).filter(|text| text != "end")).count();
    assert!((20..=80).contains(&arrived), "{arrived} of 100 arrived");

    cluster.partition(&[&[1, 3], &[2]])?;
    send(1, 2, "cut");
    send(1, 3, "within a part");
    assert_eq!(receive(3), "within a part");
    cluster.partition(&[&[2, 3], &[1]])?;
    send(1, 2, "cut");
    send(3, 2, "within a part");
    assert_eq!(receive(2), "within a part");
    Ok(())
}

/// Corosync needs a network in which every node reaches every other. Otherwise it forms rings
/// forever, and meanwhile the daemons concerned may still report an earlier ring as quorate.
/// Programs on Corosync must bear that.
#[test]
fn two_nodes_without_a_link_never_settle() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    cluster.cut_between(1, 3)?;
    // New rings have one of the two nodes or both, with or without the third.
    let mark = cluster.mark();
    let deadline = Instant::now() + SOON;
    while [1, 3].map(|node| rings_formed(&cluster, node, mark)).iter().all(|count| *count < 5) {
        assert!(Instant::now() < deadline, "the ring settled");
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.heal_all()?;
    cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    Ok(())
}

/// Returns the number of rings that a node's daemon has formed since a mark.
fn rings_formed(cluster: &Cluster, node: u32, mark: u64) -> usize {
    let lines = cluster.node(node).daemon().unwrap().lines();
    let formed = |line: &&Line| line.number >= mark && line.text.contains("A new membership (");
    lines.iter().filter(formed).count()
}
