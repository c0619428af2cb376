//! The log's time as replicas estimate it, and ordered wake-ups (rule N11).

use crate::Timestamp;
use crate::engine::Engine;
use crate::wire::entry::EntryPayload;

impl<T> Engine<T> {
    /// Records the stamp at the end of the log. `may_have_joined` is true if the log may hold the
    /// notice of this run's joining since the last change.
    pub(crate) fn see_time(&mut self, may_have_joined: bool) {
        let (stamp, now) = (self.log.time(), self.now.monotonic);
        self.clock.saw(stamp, now);
        if may_have_joined && self.log.members().contains(&self.me()) {
            self.clock.know_time();
        }
    }

    /// Returns this replica's best estimate of the log's time, never before the last stamp in its
    /// log.
    pub(crate) fn log_time(&self) -> Timestamp {
        if self.is_sequencing() { self.stamp() } else { self.clock.estimate(self.now) }
    }

    /// Returns the time at which an epoch begins that this replica opens without reports of others
    /// (rule N11c).
    pub(crate) fn time_by_itself(&self) -> Timestamp {
        let estimate = self.clock.estimate(self.now);
        if self.clock.knows_time() { estimate } else { estimate.max(self.now.wall) }
    }

    /// Begins to sequence in an epoch that has just opened here.
    pub(crate) fn take_over_time(&mut self) {
        self.clock.take_over();
    }

    /// Warns operators if the sequencer's wall clock and log time differ.
    pub(crate) fn warn_of_wall_clock(&mut self) {
        if !self.is_sequencing() {
            return;
        }
        let log_time = self.stamp();
        let Some(ahead_ms) = self.clock.warning_due(self.now, log_time) else { return };
        let (replica, seconds) = (self.me().replica, ahead_ms.unsigned_abs() / 1000);
        if ahead_ms > 0 {
            tracing::warn!(
                %replica, %log_time,
                "the wall clock of this host is {seconds} s ahead of log time, which approaches it \
                 by 1 ms per second only: correct the clock; if the clock is right, stop all \
                 replicas and start them again"
            );
        } else {
            tracing::warn!(
                %replica, %log_time,
                "the wall clock of this host is {seconds} s behind log time, which approaches it \
                 by 1 ms per second only: correct the clock; if the clock is right, deadlines given \
                 as a time of day are early by as much"
            );
        }
    }

    /// Orders a `Time` if nothing else is to be ordered and log time has reached the time at which
    /// the state machine asks to be woken. Called only at a tick, and acts only once everything is
    /// applied: a state machine gets at most one wake-up per tick, whatever it asks for.
    pub(crate) fn order_time(&mut self) {
        let idle = self.is_sequencing() && !self.has_work();
        let applied = self.commit.applied == self.log.last().index;
        let is_due = self.clock.wake_at.is_some_and(|at| at <= self.stamp());
        if idle && applied && is_due {
            self.order(EntryPayload::Time);
        }
    }

    /// Returns true if another replica, the sequencer, should have ordered a `Time` by now.
    pub(crate) fn is_wake_overdue(&self) -> bool {
        let expected = self.clock.expected(self.now);
        let applied = self.commit.applied == self.log.last().index;
        applied && !self.is_sequencing() && self.clock.wake_at.is_some_and(|at| at <= expected)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::TICK;
    use crate::engine::solo::{Solo, member, run};
    use crate::wire::message::{Message, Open};
    use crate::wire::types::{Ballot, Nonce, StoreId};

    fn asleep_for(ms: u64) -> Solo {
        let mut solo = Solo::new();
        solo.new_entries();
        solo.sleep_until(Some(Timestamp(solo.now.wall.0 + ms)));
        solo
    }

    /// Returns the number of `Time` entries ordered in this many ticks, and checks that nothing
    /// else is.
    fn times(solo: &mut Solo, ticks: usize) -> usize {
        (0..ticks).for_each(|_| solo.wait(TICK));
        let news = solo.new_entries();
        assert!(news.iter().all(|payload| *payload == EntryPayload::Time), "{news:?}");
        news.len()
    }

    #[test]
    fn n11d_a_time_is_ordered_once_when_it_is_due() {
        let mut solo = asleep_for(120);
        assert_eq!(times(&mut solo, 2), 0);
        solo.wake_at = None;
        assert_eq!(times(&mut solo, 100), 1);
    }

    #[test]
    fn n11d_a_state_machine_is_woken_at_most_once_a_tick() {
        let mut solo = asleep_for(0);
        assert_eq!(times(&mut solo, 100), 100);
    }

    #[test]
    fn n11d_no_wake_up_is_early_when_a_clock_jumps() {
        let mut solo = asleep_for(3_600_000);
        solo.now.wall.0 += 10_000_000;
        assert_eq!(times(&mut solo, 100), 0);
        solo.now.wall.0 -= 20_000_000;
        assert_eq!(times(&mut solo, 100), 0);
    }

    #[test]
    fn n11a_a_wall_clock_that_is_behind_does_not_delay_a_wake_up() {
        let mut solo = asleep_for(3_600_000);
        solo.now.wall.0 -= 10_000_000;
        solo.now.monotonic += Duration::from_mins(59);
        assert_eq!(times(&mut solo, 1), 0);
        solo.wake_at = None;
        // One thousandth of an hour later, and some.
        solo.now.monotonic += Duration::from_secs(64);
        assert_eq!(times(&mut solo, 1), 1);
    }

    /// Replica 2 joins and opens an epoch in which only its `EpochStart` is ordered, as if a
    /// coordinator held the base and died. A second later replica 1 sequences again.
    fn passing_epoch_of_another(solo: &mut Solo, opens_at: Timestamp) {
        let all = [member(1, 1), member(2, 2)];
        let now = solo.now.monotonic;
        solo.engine.peers.configure(all[0], &all, &all[1..], now);
        solo.engine.identify(all[1], run(2, 2), StoreId(2));
        let open = Open {
            ballot: Ballot { counter: 50, replica: 2, nonce: Nonce(2) },
            base: solo.engine.log.last(),
            digest: solo.engine.log.digest(),
            history: solo.engine.log.history().to_vec(),
            sequencer: run(2, 2),
            voters: solo.engine.log.voters().clone(),
            time: opens_at,
        };
        solo.deliver(all[1], Message::Open(open));
        assert_eq!(solo.engine.log.last().epoch.counter, 50);
        solo.wait(Duration::from_secs(1));
        solo.configure(&all[..1], &[]);
        (0..100).for_each(|_| solo.wait(TICK));
        assert!(solo.engine.is_sequencing(), "{:?}", solo.engine.status().waiting);
    }

    #[test]
    fn n11a_an_alarm_is_on_time_after_an_idle_period_and_two_epochs() {
        let hours = |hours: u64| Duration::from_hours(hours);
        for wall_clock_stops in [false, true] {
            let mut solo = Solo::new();
            let alarm = Timestamp(solo.now.wall.0 + 12 * 3_600_000);
            solo.sleep_until(Some(alarm));
            solo.now.monotonic += hours(10);
            if !wall_clock_stops {
                solo.now.wall.0 += 10 * 3_600_000;
            }
            // All replicas that reported had just started: none of them knew how long the group was
            // idle.
            let last = solo.engine.log.time();
            passing_epoch_of_another(&mut solo, last);
            solo.new_entries();
            let due = |solo: &mut Solo| {
                solo.wait(Duration::from_mins(1));
                solo.new_entries().contains(&EntryPayload::Time)
            };
            let late = (1..).find(|_| due(&mut solo)).unwrap();
            // By the slowest clock, twelve hours take 43 s more.
            assert!((119..=121).contains(&late), "woken after {late} minutes instead of 120");
        }
    }

    #[test]
    fn n11c_a_report_carries_the_time_that_its_sender_has_counted() {
        let mut solo = Solo::new();
        let last = solo.engine.log.time();
        solo.now.monotonic += Duration::from_hours(10);
        solo.wait(TICK);
        assert!(solo.engine.clock.knows_time());
        let least = Timestamp(last.0 + 36_000_000 * 999 / 1000);
        assert!(solo.engine.log_time() >= least, "{}", solo.engine.log_time());
        solo.now.wall.0 += 36_000_000;
        solo.wait(TICK);
        assert_eq!(solo.engine.log_time(), solo.now.wall);
    }
}
