use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Timestamp;
use crate::engine::Now;

/// The clocks of this host, in the form that an engine takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Duration,
}

impl Clock {
    /// Creates a clock whose monotonic time starts now.
    pub(super) fn start() -> Self {
        Self { start: since_boot() }
    }

    pub(super) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let monotonic = since_boot().saturating_sub(self.start);
        Now { monotonic, wall: Timestamp(wall.as_millis() as u64) }
    }
}

/// Returns the time since the host was started. `Instant` does not count while the host is
/// suspended (rule N11e).
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The log time at some moment, for threads without access to the engine.
#[derive(Debug)]
pub(super) struct LastLogTime(Mutex<(Timestamp, Duration)>);

impl LastLogTime {
    pub(super) fn new(time: Timestamp) -> Self {
        Self(Mutex::new((time, since_boot())))
    }

    pub(super) fn set(&self, time: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (time, since_boot());
    }

    /// Returns the stored log time plus the time elapsed since it was stored.
    pub(super) fn by_now(&self) -> Timestamp {
        let (time, at) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = since_boot().saturating_sub(at);
        Timestamp(time.0.saturating_add(since.as_millis() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn log_time_advances_without_updates_from_the_engine() {
        let time = LastLogTime::new(Timestamp(1_000_000));
        thread::sleep(Duration::from_millis(20));
        assert!(time.by_now() >= Timestamp(1_000_019));
        time.set(Timestamp(9_000_000));
        assert!(time.by_now() >= Timestamp(9_000_000));
    }

    #[test]
    fn n11e_time_counts_from_the_start_of_the_host() {
        // Unlike `Instant`, this counts while the host is suspended.
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_secs_f64(seconds)
        };
        let rounding = Duration::from_millis(10);
        let (before, time, after) = (uptime(), since_boot(), uptime());
        assert!(before <= time + rounding && time <= after + rounding, "{before:?} {time:?}");
    }

    #[test]
    fn monotonic_time_counts_from_the_start_of_the_clock() {
        let clock = Clock::start();
        let first = clock.now().monotonic;
        thread::sleep(Duration::from_millis(20));
        assert!(clock.now().monotonic >= first + Duration::from_millis(19));
    }
}
