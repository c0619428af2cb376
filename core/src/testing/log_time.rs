use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::checker::{Checked, check};
use crate::Timestamp;
use crate::wire::message::{Open, Report};
use crate::wire::types::{Ballot, Voter, Voters};

/// Allowance for a sequencer that begins an epoch with log time ahead (N11b), and for rounding.
const SLACK_MS: u64 = 1005;
/// Allowance for rounding.
const ROUNDING_MS: u64 = 5;

/// A log time and the simulated time at which it was first seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    stamp: Timestamp,
    at: Duration,
}

impl Seen {
    pub(super) fn new(stamp: Timestamp, at: Duration) -> Self {
        Self { stamp, at }
    }

    /// Returns the highest log time at `now` that a replica can have counted since, with a clock
    /// that is 500 millionths too fast.
    fn most(self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.at).as_secs_f64() * 1000.0;
        self.stamp.0.saturating_add((elapsed * 1.0016) as u64)
    }

    /// Returns the lowest log time at `now` that a replica which saw the stamp has counted, with a
    /// clock that is 500 millionths too slow.
    pub(super) fn least(self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.at).as_secs_f64() * 1000.0;
        self.stamp.0.saturating_add((elapsed * 0.9984) as u64)
    }
}

/// A lower bound for the log time known to one incarnation, derived from the entries in its log
/// (rule N11a).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownTime {
    latest: Option<Seen>,
    /// True once its log has the notice of its own joining.
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

    /// Checks rule N11a: a stamp given by this incarnation is not behind the log time that it has
    /// counted.
    pub(super) fn check_stamp(&self, stamp: Timestamp, when: &Range<Duration>) -> Checked {
        let least = self.least(when.start);
        check(stamp.0 >= least, || {
            format!("N11a: log time lags: a stamp is {stamp}, but at least {least} ms have passed")
        })
    }

    /// Checks rule N11c: the time in a report is not behind the log time that this incarnation has
    /// counted.
    pub(super) fn check_report(&self, report: &Report, now: Duration) -> Checked {
        let (least, replica) = (self.least(now), report.incarnation.replica);
        check(report.time.0 >= least, || {
            format!("N11c: {replica} reports {}, but has counted at least {least} ms", report.time)
        })?;
        check(report.knows_time || !self.has_joined, || {
            format!("N11c: {replica} has joined, but reports that it does not know the time")
        })
    }
}

/// Bounds of log time over all replicas (rule N11).
#[derive(Clone, Debug, Default)]
pub(super) struct LogTime {
    /// Upper bound of log time, from the entries in all logs.
    frontier: Seen,
    /// The upper bound at the beginning of each epoch; `None` if no replica that knew the time took
    /// part in the choice of the epoch's time.
    bounds: BTreeMap<Ballot, Option<Seen>>,
    /// Log time that each voter reported to each ballot, and whether the voter knew it.
    reports: BTreeMap<Ballot, BTreeMap<Voter, (Timestamp, bool)>>,
}

impl LogTime {
    pub(super) fn reported(&mut self, report: &Report) {
        let voter = Voter { replica: report.incarnation.replica, store: report.store };
        // A report is repeated, possibly after the wall clock was set back.
        let reports = self.reports.entry(report.ballot).or_default();
        let (time, knows) = reports.entry(voter).or_insert((report.time, report.knows_time));
        *time = report.time.min(*time);
        *knows &= report.knows_time;
    }

    /// Checks rule N11c: of every majority of the voters, some voter has reported a time that is
    /// not after the beginning of the epoch; and the epoch does not begin later than any replica
    /// can have counted.
    pub(super) fn opened(
        &mut self,
        open: &Open,
        before: Option<&Voters>,
        now: Duration,
    ) -> Checked {
        let reports = self.reports.get(&open.ballot);
        let of = |voter: &Voter| reports?.get(voter).copied();
        let voters = before.map_or(&open.voters.now, |voters| &voters.now);
        // Among this many voters there is at least one of each majority.
        let meets_all = voters.len() - voters.len() / 2;
        let mut times: Vec<_> =
            voters.iter().map(|voter| of(voter).map_or(0, |(time, _)| time.0)).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let least = times.get(meets_all - 1).copied().unwrap_or_default();
        check(open.time.0 >= least, || {
            format!(
                "N11c: epoch {} begins at {}, at least {least} ms is required",
                open.ballot, open.time
            )
        })?;
        let knows = |voter: &&Voter| of(voter).is_some_and(|(_, knows)| knows);
        let is_known = voters.iter().filter(knows).count() >= meets_all;
        let most = self.frontier.most(now) + ROUNDING_MS;
        check(!is_known || open.time.0 <= most, || {
            format!(
                "N11c: epoch {} begins at {}, at most {most} ms is possible",
                open.ballot, open.time
            )
        })?;
        self.bounds.insert(open.ballot, is_known.then_some(self.frontier));
        Ok(())
    }

    /// Checks rule N11b for a stamp that the sequencer of `epoch` gave at some moment within
    /// `when`.
    pub(super) fn check_stamp(
        &self,
        epoch: Ballot,
        stamp: Timestamp,
        when: &Range<Duration>,
    ) -> Checked {
        let Some(Some(bound)) = self.bounds.get(&epoch) else { return Ok(()) };
        let most = bound.most(when.end).saturating_add(SLACK_MS);
        check(stamp.0 <= most, || {
            format!(
                "N11b: log time jumps to {stamp} in epoch {epoch}, at most {most} ms is possible"
            )
        })
    }

    /// Raises the upper bound by a stamp that is new to all logs, or that the sequencer itself
    /// gave.
    pub(super) fn came_up(&mut self, stamp: Timestamp, when: &Range<Duration>) {
        // Its sequencer may have given it long before it wrote it, and others may have seen it
        // before that.
        let seen = Seen::new(stamp, when.start);
        if seen.most(when.end) > self.frontier.most(when.end) {
            self.frontier = seen;
        }
    }
}
