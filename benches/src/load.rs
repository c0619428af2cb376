//! Callers that put load on a replica. Each has one command or read in progress.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plainsong::{Consistency, Pending, Replica};
use rustix::time::{ClockId, clock_gettime};

use crate::{Map, Put, percentile};

/// Warm-up time before the measurement.
const WARM: Duration = Duration::from_millis(200);

/// Requests of the callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Commands with this number of bytes.
    Propose(usize),
    /// Reads with this consistency.
    Read(Consistency),
}

/// A number of callers, each of which sends its next request as soon as it is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Their requests.
    pub work: Work,
    /// Number of callers.
    pub callers: usize,
    /// Duration of the measurement.
    pub time: Duration,
}

/// Results of a [`Load`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Answers per second.
    pub rate: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency, in microseconds.
    pub p99_us: f64,
}

enum Asked {
    Command(Pending<usize>),
    Read(Pending<usize, plainsong::ReadError>),
}

impl Asked {
    fn wait(self) -> bool {
        match self {
            Self::Command(pending) => pending.wait().is_ok(),
            Self::Read(pending) => pending.wait().is_ok(),
        }
    }
}

impl Load {
    /// Runs the load on a replica.
    ///
    /// One thread simulates all callers. Requests are answered in order, so waiting for the oldest
    /// answer is waiting for any answer.
    pub fn put_on(&self, replica: &Replica<Map>) -> Measured {
        let value = Bytes::from(vec![7; 1 << 20]);
        let mut under_way: VecDeque<(Instant, Asked)> = VecDeque::new();
        let mut latencies = Vec::new();
        let mut key = 0;
        let begin = Instant::now();
        let (mut from, mut counted) = (begin, 0_u64);
        let mut now = begin;
        while now - begin < WARM + self.time {
            while under_way.len() < self.callers {
                key += 1;
                let asked = match self.work {
                    Work::Propose(bytes) => {
                        Asked::Command(replica.propose(Put::of(key, &value, bytes)))
                    }
                    Work::Read(consistency) => {
                        Asked::Read(replica.read(consistency, move |map| map.get(key)))
                    }
                };
                under_way.push_back((now, asked));
            }
            let Some((since, asked)) = under_way.pop_front() else { break };
            let answered = asked.wait();
            now = Instant::now();
            if now - begin < WARM {
                from = now;
            } else if answered {
                counted += 1;
                latencies.push((now - since).as_secs_f64() * 1e6);
            }
        }
        let rate = counted as f64 / (now - from).as_secs_f64();
        under_way.into_iter().for_each(|(_, asked)| {
            asked.wait();
        });
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| percentile(&latencies, share).unwrap_or(f64::NAN);
        Measured { rate, p50_us: at(0.5), p99_us: at(0.99) }
    }
}

/// Returns the processor time used by this process.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = match self.work {
            Work::Propose(bytes) => bytes.to_string(),
            Work::Read(Consistency::Local) => "local".into(),
            Work::Read(Consistency::Linearizable) => "linearizable".into(),
            Work::Read(Consistency::ReadYourWrites) => "in-order".into(),
        };
        write!(f, "{work} {} {}", self.callers, self.time.as_secs_f64())
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("invalid load {text:?}");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [work, callers, seconds] = words[..] else { return Err(refused()) };
        let work = match work {
            "local" => Work::Read(Consistency::Local),
            "linearizable" => Work::Read(Consistency::Linearizable),
            "in-order" => Work::Read(Consistency::ReadYourWrites),
            bytes => Work::Propose(bytes.parse().map_err(|_| refused())?),
        };
        let callers = callers.parse().map_err(|_| refused())?;
        let seconds = seconds.parse().map_err(|_| refused())?;
        let time = Duration::try_from_secs_f64(seconds).map_err(|_| refused())?;
        Ok(Self { work, callers, time })
    }
}
