use std::time::Duration;

use super::{Parameters, Random};
use crate::Timestamp;
use crate::engine::Now;

/// The correct wall clock at the start of a run, in milliseconds.
const START_MS: u64 = 1_000_000_000;

/// The monotonic clock and the wall clock of one machine. Both are wrong.
#[derive(Debug)]
pub(super) struct Clock {
    /// Clock drift in millionths; positive if the clock runs too fast.
    drift: i64,
    /// Milliseconds by which the wall clock is ahead; negative if it is behind.
    error: i64,
}

impl Clock {
    pub(super) fn drawn(parameters: &Parameters, random: &mut Random) -> Self {
        let mut up_to = |most: i64| random.below(2 * most as u64 + 1) as i64 - most;
        let drift = up_to(i64::from(parameters.drift_max));
        Self { drift, error: up_to(parameters.wall_error_max.as_millis() as i64) }
    }

    /// Sets the wall clock to another random error.
    pub(super) fn jump(&mut self, random: &mut Random) {
        let most = random.pick(&[100, 10_000, 100_000_000]);
        self.error = random.below(2 * most + 1) as i64 - most as i64;
    }

    pub(super) fn now(&self, truth: Duration) -> Now {
        let micros = truth.as_micros() as i64;
        let monotonic = Duration::from_micros((micros + micros * self.drift / 1_000_000) as u64);
        let wall = START_MS.saturating_add(monotonic.as_millis() as u64);
        Now { monotonic, wall: Timestamp(wall.saturating_add_signed(self.error)) }
    }
}
