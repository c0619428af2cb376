//! Plainsong as an application uses it: on the embedded transport, with the threads of each
//! replica, and callers in a thread of their own at the sequencer.

use std::collections::VecDeque;
use std::thread;

use plainsong::{Context, Replica, ReplicaId, Role, StateMachine};

use super::{Map, Put, Watch};
use crate::peer::Result;

impl StateMachine for Map {
    type Command = Put;
    type Output = usize;

    fn apply(&mut self, _: &Context, put: Put) -> usize {
        Map::apply(self, put)
    }

    plainsong::snapshot_by_clone!();
}

pub fn run(callers: usize) -> Result<f64> {
    let ring = cpg::embedded::LocalRing::new();
    let start = |id| {
        Replica::builder(ReplicaId(id), Map::default())
            .transport(ring.node())
            .bootstrap([1, 2, 3].map(ReplicaId))
            .start()
    };
    let replicas = [start(1)?, start(2)?, start(3)?];
    let sequencer = loop {
        let found = replicas.iter().find(|one| one.status().role == Role::Sequencer);
        match found {
            Some(replica) => break replica,
            None => thread::yield_now(),
        }
    };
    let (mut watch, mut under_way, mut key) = (Watch::new(), VecDeque::new(), 0);
    while !watch.is_over() {
        while under_way.len() < callers {
            key += 1;
            under_way.push_back(sequencer.propose(Put::of(key)));
        }
        if let Some(pending) = under_way.pop_front() {
            pending.wait()?;
            watch.answered(1);
        }
    }
    Ok(watch.rate())
}
