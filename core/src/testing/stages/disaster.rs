use std::time::Duration;

use crate::engine::VoterChange;
use crate::testing::Workload;
use crate::testing::checker::{Checked, check};
use crate::testing::host::Death;
use crate::testing::simulation::Simulation;
use crate::wire::types::{Index, Voter};

impl<W: Workload> Simulation<W> {
    /// Loses the stores of a majority. An operator forces a new cluster at one replica (rule V4).
    /// Then others come back: some with new stores, to be taken in; some with old stores, as
    /// members of the old cluster.
    pub(in crate::testing) fn suffer_disaster(&mut self) -> Checked {
        let Some(forcer) = self.forcer() else { return Ok(()) };
        self.world.is_disaster = true;
        let replica = self.hosts[forcer].replica;
        self.world.note(|| format!("DISASTER: only {replica} keeps its store for sure"));
        let mut others: Vec<_> = (0..self.hosts.len()).filter(|at| *at != forcer).collect();
        others.retain(|at| self.hosts[*at].process.is_some() || self.votes(*at));
        let mut old = Vec::new();
        for at in others.iter().copied() {
            let survives = self.world.random.chance(300) && !self.would_be_majority(&old, at);
            if survives {
                old.push(at);
            }
            let is_learner = survives && !self.votes(at);
            // A learner has no vote, so it may keep running.
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
        // A replica that lost its store joins the forced cluster instead of forming another group.
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

    /// Returns a running voter whose durable log is intact and not empty, so that it keeps it if it
    /// dies before it is forced.
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

    /// Returns true if the replica's store is in a set of voters that some replica may use.
    fn votes(&self, at: usize) -> bool {
        let replica = self.hosts[at].replica;
        let Some(store) = self.world.stores.get(&replica) else { return false };
        let voter = Voter { replica, store: store.id };
        self.voters_known().any(|voters| voters.contains(&voter))
    }

    /// Returns true if the replicas in `old`, together with `with`, could form a majority of the
    /// old cluster.
    fn would_be_majority(&self, old: &[usize], with: usize) -> bool {
        let has = |voter: &Voter| {
            let all = || old.iter().chain([&with]);
            all().any(|at| self.hosts[*at].replica == voter.replica)
        };
        let most = |set: &[Voter]| set.iter().filter(|voter| has(voter)).count() * 2 > set.len();
        self.voters_known().any(|voters| most(&voters.now) || most(&voters.previous))
    }

    /// Repeats the operator's request until the new cluster works: at first the replica may not
    /// know yet that it has no majority, and it may die meanwhile.
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
