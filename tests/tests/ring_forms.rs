//! Daemons find each other and form one ring.

use std::time::Duration;

use plainsong_tests::rig::{self, Cluster};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn three_nodes_form_a_ring() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().start()?;
    let ring = cluster.wait_for_ring(&[1, 2, 3], SOON)?;
    assert!(ring.quorate);
    assert_eq!(ring.ring.representative, 1);
    Ok(())
}
