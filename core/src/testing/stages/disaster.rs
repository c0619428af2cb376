use std::time::Duration;

use crate::engine::VoterChange;
use crate::testing::Workload;
use crate::testing::checker::{Checked, check};
use crate::testing::host::Death;
use crate::testing::simulation::Simulation;
use crate::wire::types::{Index, Voter};

impl<W: Workload> Simulation<W> {
    /// So many stores are lost that no majority is left. An operator forces one replica to go
    /// on alone (rule V4), and then others come back: with new stores to be taken in, and with
    /// old ones as members of a cluster that is no more.
    pub(in crate::testing) fn suffer_disaster(&mut self) -> Checked {
        let Some(forcer) = self.forcer() else { return Ok(()) };
        self.world.is_disaster = true;
        let replica = self.hosts[forcer].replica;
        self.world.note(|| format!("DISASTER: {replica} is what is left"));
        let mut others: Vec<_> = (0..self.hosts.len()).filter(|at| *at != forcer).collect();
        others.retain(|at| self.hosts[*at].process.is_some() || self.votes(*at));
        let mut old = Vec::new();
        for at in others.iter().copied() {
            let survives = self.world.random.chance(300) && !self.would_be_majority(&old, at);
            if survives {
                old.push(at);
            }
            let is_learner = survives && !self.votes(at);
            // A learner decides nothing, so it may stay.
            if !is_learner || self.world.random.chance(500) {
                let kept = survives && self.keeps_store();
                self.hosts[at]
                    .die(&mut self.world, if kept { Death::Kill } else { Death::Wipe })?;
                if !kept {
                    self.hosts[at].lose_store(&mut self.world)?;
                }
                self.hosts[at].restart_at = None;
            }
        }
        self.force(forcer)?;
        // Whoever has lost its store joins what is left, instead of forming another group.
        for at in others.iter().copied().filter(|at| !old.contains(at)) {
            self.hosts[at].bootstrap.clear();
        }
        for at in others.iter().copied() {
            let now = self.world.now();
            let after = self.world.random.up_to(self.world.parameters.restart_max);
            self.hosts[at].restart_at = Some(now + after);
        }
        for at in others {
            let comes = self.world.random.chance(500) && !old.contains(&at);
            if comes {
                let change = VoterChange::Add(self.hosts[at].replica);
                self.hosts[forcer].ask(&mut self.world, change)?;
            }
        }
        self.world.is_disaster = false;
        Ok(())
    }

    /// A voter that runs, with a log that it does not lose when it dies before it is forced.
    fn forcer(&mut self) -> Option<usize> {
        let count = self.hosts.len();
        let first = self.world.random.below(count as u64) as usize;
        (0..count).map(|offset| (first + offset) % count).find(|at| {
            let host = &self.hosts[*at];
            let store = self.world.stores.get(&host.replica);
            let is_sound = store
                .is_some_and(|store| store.damage.is_none() && store.digests.last() > Index(0));
            host.process.as_ref().filter(|_| is_sound).is_some_and(|process| {
                let voters = process.engine.voters();
                process.engine.last() > Index(0)
                    && voters.now.len() > 1
                    && voters.previous.len() > 1
            })
        })
    }

    /// Whether anybody may count with its store.
    fn votes(&self, at: usize) -> bool {
        let replica = self.hosts[at].replica;
        let Some(store) = self.world.stores.get(&replica) else { return false };
        let voter = Voter { replica, store: store.id };
        self.voters_known().any(|voters| voters.contains(&voter))
    }

    /// Whether those with that one could go on without the others.
    fn would_be_majority(&self, old: &[usize], with: usize) -> bool {
        let has = |voter: &Voter| {
            let all = || old.iter().chain([&with]);
            all().any(|at| self.hosts[*at].replica == voter.replica)
        };
        let most = |set: &[Voter]| set.iter().filter(|voter| has(voter)).count() * 2 > set.len();
        self.voters_known().any(|voters| most(&voters.now) || most(&voters.previous))
    }

    /// The operator asks until it is done: the replica may not know yet that it is alone, or
    /// die meanwhile.
    fn force(&mut self, forcer: usize) -> Checked {
        let began = self.world.now();
        let p = &self.world.parameters;
        let bound = p.election_timeout * 40
            + p.network.detection_max * 10
            + p.network.sync_max * 10
            + p.restart_max * 10
            + p.hang_max
            + Duration::from_secs(20);
        let mut asked_at = None;
        loop {
            self.step()?;
            let now = self.world.now();
            let host = &self.hosts[forcer];
            let forced = host.process.as_ref().filter(|process| {
                self.world.is_forked()
                    && self.world.is_newest(host.cluster())
                    && process.engine.voters().now.len() == 1
            });
            if forced.is_some_and(|process| process.engine.has_committed_in_epoch()) {
                return Ok(());
            }
            check(now < began + bound, || {
                format!("V4: a new cluster cannot be forced\n{}", self.who_is_where())
            })?;
            let again = asked_at.is_none_or(|at| now > at + self.world.parameters.election_timeout);
            if again && forced.is_none() {
                asked_at = Some(now);
                self.hosts[forcer].force(&mut self.world)?;
            }
        }
    }
}
