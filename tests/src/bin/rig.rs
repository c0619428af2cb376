//! Starts a cluster for experiments by hand, which ends with the standard input: `rig [NODES]`.
//!
//! Prints a command to enter each node. It leaves nothing behind, even if it is killed.

use std::time::Duration;

use plainsong_tests::rig::{Cluster, Result};

fn main() -> Result<()> {
    let nodes = std::env::args().nth(1).and_then(|nodes| nodes.parse().ok()).unwrap_or(3);
    let name = format!("by_hand-{}", std::process::id());
    let cluster = Cluster::builder().name(&name).nodes(nodes).encrypted(true).start()?;
    let all: Vec<u32> = (1..=nodes).collect();
    println!("{}", cluster.wait_for_ring(&all, Duration::from_secs(30))?);
    for node in cluster.nodes() {
        let command = node.command("sh");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        println!("node {}: nsenter {}", node.id(), words.join(" "));
    }
    println!("directory {}", cluster.directory().display());
    println!("guard {}", cluster.guard_id().unwrap_or_default());
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    Ok(())
}
