//! Ordered wake-ups (rule N11).

use super::{Canary, Engine};
use crate::entry::Content;

impl<T> Engine<T> {
    /// Orders a `Time` when nothing else is to be ordered and log time can reach the moment
    /// at which the state machine wants to be woken. Only a tick comes here, and only once
    /// all is applied: whatever a state machine asks for, it gets no more than one a tick.
    pub(crate) fn order_time(&mut self) {
        let idle = self.is_sequencing() && !self.has_work();
        let applied = self.applied == self.log.last().index;
        let reached =
            if self.is_broken(Canary::WakeByWallClock) { self.now.wall } else { self.stamp() };
        let is_due = self.wake_at.is_some_and(|at| at <= reached);
        if idle && applied && is_due && !self.is_broken(Canary::WakeLostInIdleGroup) {
            self.order(Content::Time);
        }
    }

    /// Whether another should have ordered a `Time` by now.
    pub(crate) fn is_wake_overdue(&self) -> bool {
        let expected = self.clock.expected(self.now);
        let applied = self.applied == self.log.last().index;
        applied && !self.is_sequencing() && self.wake_at.is_some_and(|at| at <= expected)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::solo::Solo;
    use super::*;
    use crate::Timestamp;

    const TICK: Duration = Duration::from_millis(50);

    fn asleep_for(ms: u64) -> Solo {
        let mut solo = Solo::new();
        solo.news();
        solo.sleep_until(Some(Timestamp(solo.now.wall.0 + ms)));
        solo
    }

    /// How many times are ordered in so many ticks, and nothing else.
    fn times(solo: &mut Solo, ticks: usize) -> usize {
        (0..ticks).for_each(|_| solo.wait(TICK));
        let news = solo.news();
        assert!(news.iter().all(|content| *content == Content::Time), "{news:?}");
        news.len()
    }

    #[test]
    fn a_time_is_ordered_once_when_it_is_due() {
        let mut solo = asleep_for(120);
        assert_eq!(times(&mut solo, 2), 0);
        solo.wake_at = None;
        assert_eq!(times(&mut solo, 100), 1);
    }

    #[test]
    fn a_state_machine_that_always_wants_to_be_woken_is_so_once_a_tick() {
        let mut solo = asleep_for(0);
        assert_eq!(times(&mut solo, 100), 100);
    }

    #[test]
    fn nothing_is_due_early_when_a_clock_jumps() {
        let mut solo = asleep_for(3_600_000);
        solo.now.wall.0 += 10_000_000;
        assert_eq!(times(&mut solo, 100), 0);
        solo.now.wall.0 -= 20_000_000;
        assert_eq!(times(&mut solo, 100), 0);
        // It was told of the right time in the end.
        solo.now.wall.0 += 10_000_000;
        solo.now.monotonic += Duration::from_hours(1);
        assert_eq!(times(&mut solo, 1), 0, "the wall clock has not reached it");
        solo.now.wall.0 += 3_600_000;
        assert_eq!(times(&mut solo, 1), 1);
    }
}
