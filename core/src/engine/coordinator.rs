use std::collections::BTreeMap;
use std::time::Duration;

use super::{Canary, Config};
use crate::Timestamp;
use crate::message::{Open, Report};
use crate::types::{Ballot, Incarnation, Index, ReplicaId, Voter, Voters};

/// A ballot that this incarnation runs: `Begin` is out, reports come in, `Open` follows.
#[derive(Debug)]
pub(crate) struct Coordination {
    pub(crate) ballot: Ballot,
    /// When it began.
    pub(crate) since: Duration,
    /// When `Begin` or `Open` was last sent.
    pub(crate) sent_at: Duration,
    reports: BTreeMap<Voter, Report>,
    /// Whom this sequencer wants to vote from this epoch on.
    wanted: Option<Vec<Voter>>,
    /// Once decided, it is repeated unchanged: a ballot has one `Open`.
    pub(crate) open: Option<Open>,
}

impl Coordination {
    pub(crate) fn new(ballot: Ballot, wanted: Option<Vec<Voter>>, now: Duration) -> Self {
        Self { ballot, since: now, sent_at: now, reports: BTreeMap::new(), wanted, open: None }
    }

    /// Adds a report; each store counts once (rule B4), with what it said last.
    pub(crate) fn add(&mut self, report: Report) {
        let voter = Voter { replica: report.incarnation.replica, store: report.store };
        self.reports.insert(voter, report);
    }

    pub(crate) fn reported(&self) -> impl Iterator<Item = ReplicaId> {
        self.reports.keys().map(|voter| voter.replica)
    }

    /// Decides on the `Open` as soon as the reports allow it (rules B4, V1, V3).
    pub(crate) fn decide(
        &mut self,
        me: Incarnation,
        config: &Config,
        wall: Timestamp,
    ) -> Option<&Open> {
        if self.open.is_some() && !config.is_broken(Canary::TwoOpens) {
            return None;
        }
        let base = if config.is_broken(Canary::BaseByIndex) {
            self.reports.values().max_by_key(|report| report.last.index)?
        } else {
            self.reports.values().max_by_key(|report| report.last)?
        };
        // What it says of the base is what its sequencer holds of it: a voter where one is
        // there, and among those the coordinator itself.
        let fitness = |report: &&Report| {
            let replica = report.incarnation.replica;
            let votes = base.voters.contains(&Voter { replica, store: report.store });
            (votes, report.incarnation == me)
        };
        let at_base = self.reports.values().filter(|report| report.last == base.last);
        let base = at_base.max_by_key(fitness).unwrap_or(base);
        let voters = if base.last.index == Index(0) {
            self.first_voters(config)?
        } else {
            self.next_voters(base, base.incarnation == me, config)?
        };
        let time = self.time(wall);
        self.open = Some(Open {
            ballot: self.ballot,
            base: base.last,
            digest: base.digest,
            history: base.history.clone(),
            sequencer: base.incarnation,
            voters,
            time,
        });
        self.open.as_ref()
    }

    /// Rule N11c: the greatest time that is reported. Where all who report have started since the
    /// last stamp, only a wall clock has counted the time between.
    fn time(&self, wall: Timestamp) -> Timestamp {
        let reported = self.reports.values().map(|report| report.time).max().unwrap_or_default();
        let is_known = self.reports.values().any(|report| report.knows_time);
        if is_known { reported } else { reported.max(wall) }
    }

    /// Rule V3: a new group forms only when every listed replica reports, of this
    /// ballot, that its log is empty. Called when no report shows a log.
    fn first_voters(&self, config: &Config) -> Option<Voters> {
        let listed = &config.bootstrap;
        let mut voters: Vec<Voter> = Vec::with_capacity(listed.len());
        for replica in listed {
            let mut stores = self.reports.keys().filter(|voter| voter.replica == *replica);
            let store = stores.next();
            let enough = self.reports.len() * 2 > listed.len();
            if store.is_none() && enough && config.is_broken(Canary::BootstrapByMajority) {
                continue;
            }
            voters.push(*store?);
            // Two stores of one replica: one of them is about to be refused.
            if stores.next().is_some() {
                return None;
            }
        }
        voters.sort_unstable();
        (!voters.is_empty()).then(|| Voters {
            now: voters.clone(),
            previous: voters,
            since: Index(1),
        })
    }

    /// Rules B4 and V1: a majority of the voters in force in the base; of both sets while
    /// a change is not known committed. A pending change is repeated; after a committed one
    /// the next may follow, if the coordinator has the base, from whose order it knows what
    /// is wanted.
    fn next_voters(&self, base: &Report, at_base: bool, config: &Config) -> Option<Voters> {
        let mut commit = self.reports.values().map(|report| report.commit).max()?;
        if config.is_broken(Canary::ChangeIsSettled) {
            commit = base.last.index;
        }
        let Voters { now, previous, since } = &base.voters;
        let by_replica = config.is_broken(Canary::BlankCounts);
        let reported = |voter: &Voter| {
            self.reports.contains_key(voter)
                || by_replica && self.reports.keys().any(|known| known.replica == voter.replica)
        };
        let enough = base.voters.majority(commit, reported);
        if !enough && !config.is_broken(Canary::OpenByMinority) {
            return None;
        }
        let settled = base.voters.is_settled(commit);
        let wanted = self.wanted.as_ref().filter(|wanted| settled && at_base && *wanted != now);
        Some(match wanted {
            Some(wanted) => {
                Voters { now: wanted.clone(), previous: now.clone(), since: base.last.index.next() }
            }
            None => Voters {
                now: now.clone(),
                previous: if settled { now } else { previous }.clone(),
                since: *since,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Digest, Nonce, Position, StoreId};

    const WALL: Timestamp = Timestamp(77);

    fn ballot(counter: u64) -> Ballot {
        Ballot { counter, ..Ballot::default() }
    }

    fn incarnation(replica: u32) -> Incarnation {
        Incarnation { replica: ReplicaId(replica), nonce: Nonce(u64::from(replica)) }
    }

    fn voter(replica: u32) -> Voter {
        Voter { replica: ReplicaId(replica), store: StoreId(u64::from(replica)) }
    }

    fn voters(now: &[u32], previous: &[u32], since: u64) -> Voters {
        let set = |ids: &[u32]| ids.iter().map(|id| voter(*id)).collect();
        Voters { now: set(now), previous: set(previous), since: Index(since) }
    }

    fn report(replica: u32, epoch: u64, last: u64, commit: u64, voters: Voters) -> Report {
        Report {
            ballot: ballot(9),
            incarnation: incarnation(replica),
            store: voter(replica).store,
            last: Position { epoch: ballot(epoch), index: Index(last) },
            digest: Digest(u128::from(epoch * 100 + last)),
            time: Timestamp(last),
            knows_time: true,
            commit: Index(commit),
            first_kept: Index(1),
            history: vec![(ballot(epoch), Index(1))],
            voters,
        }
    }

    fn decide(me: u32, bootstrap: &[u32], reports: &[Report]) -> Option<Open> {
        let mut coordination = Coordination::new(ballot(9), None, Duration::ZERO);
        reports.iter().cloned().for_each(|report| coordination.add(report));
        coordination.decide(incarnation(me), &config(me, bootstrap), WALL).cloned()
    }

    fn config(me: u32, bootstrap: &[u32]) -> Config {
        let bootstrap = bootstrap.iter().copied().map(ReplicaId).collect();
        Config::new(incarnation(me), StoreId(u64::from(me)), bootstrap)
    }

    #[test]
    fn v3_a_new_group_needs_an_empty_report_of_every_listed_replica() {
        let empty =
            |replica| Report { knows_time: false, ..report(replica, 0, 0, 0, Voters::default()) };
        assert_eq!(decide(1, &[1, 2, 3], &[empty(1), empty(2)]), None);
        assert_eq!(decide(1, &[], &[empty(1), empty(2)]), None);
        let open = decide(1, &[1, 2, 3], &[empty(3), empty(1), empty(2), empty(4)]).unwrap();
        assert_eq!(open.voters, voters(&[1, 2, 3], &[1, 2, 3], 1));
        assert_eq!((open.sequencer, open.time), (incarnation(1), WALL));
        // Two stores of one listed replica are one too many.
        let other = Report { store: StoreId(22), ..empty(2) };
        assert_eq!(decide(1, &[1, 2, 3], &[empty(1), empty(2), other, empty(3)]), None);
    }

    #[test]
    fn v3_a_report_with_a_log_ends_the_bootstrap() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let empty =
            |replica| Report { store: StoreId(50), ..report(replica, 0, 0, 0, Voters::default()) };
        let log = report(3, 1, 4, 4, set);
        // The empty ones are other stores than the voters, so 3 alone is no majority.
        assert_eq!(decide(1, &[1, 2, 3], &[empty(1), empty(2), log]), None);
    }

    #[test]
    fn b4_the_base_is_the_greatest_by_epoch_and_then_by_index() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let reports = [report(1, 1, 9, 3, set.clone()), report(2, 2, 5, 3, set.clone())];
        let open = decide(1, &[], &reports).unwrap();
        assert_eq!(open.base, Position { epoch: ballot(2), index: Index(5) });
        assert_eq!(open.digest, Digest(205));
        assert_eq!(open.sequencer, incarnation(2), "the coordinator is not at the base");
        let reports = [report(1, 2, 5, 3, set.clone()), report(3, 2, 5, 3, set)];
        assert_eq!(decide(3, &[], &reports).unwrap().sequencer, incarnation(3));
    }

    #[test]
    fn n11c_an_epoch_begins_at_the_greatest_time_that_is_reported() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let says = |replica, time, knows_time| Report {
            time: Timestamp(time),
            knows_time,
            ..report(replica, 2, 9, 3, set.clone())
        };
        let opens_at = |reports: &[Report]| decide(1, &[], reports).map(|open| open.time);
        let (past, future) = (WALL.0 - 1, WALL.0 + 1);
        // Replica 1 has just started, and 2 has counted while nothing was ordered.
        assert_eq!(opens_at(&[says(1, 9, false), says(2, 30, true)]), Some(Timestamp(30)));
        assert_eq!(opens_at(&[says(1, 40, false), says(2, 30, true)]), Some(Timestamp(40)));
        // Nobody has.
        assert_eq!(opens_at(&[says(1, 9, false), says(2, past, false)]), Some(WALL));
        assert_eq!(opens_at(&[says(1, 9, false), says(2, future, false)]), Some(Timestamp(future)));
    }

    #[test]
    fn v1_a_change_not_known_committed_needs_both_majorities_and_is_repeated() {
        let pending = voters(&[1, 2, 3], &[3, 4, 5], 7);
        let reports = |commit| [1, 2, 3].map(|id| report(id, 2, 9, commit, pending.clone()));
        assert_eq!(decide(1, &[], &reports(6)), None, "no majority of 3 4 5");
        let mut more = reports(6).to_vec();
        more.push(report(5, 1, 3, 3, voters(&[3, 4, 5], &[3, 4, 5], 1)));
        assert_eq!(decide(1, &[], &more).unwrap().voters, pending);
        assert_eq!(decide(1, &[], &reports(7)).unwrap().voters, voters(&[1, 2, 3], &[1, 2, 3], 7));
    }

    #[test]
    fn b4_a_replica_with_another_store_does_not_count() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let wiped = Report { store: StoreId(99), ..report(2, 0, 0, 0, Voters::default()) };
        assert_eq!(decide(1, &[1, 2, 3], &[report(1, 1, 9, 3, set), wiped]), None);
    }

    #[test]
    fn a_ballot_has_one_open() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let mut coordination = Coordination::new(ballot(9), None, Duration::ZERO);
        coordination.add(report(1, 1, 9, 3, set.clone()));
        coordination.add(report(2, 1, 9, 3, set.clone()));
        assert!(coordination.decide(incarnation(1), &config(1, &[]), WALL).is_some());
        coordination.add(report(3, 1, 12, 3, set));
        assert!(coordination.decide(incarnation(1), &config(1, &[]), WALL).is_none());
        assert_eq!(coordination.open.unwrap().base.index, Index(9));
    }
}
