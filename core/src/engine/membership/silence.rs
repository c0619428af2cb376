//! Detection of a transport that lists a majority and delivers nothing from it.

use std::time::Duration;

use crate::engine::Engine;
use crate::wire::types::Voter;

/// Number of election timeouts after which silence is reported. Every replica reports its progress
/// at least once in each, and forming a ring takes less time than this.
const SILENT_TIMEOUTS: u32 = 5;

impl<T> Engine<T> {
    /// Returns the time for which no majority of the voters has been heard, once it is long enough
    /// to report. The voters are in the configuration, but nothing is delivered here: the daemon
    /// hangs, or the network loses the daemons' packets. `None` if no epoch is open here.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.live()?;
        self.majority_silent_for()
    }

    /// Returns true if a majority of the voters is in the configuration but silent, while this
    /// replica's own messages are delivered. The transport may list dead processes forever (rule
    /// N9).
    pub(crate) fn majority_seems_dead(&self) -> bool {
        let hears_itself =
            self.peers.heard_at(&self.voter()).is_some_and(|at| self.ago(at) < self.silence_min());
        hears_itself && self.majority_silent_for().is_some()
    }

    /// Returns the time for which no majority of the voters has been heard, if a majority is listed
    /// and the time is long enough to report.
    fn majority_silent_for(&self) -> Option<Duration> {
        if self.log.is_empty() || !self.sees_majority() {
            return None;
        }
        let heard = |voter: &Voter| self.peers.heard_at(voter);
        let voters = self.log.voters();
        let moments = voters.now.iter().chain(&voters.previous).filter_map(heard);
        let last = moments
            .filter(|moment| {
                voters.majority(self.commit.index, |voter| {
                    heard(voter).is_some_and(|at| at >= *moment)
                })
            })
            .max()?;
        Some(self.ago(last)).filter(|silence| *silence >= self.silence_min())
    }

    /// Describes the silence for the status. The time in the text doubles each time, so that it
    /// does not change at every tick.
    pub(crate) fn waiting_for_silent_majority(&self) -> Option<String> {
        let silence = self.silence()?;
        let mut known = self.silence_min();
        while known * 2 <= silence {
            known *= 2;
        }
        Some(format!(
            "waiting to hear from a majority of the voters: nothing was received from it for more \
             than {} s, although the transport lists it; check this host's daemon and network",
            known.as_secs()
        ))
    }

    /// Minimum time of silence to be reported.
    fn silence_min(&self) -> Duration {
        self.config.election_timeout * SILENT_TIMEOUTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TICK;
    use crate::engine::solo::{Solo, member, run};
    use crate::event::{Event, changes};

    #[test]
    fn a_replica_that_hears_no_majority_reports_for_how_long() {
        let mut solo = Solo::new();
        (0..1200).for_each(|_| solo.wait(TICK));
        let well = solo.engine.status();
        assert_eq!((well.silent, &well.waiting), (None, &None), "an idle group is not silent");

        let short = solo.deaf_for(Duration::from_secs(4));
        assert_eq!((short.silent, &short.waiting), (None, &None), "forming a ring takes as long");
        let long = solo.deaf_for(Duration::from_secs(11));
        let silent = long.silent.unwrap();
        assert!(
            silent >= Duration::from_secs(15) && silent < Duration::from_secs(17),
            "{silent:?}"
        );
        assert!(long.waiting.as_ref().unwrap().contains("for more than 10 s"), "{long:?}");
        assert_eq!(changes(&short, &long), [Event::Waiting(long.waiting)]);

        (0..20).for_each(|_| solo.wait(TICK));
        let well = solo.engine.status();
        assert_eq!((well.silent, well.waiting), (None, None), "the replica hears the group again");
    }

    #[test]
    fn learners_do_not_count_towards_a_majority_that_is_heard() {
        let mut solo = Solo::new();
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        for _ in 0..15 {
            solo.deaf_for(Duration::from_secs(1));
            let from = run(2, 2);
            solo.engine.peers.identify(
                member(2, 2),
                from,
                crate::wire::types::StoreId(2),
                solo.now.monotonic,
                Duration::MAX,
            );
        }
        assert!(solo.engine.status().silent.is_some());
    }
}
