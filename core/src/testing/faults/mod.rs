//! The faults of a simulated world, and the moments at which they strike.
//!
//! The oldest faults draw from the random stream of the whole world, in an order that must not
//! change. All others are in the list [`all`]: each has a file here and a random stream of its own,
//! so adding one does not change the world of any seed, except where the new fault strikes.

mod blocked_sends;
mod impossible_messages;
mod kill;
pub(super) mod staged;
mod stalled_machine;
mod voter_changes;

use cpg::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use super::checker::Checked;
use super::host::Death;
use super::simulation::Simulation;
use super::{Random, Workload};

/// A fault that strikes one replica at random moments.
pub(super) struct Fault<W: Workload> {
    /// Seeds the fault's random stream, with the seed of the world.
    name: &'static str,
    /// Possible rates, in strikes per thousand moments; one of them is drawn for each world.
    rates: &'static [u32],
    /// Strikes the replica at this place in `hosts`.
    strike: fn(&mut Simulation<W>, usize, &mut Random) -> Checked,
}

/// Returns every fault with a random stream of its own.
fn all<W: Workload>() -> Vec<Fault<W>> {
    vec![blocked_sends::fault(), impossible_messages::fault(), stalled_machine::fault()]
}

/// A fault with the rate drawn for one world.
pub(super) struct Armed<W: Workload> {
    fault: Fault<W>,
    rate: u32,
    random: Random,
}

/// Draws the rates of all faults for the world of this seed.
pub(super) fn armed<W: Workload>(seed: u64) -> Vec<Armed<W>> {
    let arm = |fault: Fault<W>| {
        let mut random = Random::new(seed ^ xxh3_64(fault.name.as_bytes()));
        Armed { rate: random.pick(fault.rates), fault, random }
    };
    all().into_iter().map(arm).collect()
}

impl<W: Workload> Simulation<W> {
    pub(in crate::testing) fn fail_something(&mut self) -> Checked {
        let at = self.world.random.below(self.hosts.len() as u64) as usize;
        let random = &mut self.world.random;
        let p = &self.world.parameters;
        let (hangs, kills, stops) =
            (random.chance(p.hangs), random.chance(p.kills), random.chance(p.stops));
        let (disk_fails, jumps) = (random.chance(p.disk_failures), random.chance(p.wall_jumps));
        let changes = random.chance(p.voter_changes);
        let stages = p.staged_faults > 0 && random.chance(p.staged_faults);
        if stages {
            self.begin_staged_fault();
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
        self.strike_at_random()
    }

    fn strike_at_random(&mut self) -> Checked {
        let mut faults = std::mem::take(&mut self.faults);
        for Armed { fault, rate, random } in &mut faults {
            if random.chance(*rate) {
                let at = random.below(self.hosts.len() as u64) as usize;
                (fault.strike)(self, at, random)?;
            }
        }
        self.faults = faults;
        Ok(())
    }

    /// Splits the network in two, for a random time as with random partitions.
    pub(in crate::testing) fn split(&mut self) {
        let world = &mut self.world;
        let machines = (1..=world.parameters.machines.max(1)).map(NodeId);
        let (one, other): (Vec<_>, Vec<_>) = machines.partition(|_| world.random.chance(500));
        world.network.part(&[&one, &other]);
        let span = world.parameters.network.partition_max.max(world.parameters.election_timeout);
        self.heals_at = Some(world.now() + world.random.up_to(span));
    }
}
