//! The group accepts no messages from one process for a while.

use std::time::Duration;

use super::Fault;
use crate::testing::Workload;

pub(super) fn fault<W: Workload>() -> Fault<W> {
    Fault {
        name: "blocked sends",
        rates: &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 5, 20],
        strike: |simulation, at, random| {
            let longest = Duration::from_millis(random.pick(&[100, 1000, 8000]));
            let until = simulation.world.now() + random.up_to(longest);
            let host = &mut simulation.hosts[at];
            let replica = host.replica;
            simulation
                .world
                .note(|| format!("the group accepts no messages from {replica} until {until:?}"));
            if let Some(process) = &mut host.process {
                process.sends_at = until;
            }
            Ok(())
        },
    }
}
