//! Noticing that the transport lists a majority and delivers nothing from it.

use std::time::Duration;

use crate::engine::Engine;
use crate::wire::types::Voter;

/// After so many election timeouts, in each of which every replica reports its progress at least
/// once, silence is no accident. A ring that is formed anew is silent for less.
const SILENT_TIMEOUTS: u32 = 5;

impl<T> Engine<T> {
    /// Returns for how long no majority of the voters has been heard, once that is long: although
    /// they are in the configuration, nothing is delivered here. The daemon hangs, or the network
    /// loses what the daemons need to go on.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.live()?;
        self.majority_silent_for()
    }

    /// Returns whether a majority of the voters is in the configuration but silent, while this
    /// replica's own messages are delivered. The transport may list dead processes for ever
    /// (rule N9).
    pub(crate) fn majority_seems_dead(&self) -> bool {
        let hears_itself =
            self.peers.heard_at(&self.voter()).is_some_and(|at| self.ago(at) < self.silence_min());
        hears_itself && self.majority_silent_for().is_some()
    }

    /// Returns for how long no majority of the voters has been heard, if one is listed and that is
    /// long.
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

    /// What a silent replica waits for. The time in it grows by doubling, so that it is not news all
    /// the time.
    pub(crate) fn waiting_for_silent_majority(&self) -> Option<String> {
        let silence = self.silence()?;
        let mut known = self.silence_min();
        while known * 2 <= silence {
            known *= 2;
        }
        Some(format!(
            "waiting to hear a majority of the voters: nothing has come from it for more than {} s, \
             although the transport lists it; see to this host's daemon and network",
            known.as_secs()
        ))
    }

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
    fn a_replica_that_hears_no_majority_says_for_how_long() {
        let mut solo = Solo::new();
        (0..1200).for_each(|_| solo.wait(TICK));
        let well = solo.engine.status();
        assert_eq!((well.silent, &well.waiting), (None, &None), "an idle group is not silent");

        let short = solo.deaf_for(Duration::from_secs(4));
        assert_eq!((short.silent, &short.waiting), (None, &None), "as while a ring is formed");
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
        assert_eq!((well.silent, well.waiting), (None, None), "it goes on");
    }

    #[test]
    fn learners_are_not_a_majority() {
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
