//! What fails, and when.

mod impossible_messages;
mod kill;
pub(super) mod staged;
mod voter_changes;

use cpg::NodeId;

use super::Workload;
use super::checker::Checked;
use super::host::Death;
use super::simulation::Simulation;

impl<W: Workload> Simulation<W> {
    pub(in crate::testing) fn fail_something(&mut self) -> Checked {
        let at = self.world.random.below(self.hosts.len() as u64) as usize;
        let random = &mut self.world.random;
        let p = &self.world.parameters;
        let (hangs, kills, stops) =
            (random.chance(p.hangs), random.chance(p.kills), random.chance(p.stops));
        let (disk_fails, jumps) = (random.chance(p.disk_failures), random.chance(p.wall_jumps));
        let changes = random.chance(p.voter_changes);
        let ambushes = p.ambushes > 0 && random.chance(p.ambushes);
        if ambushes {
            self.lay_ambush();
        }
        if hangs {
            self.hosts[at].hang(&mut self.world);
        }
        if jumps {
            self.hosts[at].clock.jump(&mut self.world.random);
        }
        if kills {
            self.kill(at, Death::Kill)?;
        } else if stops {
            self.kill(at, Death::Stop)?;
        } else if disk_fails && (self.keeps_store() || self.can_lose(at)) {
            self.losses += u32::from(!self.keeps_store());
            self.hosts[at].fail_disk(&mut self.world);
        }
        if changes {
            self.change_voters(at)?;
        }
        let (p, rarities) = (&self.world.parameters, &mut self.world.rarities);
        let (blocks, lies) =
            (p.blocks > 0 && rarities.chance(p.blocks), p.lies > 0 && rarities.chance(p.lies));
        let at = rarities.below(self.hosts.len() as u64) as usize;
        if blocks {
            self.hosts[at].block(&mut self.world);
        }
        if lies {
            self.hosts[at].lie(&mut self.world);
        }
        Ok(())
    }

    /// The network falls into two parts, for as long as it does so by itself.
    pub(in crate::testing) fn split(&mut self) {
        let world = &mut self.world;
        let machines = (1..=world.parameters.machines.max(1)).map(NodeId);
        let (one, other): (Vec<_>, Vec<_>) = machines.partition(|_| world.random.chance(500));
        world.network.part(&[&one, &other]);
        let span = world.parameters.network.partition_max.max(world.parameters.election_timeout);
        self.heals_at = Some(world.now() + world.random.up_to(span));
    }
}
