//! Requests of operators to change the voters.

use crate::engine::VoterChange;
use crate::testing::Workload;
use crate::testing::checker::Checked;
use crate::testing::simulation::Simulation;
use crate::wire::types::{ReplicaId, Voter};

impl<W: Workload> Simulation<W> {
    /// Asks the replica at `at` to add, remove or replace a random voter. Does nothing while the
    /// store of a voter is lost, because the sequencer may not have noticed the loss yet.
    pub(in crate::testing) fn change_voters(&mut self, at: usize) -> Checked {
        let is_lost = |voter: &Voter| {
            let store = self.world.stores.get(&voter.replica);
            store.is_none_or(|store| store.id != voter.store || store.damage.is_some())
        };
        if self.voters_known().any(|voters| voters.now.iter().any(is_lost)) {
            return Ok(());
        }
        self.is_changing = true;
        let random = &mut self.world.random;
        let mut any = || ReplicaId(1 + random.below(self.hosts.len() as u64) as u32);
        let (one, other) = (any(), any());
        let kind = random.below(3);
        let change = match kind {
            0 => VoterChange::Add(one),
            1 if !self.never_shrinks() => VoterChange::Remove(one),
            _ => VoterChange::Replace(one, other),
        };
        self.hosts[at].ask(&mut self.world, change)
    }
}
