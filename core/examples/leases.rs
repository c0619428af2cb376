//! Leases that expire by the time of the log.
//!
//!     cargo run -p plainsong --example leases
//!
//! Every log entry carries a time stamp that all replicas see, and that never goes back. The state
//! machine compares deadlines with it instead of a clock, and `wake_at` has the group call it when
//! a deadline is reached, also while nobody proposes anything. So a lease expires at the same
//! place in the log of every replica, and never early, even if a host's clock is wrong.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::time::Duration;

use plainsong::{Consistency, Context, Feed, News, Replica, ReplicaId, StateMachine, Timestamp};
use serde::{Deserialize, Serialize};

/// A lease, and the token that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    holder: String,
    /// Grows with each lease of that name. A resource that rejects tokens lower than the
    /// highest it has seen is safe from a holder that does not know that its lease has expired.
    token: u64,
    expires: Timestamp,
}

struct Leases {
    /// By the name of what is leased. Part of the state.
    leases: BTreeMap<String, Lease>,
    /// The names of expired leases. Not part of the state: only this process listens.
    expired: Feed<String>,
}

#[derive(Serialize, Deserialize)]
struct Acquire {
    name: String,
    holder: String,
    ms: u64,
}

impl StateMachine for Leases {
    type Command = Acquire;
    /// The lease, or the one that is in the way.
    type Output = Result<Lease, Lease>;
    type Snapshot = BTreeMap<String, Lease>;

    fn apply(&mut self, context: &Context, acquire: Acquire) -> Self::Output {
        let Acquire { name, holder, ms } = acquire;
        // `wake` has removed what has expired before an entry with that time is applied.
        if let Some(lease) = self.leases.get(&name).filter(|lease| lease.holder != holder) {
            return Err(lease.clone());
        }
        let expires = Timestamp(context.time().0.saturating_add(ms));
        let lease = Lease { holder, token: context.index().0, expires };
        self.leases.insert(name, lease.clone());
        Ok(lease)
    }

    /// The next deadline. Follows from the state alone, so all replicas ask for the same time.
    fn wake_at(&self) -> Option<Timestamp> {
        self.leases.values().map(|lease| lease.expires).min()
    }

    fn wake(&mut self, context: &Context) {
        self.leases.retain(|name, lease| {
            let lasts = lease.expires > context.time();
            if !lasts {
                self.expired.push(context.index(), name.clone());
            }
            lasts
        });
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.leases.clone()
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.leases = plainsong::snapshot::read(from)?;
        self.expired.jump();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ring = cpg::embedded::LocalRing::new();
    let voters = [1, 2, 3].map(ReplicaId);
    let mut replicas = Vec::new();
    let mut expired = Vec::new();
    for id in voters {
        let feed = Feed::new(1000);
        expired.push(feed.watch());
        let leases = Leases { leases: BTreeMap::new(), expired: feed };
        let builder = Replica::builder(id, leases).transport(ring.node());
        replicas.push(builder.group("leases").bootstrap(voters).start()?);
    }
    let acquire = |replica: &Replica<Leases>, holder: &str| {
        let command = Acquire { name: "printer".into(), holder: holder.into(), ms: 3000 };
        replica.propose(command).wait()
    };

    let Ok(first) = acquire(&replicas[0], "ann")? else { return Err("the lease is taken".into()) };
    println!("ann has the printer");
    if let Err(lease) = acquire(&replicas[1], "bob")? {
        println!("bob has to wait for {}", lease.holder);
    }

    // Nobody proposes anything now, and the lease expires at every replica all the same.
    for expired in &mut expired {
        match expired.wait_timeout(Duration::from_secs(20))? {
            Some(News::Item(_, name)) => println!("the lease of the {name} has expired"),
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    let Ok(second) = acquire(&replicas[1], "bob")? else { return Err("the lease is taken".into()) };
    println!("bob has the printer, with a higher token: {}", second.token > first.token);

    let count = |leases: &Leases| leases.leases.len();
    let count = replicas[2].read(Consistency::Linearizable, count).wait()?;
    println!("leases: {count}");
    Ok(())
}
