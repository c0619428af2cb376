use std::time::Duration;

use crate::Timestamp;
use crate::engine::Now;

/// Maximum number of milliseconds by which a sequencer may begin ahead of elapsed time.
const SLACK_MS: u64 = 1000;
/// Number of milliseconds between the wall clock and log time above which operators are warned.
const WORTH_A_WARNING_MS: u64 = 5000;
/// Minimum time between two such warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Rates of log time, in millionths of elapsed time on this host's monotonic clock: the lowest, the
/// highest, and the lowest as it appears by the clock of any other host.
const SLOWEST: u64 = 999_000;
const FASTEST: u64 = 1_001_000;
const SLOWEST_ELSEWHERE: u64 = 998_000;

/// A stamp, and the time at which this run saw it: log time had reached the stamp by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    stamp: Timestamp,
    at: Duration,
}

impl Seen {
    /// Returns log time at `now`, if it has advanced at `rate` since the stamp was seen.
    fn after(self, now: Duration, rate: u64) -> Timestamp {
        let micros = now.saturating_sub(self.at).as_micros() as u64;
        let millis = (u128::from(micros) * u128::from(rate) / 1_000_000_000) as u64;
        Timestamp(self.stamp.0.saturating_add(millis))
    }

    /// Replaces `known` if this stamp gives a greater lower bound. Bounds are rounded down to
    /// milliseconds. A stamp that does not exceed the bound must not replace it, because with
    /// thousands of stamps a second the rounding would stop log time.
    fn raise(self, known: &mut Option<Self>) {
        if known.is_none_or(|known| self.stamp > known.after(self.at, SLOWEST)) {
            *known = Some(self);
        }
    }
}

/// The log's time (rule N11): the sequencer's wall clock, bounded on both sides by elapsed time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogClock {
    /// The stamp that gives the greatest lower bound, of all that this run has seen.
    latest: Option<Seen>,
    /// The same, of the stamps of the open epoch.
    of_epoch: Option<Seen>,
    /// Value of `latest` when this replica began to sequence the open epoch.
    anchor: Option<Seen>,
    /// Set once this run has seen a stamp that was given after its start (rule N11c).
    knows_time: bool,
    warned_at: Option<Duration>,
    /// Time at which the state machine asks to be woken.
    pub(crate) wake_at: Option<Timestamp>,
}

impl LogClock {
    /// Records a stamp in the log, whatever its source.
    pub(crate) fn saw(&mut self, stamp: Timestamp, at: Duration) {
        Seen { stamp, at }.raise(&mut self.latest);
    }

    /// Records a stamp that the open epoch's sequencer has given or repeated.
    pub(crate) fn saw_in_epoch(&mut self, stamp: Timestamp, at: Duration) {
        Seen { stamp, at }.raise(&mut self.of_epoch);
    }

    /// Forgets the stamps of an epoch that is over.
    pub(crate) fn forget_epoch(&mut self) {
        (self.of_epoch, self.anchor) = (None, None);
    }

    /// Records that the log holds an entry stamped during this run.
    pub(crate) fn know_time(&mut self) {
        self.knows_time = true;
    }

    /// Returns true if the log is known to hold an entry that was stamped during this run.
    pub(crate) fn knows_time(&self) -> bool {
        self.knows_time
    }

    /// Begins to sequence an epoch whose first stamp was seen.
    pub(crate) fn take_over(&mut self) {
        self.anchor = self.latest;
        self.knows_time = true;
    }

    /// Returns the lowest stamp that this replica may give (rule N11a).
    fn low(&self, now: Now) -> Timestamp {
        self.latest.map_or(Timestamp(0), |seen| seen.after(now.monotonic, SLOWEST))
    }

    /// Returns the lowest stamp that another live sequencer would give now (rule N11d).
    pub(crate) fn expected(&self, now: Now) -> Timestamp {
        self.of_epoch.map_or(Timestamp(0), |seen| seen.after(now.monotonic, SLOWEST_ELSEWHERE))
    }

    /// Returns the stamp for the next entry (rules N11a and N11b).
    pub(crate) fn stamp(&self, now: Now) -> Timestamp {
        let most = self.anchor.map_or(now.wall, |seen| {
            Timestamp(seen.after(now.monotonic, FASTEST).0.saturating_add(SLACK_MS))
        });
        now.wall.min(most).max(self.low(now))
    }

    /// Returns this replica's estimate of the log's time: the wall clock, within the bounds that
    /// the stamps seen allow (rule N11c).
    pub(crate) fn estimate(&self, now: Now) -> Timestamp {
        match self.latest {
            Some(seen) if self.knows_time => {
                now.wall.min(seen.after(now.monotonic, FASTEST)).max(self.low(now))
            }
            _ => self.low(now),
        }
    }

    /// Returns the number of milliseconds by which the wall clock is ahead of log time (negative if
    /// behind), if a warning is due.
    pub(crate) fn warning_due(&mut self, now: Now, log_time: Timestamp) -> Option<i64> {
        let recent = |at: Duration| now.monotonic.saturating_sub(at) < WARNING_INTERVAL;
        if now.wall.0.abs_diff(log_time.0) <= WORTH_A_WARNING_MS
            || self.warned_at.is_some_and(recent)
        {
            return None;
        }
        self.warned_at = Some(now.monotonic);
        Some(now.wall.0.wrapping_sub(log_time.0) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the time of a host whose monotonic and wall clocks show these milliseconds.
    fn at(monotonic_ms: u64, wall_ms: u64) -> Now {
        Now { monotonic: Duration::from_millis(monotonic_ms), wall: Timestamp(wall_ms) }
    }

    const HOUR: u64 = 3_600_000;

    /// Returns the clock of a sequencer that took over when it saw the stamp `now.wall`.
    fn sequencing(now: Now) -> LogClock {
        let mut clock = LogClock::default();
        clock.saw(now.wall, now.monotonic);
        clock.take_over();
        clock
    }

    #[test]
    fn n11_log_time_follows_a_correct_wall_clock() {
        let clock = sequencing(at(5000, 1_000_000));
        assert_eq!(clock.stamp(at(6000, 1_001_000)), Timestamp(1_001_000));
        assert_eq!(clock.stamp(at(5000 + HOUR, 1_000_000 + HOUR)), Timestamp(1_000_000 + HOUR));
    }

    #[test]
    fn n11a_a_wall_clock_stepped_back_slows_log_time_by_a_thousandth() {
        let mut clock = sequencing(at(5000, 1_000_000));
        for later in [1, 1000, 60_000, HOUR] {
            let stamp = clock.stamp(at(5000 + later, 10));
            assert_eq!(stamp, Timestamp(1_000_000 + later * 999 / 1000));
            clock.saw(stamp, at(5000 + later, 10).monotonic);
        }
    }

    #[test]
    fn n11a_frequent_stamps_do_not_stop_log_time() {
        let mut clock = sequencing(at(0, 1_000_000));
        let mut now = at(0, 10);
        for _ in 0..100_000 {
            now.monotonic += Duration::from_micros(37);
            clock.saw(clock.stamp(now), now.monotonic);
        }
        assert_eq!(clock.stamp(now), Timestamp(1_000_000 + 3_700 * 999 / 1000));
    }

    #[test]
    fn n11a_repeated_and_late_stamps_change_nothing() {
        let mut clock = LogClock::default();
        clock.saw(Timestamp(1_000_000), Duration::ZERO);
        for stamp in [1_000_000, 900_000, 1_000_000 + HOUR / 2] {
            clock.saw(Timestamp(stamp), Duration::from_millis(HOUR));
        }
        clock.take_over();
        let stamp = clock.stamp(at(2 * HOUR, 10));
        assert_eq!(stamp, Timestamp(1_000_000 + 2 * HOUR * 999 / 1000));
        assert_eq!(
            clock.stamp(at(2 * HOUR, 1_000_000 + 2 * HOUR)),
            Timestamp(1_000_000 + 2 * HOUR)
        );
    }

    #[test]
    fn n11b_a_wall_clock_that_jumps_ahead_adds_at_most_a_second_in_an_epoch() {
        let mut clock = sequencing(at(5000, 1_000_000));
        for later in [0, 5000, HOUR] {
            let now = at(5000 + later, 9_000_000_000);
            let stamp = clock.stamp(now);
            assert_eq!(stamp, Timestamp(1_001_000 + later * 1001 / 1000));
            clock.saw(stamp, now.monotonic);
        }
    }

    #[test]
    fn n11b_a_successor_with_a_fast_clock_is_bounded_by_the_stamps_it_saw() {
        let mut clock = LogClock::default();
        clock.saw(Timestamp(1_000_000), Duration::from_secs(10));
        clock.take_over();
        let stamp = clock.stamp(at(30_000, 50_010_000));
        assert_eq!(stamp, Timestamp(1_000_000 + 20_000 + 20 + 1000));
    }

    #[test]
    fn n11c_the_estimate_is_the_wall_clock_within_bounds() {
        let mut clock = LogClock::default();
        clock.saw(Timestamp(1_000_000), Duration::ZERO);
        let [least, most] = [999, 1001].map(|rate| Timestamp(1_000_000 + HOUR * rate / 1000));
        assert_eq!(clock.estimate(at(HOUR, 1_000_000 + HOUR)), least, "it does not know the time");
        clock.know_time();
        let estimates = [0, 1_000_000 + HOUR, 10 * HOUR].map(|wall| clock.estimate(at(HOUR, wall)));
        assert_eq!(estimates, [least, Timestamp(1_000_000 + HOUR), most]);
    }

    #[test]
    fn n11d_less_is_expected_of_other_sequencers_than_they_stamp() {
        let mut clock = LogClock::default();
        clock.saw(Timestamp(HOUR), Duration::ZERO);
        assert_eq!(
            clock.expected(at(HOUR, 0)),
            Timestamp(0),
            "no stamp of the open epoch was seen"
        );
        clock.saw_in_epoch(Timestamp(HOUR), Duration::ZERO);
        assert_eq!(clock.expected(at(HOUR, 0)), Timestamp(HOUR + HOUR * 998 / 1000));
        clock.forget_epoch();
        assert_eq!(clock.expected(at(HOUR, 0)), Timestamp(0));
    }

    #[test]
    fn a_wrong_clock_is_warned_of_once_a_minute() {
        let mut clock = LogClock::default();
        assert_eq!(clock.warning_due(at(0, 105_000), Timestamp(100_000)), None);
        assert_eq!(clock.warning_due(at(0, 105_001), Timestamp(100_000)), Some(5001));
        assert_eq!(clock.warning_due(at(59_999, 10_000), Timestamp(100_000)), None);
        assert_eq!(clock.warning_due(at(60_000, 10_000), Timestamp(100_000)), Some(-90_000));
    }
}
