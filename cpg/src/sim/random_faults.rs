//! Faults that happen by themselves, drawn from the seed, and their ends.

use std::time::Duration;

use super::Sim;
use super::faults::draw_span;
use super::network::node_set::NodeSet;

/// Interval at which new faults are drawn.
const MOMENT: Duration = Duration::from_millis(10);

impl Sim {
    /// Returns true if faults occur by themselves as time passes.
    fn has_random_faults(&self) -> bool {
        let faults = &self.faults;
        faults.bursts
            + faults.partitions
            + faults.pauses
            + faults.daemon_deaths
            + faults.token_losses
            > 0
    }

    /// Returns the time of the next event that no caller causes.
    pub(super) fn next_alarm(&self) -> Option<Duration> {
        let moment = self.has_random_faults().then_some(self.next_moment);
        let rings = self.rings.values().filter(|ring| ring.is_intact);
        let spans = self.daemons.iter().flat_map(|daemon| [daemon.starts_at, daemon.wakes_at]);
        rings
            .flat_map(|ring| [ring.barrier_at, ring.loses_token_at])
            .chain(spans)
            .chain([moment, self.heals_at])
            .flatten()
            .chain(self.forming.values().copied())
            .min()
    }

    /// Ends the faults whose time has passed, and draws new ones.
    pub(super) fn apply_random_faults(&mut self) {
        let now = self.journal.now;
        let is_over = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if is_over(self.heals_at) {
            self.heal();
        }
        for place in 0..self.daemons.len() {
            let daemon = &self.daemons[place];
            let (id, starts, wakes) = (daemon.id, daemon.starts_at, daemon.wakes_at);
            if is_over(starts) {
                self.start_daemon(id);
            }
            if is_over(wakes) {
                self.resume_daemon(id);
            }
        }
        let losers: Vec<_> =
            self.rings.values().filter(|ring| is_over(ring.loses_token_at)).collect();
        if !losers.is_empty() {
            let losers: Vec<_> = losers.iter().map(|ring| ring.id).collect();
            losers.into_iter().for_each(|ring| self.lose_token_of(ring));
        }
        if self.has_random_faults() && self.next_moment <= now {
            self.next_moment = now + MOMENT;
            self.draw_faults();
        }
    }

    fn draw_faults(&mut self) {
        let (now, faults) = (self.journal.now, self.faults);
        let victim = self.random.index(self.daemons.len());
        if self.random.chance(faults.bursts) {
            self.daemons[victim].is_deaf_until =
                now + draw_span(&mut self.random, faults.burst_max);
        }
        let victim = self.random.index(self.daemons.len());
        if self.random.chance(faults.partitions) && self.is_whole() {
            let count = 2 + self.random.index(2);
            let mut parts = vec![NodeSet::default(); count];
            for place in 0..self.daemons.len() {
                parts[self.random.index(count)].insert(place);
            }
            self.part_into(parts);
            self.heals_at = Some(now + draw_span(&mut self.random, faults.partition_max));
        }
        let id = self.daemons[victim].id;
        if self.random.chance(faults.pauses) && self.daemons[victim].runs() {
            self.pause_daemon(id);
            self.daemons[victim].wakes_at =
                Some(now + draw_span(&mut self.random, faults.pause_max));
        }
        if self.random.chance(faults.daemon_deaths) && self.daemons[victim].is_up {
            self.kill_daemon(id);
            self.daemons[victim].starts_at =
                Some(now + draw_span(&mut self.random, faults.outage_max));
        }
        if self.random.chance(faults.token_losses)
            && let Some(ring) = self.daemons[victim].ring
        {
            self.lose_token_of(ring);
        }
    }
}
