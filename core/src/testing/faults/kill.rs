//! Kills and stops processes, and loses or damages stores, as far as the group can bear it.

use std::time::Duration;

use crate::testing::Workload;
use crate::testing::checker::Checked;
use crate::testing::host::Death;
use crate::testing::simulation::Simulation;
use crate::wire::types::{Index, ReplicaId, Voter, Voters};

/// At this rate of lost stores, they are also lost while voters change.
const LATE_WIPES: u32 = 800;

impl<W: Workload> Simulation<W> {
    pub(in crate::testing) fn kill(&mut self, at: usize, death: Death) -> Checked {
        if self.hosts[at].process.is_none() {
            return Ok(());
        }
        let wiped =
            !self.world.is_disaster && self.world.random.chance(self.world.parameters.wipes);
        if self.world.is_disaster && !self.keeps_store() {
            return Ok(());
        }
        let flips =
            !self.world.is_disaster && self.world.random.chance(self.world.parameters.flips);
        if self.keeps_store() && !((wiped || flips) && self.can_lose(at)) {
            return self.hosts[at].die(&mut self.world, death);
        }
        if self.keeps_store() && !wiped {
            self.losses += u32::from(at < self.world.parameters.voters as usize);
            return self.hosts[at].die(&mut self.world, Death::Flip);
        }
        if self.can_lose(at) {
            self.losses += u32::from(at < self.world.parameters.voters as usize);
            return self.hosts[at].die(&mut self.world, Death::Wipe);
        }
        Ok(())
    }

    /// Returns true if the group can bear the loss of this store: without it, in every set of
    /// voters that a replica may use, a majority still has its stores and runs or will run again.
    pub(in crate::testing) fn can_lose(&self, at: usize) -> bool {
        let victim = self.hosts[at].replica;
        if self.world.checker.last_open().is_none() {
            let listed = self.world.parameters.voters;
            return victim.0 > listed || self.losses < (listed - 1) / 2;
        }
        // A requested change may name a store that is lost at the same moment.
        if self.is_changing && !(self.never_shrinks() && self.others_are_whole(victim)) {
            return false;
        }
        let is_lost = |voter: &&Voter| {
            let store = self.world.stores.get(&voter.replica);
            voter.replica == victim
                || store.is_none_or(|store| {
                    let is_doomed = store.damage.is_some() || store.full_until == Duration::MAX;
                    store.id != voter.store || is_doomed
                })
                || self.hosts[voter.replica.0 as usize - 1].is_gone()
        };
        let bears = |set: &Vec<Voter>| set.iter().filter(is_lost).count() * 2 < set.len();
        self.sets_that_count().all(bears)
    }

    /// Returns true if voters are only added and replaced in this run, so that every set bears the
    /// loss of one.
    pub(in crate::testing) fn never_shrinks(&self) -> bool {
        let p = &self.world.parameters;
        p.voters >= 3 && p.wipes >= LATE_WIPES
    }

    /// Returns true if all other stores are intact and are the ones that the sets of voters name.
    pub(in crate::testing) fn others_are_whole(&self, victim: ReplicaId) -> bool {
        let is_whole = |replica: &ReplicaId| {
            let store = self.world.stores.get(replica);
            !self.hosts[replica.0 as usize - 1].is_gone()
                && store
                    .is_some_and(|store| store.damage.is_none() && store.full_until < Duration::MAX)
        };
        let is_current = |voter: &Voter| {
            let store = self.world.stores.get(&voter.replica);
            store.is_some_and(|store| store.id == voter.store)
        };
        let mut all = self.hosts.iter().map(|host| host.replica);
        all.all(|replica| replica == victim || is_whole(&replica))
            && self.sets_that_count().flatten().all(is_current)
    }

    /// Returns the sets of voters of which a majority may be needed.
    pub(in crate::testing) fn sets_that_count(&self) -> impl Iterator<Item = &Vec<Voter>> {
        let known = self.hosts.iter().filter_map(|host| {
            let voters = self.world.stores.get(&host.replica)?.digests.voters()?;
            let commit = host.process.as_ref().map_or(Index(0), |p| p.engine.commit());
            Some((voters, commit))
        });
        let open = self.world.checker.last_open().map(|open| (&open.voters, Index(0)));
        known.chain(open).flat_map(|(voters, commit)| {
            let previous = (!voters.is_settled(commit)).then_some(&voters.previous);
            std::iter::once(&voters.now).chain(previous)
        })
    }

    /// Returns all sets of voters that a replica may use.
    pub(in crate::testing) fn voters_known(&self) -> impl Iterator<Item = &Voters> {
        let logs = self.world.stores.values().filter_map(|store| store.digests.voters());
        let open = self.world.checker.last_open().map(|open| &open.voters);
        let running = self.hosts.iter().filter_map(|host| host.process.as_ref());
        logs.chain(open).chain(running.map(|process| process.engine.voters()))
    }
}
