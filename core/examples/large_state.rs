//! A large state in a persistent map, whose clone costs nothing.
//!
//!     cargo run -p plainsong --example large_state
//!
//! A snapshot is taken between two commands, and no command is applied until `snapshot` returns.
//! Cloning a `BTreeMap` with a million entries takes a large part of a second; cloning an
//! `imbl::OrdMap` copies one pointer, and later changes copy only the nodes that they touch. The
//! snapshot is then written on another thread while commands are applied.

use std::error::Error;
use std::time::{Duration, Instant};

use imbl::OrdMap;
use plainsong::{Consistency, Context, Index, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

/// Every entry of the log holds one batch of commands, and here every command many items.
const ITEMS_PER_COMMAND: u64 = 1_000;
const COMMANDS: u64 = 200;
/// A snapshot every 50 entries of the log.
const SNAPSHOT_ENTRIES: u64 = 50;
const DEADLINE: Duration = Duration::from_secs(60);

/// An ordered map: replicas compare their snapshots byte by byte, and a hash map has no order.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Catalog {
    items: OrdMap<u64, String>,
}

/// Adds the items from this number on.
#[derive(Serialize, Deserialize)]
struct Add(u64);

impl StateMachine for Catalog {
    type Command = Add;
    /// The number of items.
    type Output = usize;

    fn apply(&mut self, _: &Context, Add(first): Add) -> usize {
        for number in first..first.saturating_add(ITEMS_PER_COMMAND) {
            self.items.insert(number, format!("item {number}"));
        }
        self.items.len()
    }

    // `Clone` copies a pointer; `Serialize` writes the items in their order.
    plainsong::snapshot_by_clone!();
}

fn start(
    ring: &cpg::embedded::LocalRing,
    id: ReplicaId,
    voters: &[ReplicaId],
) -> Result<Replica<Catalog>, Box<dyn Error>> {
    Ok(Replica::builder(id, Catalog::default())
        .transport(ring.node())
        .group("catalog")
        .bootstrap(voters.iter().copied())
        .snapshot_every(SNAPSHOT_ENTRIES)
        // Replicas that lag get a snapshot rather than old entries.
        .keep_entries(0)
        .start()?)
}

/// Waits until a replica has a snapshot, which is complete some time after the entry that it is of.
fn wait_for_snapshot(replica: &Replica<Catalog>) -> Result<Index, Box<dyn Error>> {
    let mut events = replica.subscribe();
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(index) = replica.status().snapshot {
            return Ok(index);
        }
        if events.wait_timeout(deadline.saturating_duration_since(Instant::now()))?.is_none() {
            return Err("the replica has stopped".into());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ring = cpg::embedded::LocalRing::new();
    let voters = [1, 2, 3].map(ReplicaId);
    let mut replicas = Vec::new();
    for id in voters {
        replicas.push(start(&ring, id, &voters)?);
    }

    for command in 0..COMMANDS {
        replicas[0].propose(Add(command * ITEMS_PER_COMMAND)).wait()?;
    }
    println!("{} items are added", COMMANDS * ITEMS_PER_COMMAND);

    let index = wait_for_snapshot(&replicas[1])?;
    println!("replica 2 has a snapshot: {}", index.0 % SNAPSHOT_ENTRIES == 0);

    // The cost of a snapshot for `apply`: a clone, whatever the size of the state.
    let clone = |catalog: &Catalog| {
        let begin = Instant::now();
        let items = catalog.items.clone();
        (items.len(), begin.elapsed())
    };
    let (count, took) = replicas[1].read(Consistency::Linearizable, clone).wait()?;
    println!("{count} items are cloned");
    eprintln!("the clone took {took:?}");

    // A replica that joins later receives the snapshot, and the entries after it. It does not
    // vote until an operator adds it: `replicas[0].admin().add_voter(ReplicaId(4))`.
    let learner = start(&ring, ReplicaId(4), &[])?;
    let count = |catalog: &Catalog| catalog.items.len();
    let count = learner.read(Consistency::Linearizable, count).wait_timeout(DEADLINE)?;
    println!("replica 4 joined and has {count} items");
    let index = wait_for_snapshot(&learner)?;
    println!("replica 4 has a snapshot: {}", index.0 % SNAPSHOT_ENTRIES == 0);
    Ok(())
}
