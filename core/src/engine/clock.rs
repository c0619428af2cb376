use std::time::Duration;

use super::Now;
use crate::Timestamp;

/// How far ahead of the last stamp seen a sequencer may begin, beside the time gone by.
const SLACK: Duration = Duration::from_secs(1);

/// The log's time (rule N11): the sequencer's wall clock, held to its monotonic one, so
/// that a clock that jumps moves log time by about a second at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogClock {
    /// The last stamp seen, and when.
    seen: Option<(Timestamp, Duration)>,
    /// The same as it was on taking over.
    anchor: Option<(Timestamp, Duration)>,
}

impl LogClock {
    /// A stamp was put into the log.
    pub(crate) fn seen(&mut self, stamp: Timestamp, at: Duration) {
        self.seen = Some((stamp, at));
    }

    /// This replica begins to sequence. One that has seen no stamp since its start takes
    /// its wall clock. The stamp of the new epoch's first entry, which repeats an older
    /// one, must not have been told to [`seen`](Self::seen) yet.
    pub(crate) fn take_over(&mut self, now: Now) {
        self.anchor = Some(self.seen.unwrap_or((now.wall, now.monotonic)));
    }

    /// What a sequencer stamps by now at least, if it goes on, and its clock runs as it did.
    pub(crate) fn expected(&self, now: Now) -> Timestamp {
        let by_now = self.seen.map_or(Timestamp(0), |(stamp, at)| {
            let gone = now.monotonic.saturating_sub(at).as_millis() as u64;
            Timestamp(stamp.0.saturating_add(gone - gone / 1000))
        });
        // Where the wall clock here is behind, this replica could stamp no more either.
        now.wall.min(by_now)
    }

    /// The stamp of the next entry: never before `last`, never further ahead than the
    /// monotonic clock allows.
    pub(crate) fn stamp(&self, now: Now, last: Timestamp) -> Timestamp {
        let limit = self.anchor.map_or(now.wall, |(stamp, at)| {
            let gone = now.monotonic.saturating_sub(at);
            let ahead = gone + gone / 1000 + SLACK;
            Timestamp(stamp.0.saturating_add(ahead.as_millis() as u64))
        });
        now.wall.min(limit).max(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, wall: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), wall: Timestamp(wall * 1000) }
    }

    #[test]
    fn follows_a_clock_that_is_right() {
        let mut clock = LogClock::default();
        clock.take_over(at(5, 1000));
        assert_eq!(clock.stamp(at(6, 1001), Timestamp(0)), Timestamp(1_001_000));
        assert_eq!(clock.stamp(at(3605, 4600), Timestamp(0)), Timestamp(4_600_000));
    }

    #[test]
    fn a_clock_that_jumps_ahead_moves_it_by_a_second() {
        let mut clock = LogClock::default();
        clock.take_over(at(5, 1000));
        let stamp = clock.stamp(at(10, 9_000_000), Timestamp(0));
        assert_eq!(stamp, Timestamp(1_000_000 + 5_000 + 5 + 1_000));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_turn_it_back() {
        let mut clock = LogClock::default();
        clock.take_over(at(5, 1000));
        assert_eq!(clock.stamp(at(6, 10), Timestamp(1_000_500)), Timestamp(1_000_500));
    }

    #[test]
    fn a_successor_with_a_clock_ahead_is_held_to_what_it_saw() {
        let mut clock = LogClock::default();
        clock.seen(Timestamp(1_000_000), Duration::from_secs(10));
        clock.take_over(at(20, 50_000));
        let stamp = clock.stamp(at(30, 50_010), Timestamp(1_000_000));
        assert_eq!(stamp, Timestamp(1_000_000 + 20_000 + 20 + 1_000));
    }
}
