//! A state machine stalls for up to twenty election timeouts: it applies nothing, while its replica
//! still confirms and acknowledges entries.

use super::Fault;
use crate::testing::Workload;

pub(super) fn fault<W: Workload>() -> Fault<W> {
    Fault {
        name: "stalled machine",
        rates: &[0, 0, 0, 0, 0, 0, 1, 4],
        strike: |simulation, at, random| {
            let host = &mut simulation.hosts[at];
            let longest = simulation.world.parameters.election_timeout * random.pick(&[1, 5, 20]);
            let until = simulation.world.now() + random.up_to(longest);
            simulation.world.note(|| format!("{} applies nothing until {until:?}", host.replica));
            if let Some(process) = &mut host.process {
                process.stall_machine(until);
            }
            Ok(())
        },
    }
}
