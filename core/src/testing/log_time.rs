use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::checker::{Checked, check};
use crate::Timestamp;
use crate::wire::message::{Open, Report};
use crate::wire::types::{Ballot, Voter, Voters};

/// N11b: how far ahead a sequencer may begin, and for rounding.
const SLACK_MS: u64 = 1005;
/// For rounding, where nobody may be ahead or behind.
const ROUNDING_MS: u64 = 5;

/// A stamp, and when it came up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    stamp: Timestamp,
    at: Duration,
}

impl Seen {
    pub(super) fn new(stamp: Timestamp, at: Duration) -> Self {
        Self { stamp, at }
    }

    /// The greatest time at `now` by what anybody may have counted since, with a clock that is too fast
    /// by 500 millionths.
    fn most(self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.at).as_secs_f64() * 1000.0;
        self.stamp.0.saturating_add((elapsed * 1.0016) as u64)
    }

    /// The least time at `now` by what anybody has counted who saw it, with a clock that is
    /// too slow by as much.
    pub(super) fn least(self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.at).as_secs_f64() * 1000.0;
        self.stamp.0.saturating_add((elapsed * 0.9984) as u64)
    }
}

/// What one run of a replica must know of the log's time, by what is in its log (rule N11a).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownTime {
    latest: Option<Seen>,
    /// It has the notice of its own joining.
    pub(super) has_joined: bool,
}

impl KnownTime {
    pub(super) fn saw(&mut self, stamp: Timestamp, now: Duration) {
        if self.latest.is_none_or(|seen| seen.least(now) <= stamp.0) {
            self.latest = Some(Seen::new(stamp, now));
        }
    }

    pub(super) fn least(&self, now: Duration) -> u64 {
        self.latest.map_or(0, |seen| seen.least(now)).saturating_sub(ROUNDING_MS)
    }

    /// Rule N11a: what is stamped by this run is not behind what it has counted.
    pub(super) fn check_stamp(&self, stamp: Timestamp, when: &Range<Duration>) -> Checked {
        let least = self.least(when.start);
        check(stamp.0 >= least, || {
            format!("N11a: log time lags: an entry is stamped {stamp}, and {least} ms have passed")
        })
    }

    /// Rule N11c: a report is not behind either.
    pub(super) fn check_report(&self, report: &Report, now: Duration) -> Checked {
        let (least, replica) = (self.least(now), report.incarnation.replica);
        check(report.time.0 >= least, || {
            format!("N11c: {replica} reports {}, and has counted {least} ms", report.time)
        })?;
        check(report.knows_time || !self.has_joined, || {
            format!("N11c: {replica} has joined, and reports not to know the time")
        })
    }
}

/// The log's time, as all replicas together have it (rule N11).
#[derive(Clone, Debug, Default)]
pub(super) struct LogTime {
    /// The greatest time that a stamp could show now, by what replicas have in their logs.
    frontier: Seen,
    /// The same at the beginning of each epoch in whose time anybody had a say who knew it.
    bounds: BTreeMap<Ballot, Option<Seen>>,
    /// What was reported to each ballot: the time, and whether it was known.
    reports: BTreeMap<Ballot, BTreeMap<Voter, (Timestamp, bool)>>,
}

impl LogTime {
    pub(super) fn reported(&mut self, report: &Report) {
        let voter = Voter { replica: report.incarnation.replica, store: report.store };
        // It may be reported again, and the wall clock have been set back meanwhile.
        let reports = self.reports.entry(report.ballot).or_default();
        let (time, knows) = reports.entry(voter).or_insert((report.time, report.knows_time));
        *time = report.time.min(*time);
        *knows &= report.knows_time;
    }

    /// Rule N11c: an epoch begins no earlier than at the time that some voter of each majority
    /// has reported, nor later than anybody can have counted.
    pub(super) fn opened(
        &mut self,
        open: &Open,
        before: Option<&Voters>,
        now: Duration,
    ) -> Checked {
        let reports = self.reports.get(&open.ballot);
        let of = |voter: &Voter| reports?.get(voter).copied();
        let voters = before.map_or(&open.voters.now, |voters| &voters.now);
        // Of so many voters, one is in each majority.
        let meets_all = voters.len() - voters.len() / 2;
        let mut times: Vec<_> =
            voters.iter().map(|voter| of(voter).map_or(0, |(time, _)| time.0)).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let least = times.get(meets_all - 1).copied().unwrap_or_default();
        check(open.time.0 >= least, || {
            format!("N11c: epoch {} begins at {}, before {least} ms", open.ballot, open.time)
        })?;
        let knows = |voter: &&Voter| of(voter).is_some_and(|(_, knows)| knows);
        let is_known = voters.iter().filter(knows).count() >= meets_all;
        let most = self.frontier.most(now) + ROUNDING_MS;
        check(!is_known || open.time.0 <= most, || {
            format!("N11c: epoch {} begins at {}, after {most} ms", open.ballot, open.time)
        })?;
        self.bounds.insert(open.ballot, is_known.then_some(self.frontier));
        Ok(())
    }

    /// Rule N11b: a stamp of an epoch's sequencer, given at some moment.
    pub(super) fn check_stamp(
        &self,
        epoch: Ballot,
        stamp: Timestamp,
        when: &Range<Duration>,
    ) -> Checked {
        let Some(Some(bound)) = self.bounds.get(&epoch) else { return Ok(()) };
        let most = bound.most(when.end).saturating_add(SLACK_MS);
        check(stamp.0 <= most, || {
            format!("N11b: log time jumps to {stamp} in epoch {epoch}, {most} ms at most")
        })
    }

    /// Somebody has a stamp in its log that is new, or is of the sequencer itself.
    pub(super) fn came_up(&mut self, stamp: Timestamp, when: &Range<Duration>) {
        // Who stamped it may have seen it long before it wrote it, and others before it.
        let seen = Seen::new(stamp, when.start);
        if seen.most(when.end) > self.frontier.most(when.end) {
            self.frontier = seen;
        }
    }
}
