//! A replicated counter.
//!
//! Without arguments, three replicas run in this process:
//!
//!     cargo run -p plainsong --example counter
//!
//! With the id of a replica, this process runs one of three. Run it in three terminals with the ids
//! 1, 2 and 3. Each number that you type is added to the counter; an empty line prints the total.
//!
//!     cargo run -p plainsong --example counter -- 1
//!
//! They meet at a Unix socket of this user; a second argument names another one.

use std::error::Error;

use plainsong::{Consistency, Context, Replica, ReplicaId, StateMachine};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(i64);

impl StateMachine for Counter {
    type Command = i64;
    type Output = i64;

    fn apply(&mut self, _: &Context, add: i64) -> i64 {
        self.0 = self.0.wrapping_add(add);
        self.0
    }

    plainsong::snapshot_by_clone!();
}

/// The replicas that form the group at its first start.
const VOTERS: [ReplicaId; 3] = [ReplicaId(1), ReplicaId(2), ReplicaId(3)];

fn start(
    id: ReplicaId,
    transport: impl Into<cpg::Transport>,
) -> Result<Replica<Counter>, Box<dyn Error>> {
    Ok(Replica::builder(id, Counter::default())
        .transport(transport)
        .group("counter")
        .bootstrap(VOTERS)
        .start()?)
}

/// Three replicas in one process.
fn demo() -> Result<(), Box<dyn Error>> {
    let ring = cpg::embedded::LocalRing::new();
    let mut replicas = Vec::new();
    for id in VOTERS {
        replicas.push(start(id, ring.node())?);
    }

    // A command may be proposed at any replica. The answer comes once a majority has it.
    println!("replica 1 adds 5: {}", replicas[0].propose(5).wait()?);
    println!("replica 2 adds 2: {}", replicas[1].propose(2).wait()?);

    // A linearizable read at any replica sees every command that was answered before.
    let total = replicas[2].read(Consistency::Linearizable, |counter| counter.0).wait()?;
    println!("replica 3 reads {total}");

    // Two of three replicas are a majority: the group keeps working without the third.
    replicas.remove(0).stop();
    println!("replica 2 adds 1 without replica 1: {}", replicas[0].propose(1).wait()?);
    Ok(())
}

/// One replica of three processes on this host.
fn serve(id: &str, transport: &str) -> Result<(), Box<dyn Error>> {
    let replica = start(ReplicaId(id.parse()?), transport.parse::<cpg::Transport>()?)?;
    for line in std::io::stdin().lines() {
        let total = match line?.trim() {
            "" => replica.read(Consistency::Linearizable, |counter| counter.0).wait()?,
            number => replica.propose(number.parse()?).wait()?,
        };
        println!("total {total}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => demo(),
        [id] => serve(id, "embedded"),
        [id, socket] => serve(id, &format!("embedded:{socket}")),
        _ => Err("usage: counter [ID [SOCKET]]".into()),
    }
}
