use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Timestamp;
use crate::engine::Config;
use crate::engine::membership::cluster::cluster_of;
use crate::wire::message::{Open, Report};
use crate::wire::types::{Ballot, ClusterId, Incarnation, Index, ReplicaId, Voter, Voters};

/// Reports of one ballot by store.
type Reports<'a> = BTreeMap<Voter, &'a Report>;

/// A ballot that this incarnation runs: `Begin` is out, reports come in, `Open` follows.
#[derive(Debug)]
pub(crate) struct Coordination {
    pub(crate) ballot: Ballot,
    /// When it began.
    pub(crate) since: Duration,
    /// When `Begin` or `Open` was last sent.
    pub(crate) sent_at: Duration,
    /// By store, what it has reported, and as a replica of which cluster.
    reports: BTreeMap<Voter, (Option<ClusterId>, Report)>,
    /// Whom this sequencer wants to vote from this epoch on.
    wanted: Option<Vec<Voter>>,
    /// Once decided, it is repeated unchanged: a ballot has one `Open`.
    pub(crate) open: Option<Open>,
    /// The cluster that the `Open` is for.
    cluster: Option<ClusterId>,
}

impl Coordination {
    pub(crate) fn new(ballot: Ballot, wanted: Option<Vec<Voter>>, now: Duration) -> Self {
        let reports = BTreeMap::new();
        Self { ballot, since: now, sent_at: now, reports, wanted, open: None, cluster: None }
    }

    /// Adds a report; each store counts once (rule B4), with what it said last.
    pub(crate) fn add(&mut self, cluster: Option<ClusterId>, report: Report) {
        let voter = Voter { replica: report.incarnation.replica, store: report.store };
        self.reports.insert(voter, (cluster, report));
    }

    /// The cluster that the `Open` is for, once that is decided.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    pub(crate) fn reported(&self) -> impl Iterator<Item = ReplicaId> {
        self.reports.keys().map(|voter| voter.replica)
    }

    /// Decides on the `Open` as soon as the reports allow it (rules B4, V1, V3). A `patient`
    /// coordinator waits for reports of voters where none of them could sequence yet (B7).
    pub(crate) fn decide(
        &mut self,
        me: Incarnation,
        config: &Config,
        wall: Timestamp,
        patient: bool,
    ) -> Option<&Open> {
        if self.open.is_some() {
            return None;
        }
        let (cluster, open) = self.first_decision(me, config, wall, patient)?;
        let begins = open.base.index == Index(0);
        self.cluster = if begins { Some(cluster_of(&open)) } else { cluster };
        self.open = Some(open);
        self.open.as_ref()
    }

    /// The `Open` for the first cluster that allows one, and that cluster. A coordinator without
    /// a log may hear members of several (rule V4), which are not to be mixed.
    fn first_decision(
        &self,
        me: Incarnation,
        config: &Config,
        wall: Timestamp,
        patient: bool,
    ) -> Option<(Option<ClusterId>, Open)> {
        let with_log = self.reports.values().filter(|(_, report)| report.last.index > Index(0));
        let mut clusters: BTreeSet<_> =
            with_log.map(|(cluster, _)| *cluster).filter(Option::is_some).collect();
        if clusters.is_empty() {
            clusters.insert(None);
        }
        clusters.into_iter().find_map(|cluster| {
            // A replica may not know yet of which cluster its log is.
            let reports = self.reports.iter().filter(|(_, (of, _))| *of == cluster || of.is_none());
            let reports = reports.map(|(voter, (_, report))| (*voter, report)).collect();
            Some((cluster, self.open_from(&reports, me, config, wall, patient)?))
        })
    }

    fn open_from(
        &self,
        reports: &Reports<'_>,
        me: Incarnation,
        config: &Config,
        wall: Timestamp,
        patient: bool,
    ) -> Option<Open> {
        let base = reports.values().max_by_key(|report| report.last)?;
        let at_base = || reports.iter().filter(|(_, report)| report.last == base.last);
        let voters = if base.last.index == Index(0) {
            first_voters(reports, config)?
        } else {
            let holds_base = at_base().any(|(_, report)| report.incarnation == me);
            self.next_voters(reports, base, holds_base)?
        };
        // Rule B7: a voter sequences where one is at the base, and among those the coordinator.
        // What `Open` says of the base is what the sequencer holds of it.
        let votes = |voter: &Voter| voters.now.contains(voter);
        let fitness =
            |(voter, report): &(&Voter, &&Report)| (votes(voter), report.incarnation == me);
        let (voter, base) = at_base().max_by_key(fitness)?;
        let all_reported = voters.now.iter().all(|voter| reports.contains_key(voter));
        if patient && !votes(voter) && !all_reported {
            return None;
        }
        Some(Open {
            ballot: self.ballot,
            base: base.last,
            digest: base.digest,
            history: base.history.clone(),
            sequencer: base.incarnation,
            time: time(reports, wall),
            voters,
        })
    }

    /// Rules B4 and V1: a majority of the voters in force in the base; of both sets while
    /// a change is not known committed. A pending change is repeated; after a committed one
    /// the next may follow, if the coordinator holds the base, from whose order it knows what
    /// is wanted.
    fn next_voters(
        &self,
        reports: &Reports<'_>,
        base: &Report,
        holds_base: bool,
    ) -> Option<Voters> {
        let commit = reports.values().map(|report| report.commit).max()?;
        let Voters { now, previous, since } = &base.voters;
        if !base.voters.majority(commit, |voter| reports.contains_key(voter)) {
            return None;
        }
        let settled = base.voters.is_settled(commit);
        let wanted = self.wanted.as_ref().filter(|wanted| settled && holds_base && *wanted != now);
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

/// Rule V3: a new group forms only when every listed replica reports, of this
/// ballot, that its log is empty. Called when no report shows a log.
fn first_voters(reports: &Reports<'_>, config: &Config) -> Option<Voters> {
    let listed = &config.bootstrap;
    let mut voters: Vec<Voter> = Vec::with_capacity(listed.len());
    for replica in listed {
        let mut stores = reports.keys().filter(|voter| voter.replica == *replica);
        let store = stores.next();
        voters.push(*store?);
        // Two stores of one replica: one of them is about to be refused.
        if stores.next().is_some() {
            return None;
        }
    }
    voters.sort_unstable();
    (!voters.is_empty()).then(|| Voters { now: voters.clone(), previous: voters, since: Index(1) })
}

/// Rule N11c: the greatest time that is reported. Where all who report have started since the
/// last stamp, only a wall clock has counted the time between.
fn time(reports: &Reports<'_>, wall: Timestamp) -> Timestamp {
    let reported = reports.values().map(|report| report.time).max().unwrap_or_default();
    let is_known = reports.values().any(|report| report.knows_time);
    if is_known { reported } else { reported.max(wall) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::types::{Digest, Nonce, Position, StoreId};

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
        reports.iter().cloned().for_each(|report| coordination.add(None, report));
        coordination.decide(incarnation(me), &config(me, bootstrap), WALL, false).cloned()
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
    fn b5_a_ballot_has_one_open() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let mut coordination = Coordination::new(ballot(9), None, Duration::ZERO);
        coordination.add(None, report(1, 1, 9, 3, set.clone()));
        coordination.add(None, report(2, 1, 9, 3, set.clone()));
        assert!(coordination.decide(incarnation(1), &config(1, &[]), WALL, false).is_some());
        coordination.add(None, report(3, 1, 12, 3, set));
        assert!(coordination.decide(incarnation(1), &config(1, &[]), WALL, false).is_none());
        assert_eq!(coordination.open.unwrap().base.index, Index(9));
    }

    /// What replica 1, which is not to vote any more, decides on these reports with its own.
    fn hands_over(reports: &[Report], patient: bool) -> Option<Open> {
        let wanted = voters(&[2, 3], &[2, 3], 10).now;
        let mut coordination = Coordination::new(ballot(9), Some(wanted), Duration::ZERO);
        let own = report(1, 2, 9, 9, voters(&[1, 2, 3], &[1, 2, 3], 1));
        coordination.add(None, own);
        reports.iter().cloned().for_each(|report| coordination.add(None, report));
        coordination.decide(incarnation(1), &config(1, &[]), WALL, patient).cloned()
    }

    #[test]
    fn b7_a_coordinator_that_is_not_to_vote_hands_the_epoch_over_to_a_voter() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let [behind, at_base] = [8, 9].map(|last| report(2, 2, last, 8, set.clone()));
        let open = hands_over(std::slice::from_ref(&at_base), true).unwrap();
        assert_eq!(open.sequencer, incarnation(2));
        assert_eq!(open.voters, voters(&[2, 3], &[1, 2, 3], 10));
        // The third voter may be at the base, so its report is waited for, but not for ever.
        assert_eq!(hands_over(std::slice::from_ref(&behind), true), None);
        let open = hands_over(std::slice::from_ref(&behind), false).unwrap();
        assert_eq!(open.sequencer, incarnation(1));
        let third = report(3, 2, 9, 8, set);
        assert_eq!(hands_over(&[behind, third], true).unwrap().sequencer, incarnation(3));
    }

    #[test]
    fn v1_a_coordinator_that_is_not_at_the_base_changes_no_voters() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let ahead = [2, 3].map(|replica| report(replica, 3, 9, 9, set.clone()));
        assert_eq!(hands_over(&ahead, false).unwrap().voters, set);
    }

    #[test]
    fn v4_reports_of_two_clusters_are_not_mixed() {
        let (one, other) = (voters(&[1, 2, 3], &[1, 2, 3], 1), voters(&[4, 5, 6], &[4, 5, 6], 1));
        let mut coordination = Coordination::new(ballot(9), None, Duration::ZERO);
        let mut add = |replica, last, set: &Voters, cluster| {
            let report = report(replica, 2, last, 3, set.clone());
            coordination.add(Some(ClusterId(cluster)), report);
            coordination.decide(incarnation(7), &config(7, &[]), WALL, false).cloned()
        };
        // The greatest log is of a cluster without a majority.
        assert_eq!(add(4, 9, &other, 2), None);
        assert_eq!(add(1, 5, &one, 1), None);
        assert_eq!(add(2, 4, &one, 1).unwrap().voters, one);
        assert_eq!(coordination.cluster(), Some(ClusterId(1)));
    }
}
