use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::Timestamp;
use crate::engine::Config;
use crate::engine::membership::cluster::cluster_of;
use crate::wire::message::{Open, Report};
use crate::wire::types::{Ballot, ClusterId, Incarnation, Index, ReplicaId, Voter, Voters};

/// Reports of one ballot, by store.
type Reports<'a> = BTreeMap<Voter, &'a Report>;

/// A ballot that this incarnation coordinates: it sends `Begin`, collects reports, and sends
/// `Open`.
#[derive(Debug)]
pub(crate) struct Coordination {
    pub(crate) ballot: Ballot,
    /// Time at which the ballot started.
    pub(crate) since: Duration,
    /// Time at which `Begin` or `Open` was last sent.
    pub(crate) sent_at: Duration,
    /// Latest report of each store, with the cluster id that its sender put on the message.
    reports: BTreeMap<Voter, (Option<ClusterId>, Report)>,
    /// Voters that this sequencer wants from this epoch on; `None` if it wants no change.
    wanted: Option<Vec<Voter>>,
    /// The decision. Once made, it is repeated unchanged, because a ballot has one `Open`.
    pub(crate) open: Option<Open>,
    /// Cluster that the `Open` is for; `None` until decided, or if no reported log belongs to one.
    cluster: Option<ClusterId>,
}

impl Coordination {
    pub(crate) fn new(ballot: Ballot, wanted: Option<Vec<Voter>>, now: Duration) -> Self {
        let reports = BTreeMap::new();
        Self { ballot, since: now, sent_at: now, reports, wanted, open: None, cluster: None }
    }

    /// Adds a report. Each store counts once (rule B4), with its latest report.
    pub(crate) fn add(&mut self, cluster: Option<ClusterId>, report: Report) {
        let voter = Voter { replica: report.incarnation.replica, store: report.store };
        self.reports.insert(voter, (cluster, report));
    }

    /// Returns the cluster that the `Open` is for, once that is decided.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Returns the replicas whose reports have arrived.
    pub(crate) fn reported(&self) -> impl Iterator<Item = ReplicaId> {
        self.reports.keys().map(|voter| voter.replica)
    }

    /// Decides on the `Open` as soon as the reports allow it (rules B4, V1, V3), and returns it.
    /// Returns `None` while they do not, and on every call after the decision.
    ///
    /// A `patient` coordinator waits for the reports of all voters while no voter at the base has
    /// reported (rule B7).
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

    /// Returns the `Open` for the first cluster whose reports allow one, and that cluster. A
    /// coordinator without a log may receive reports from members of several clusters, which must
    /// not be mixed (rule V4).
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
            // A replica with a log may not know its cluster id yet.
            let reports = self.reports.iter().filter(|(_, (of, _))| *of == cluster || of.is_none());
            let reports = reports.map(|(voter, (_, report))| (*voter, report)).collect();
            Some((cluster, self.open_from(&reports, me, config, wall, patient)?))
        })
    }

    /// Builds the `Open` from the reports of one cluster; `None` if they do not suffice yet.
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
        // Rule B7: prefer a voter at the base as the sequencer, and among those the coordinator.
        // `Open` describes the base as the sequencer reported it.
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

    /// Returns the voters of the new epoch, or `None` without a majority of the voters in force in
    /// the base (rules B4 and V1). While a change is not known to be committed, a majority of both
    /// sets is required, and the pending change is repeated. Once it is committed, the next change
    /// may follow if the coordinator holds the base, because only then does it know which voters
    /// the log asks for.
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

/// Returns the voters of a new group, or `None` until every listed replica has reported, for this
/// ballot, that its log is empty (rule V3). Called only if no report shows a log.
fn first_voters(reports: &Reports<'_>, config: &Config) -> Option<Voters> {
    let listed = &config.bootstrap;
    let mut voters: Vec<Voter> = Vec::with_capacity(listed.len());
    for replica in listed {
        let mut stores = reports.keys().filter(|voter| voter.replica == *replica);
        let store = stores.next();
        voters.push(*store?);
        // Two stores claim to be the same replica: one of them is about to be rejected.
        if stores.next().is_some() {
            return None;
        }
    }
    voters.sort_unstable();
    (!voters.is_empty()).then(|| Voters { now: voters.clone(), previous: voters, since: Index(1) })
}

/// Returns the time at which the epoch begins: the greatest reported time (rule N11c). If no report
/// knows the time, all their senders have restarted since the last stamp, and only a wall clock has
/// counted the time since.
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
        // Two stores of one listed replica prevent the decision.
        let other = Report { store: StoreId(22), ..empty(2) };
        assert_eq!(decide(1, &[1, 2, 3], &[empty(1), empty(2), other, empty(3)]), None);
    }

    #[test]
    fn v3_a_report_with_a_log_ends_the_bootstrap() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let empty =
            |replica| Report { store: StoreId(50), ..report(replica, 0, 0, 0, Voters::default()) };
        let log = report(3, 1, 4, 4, set);
        // The empty stores are not those of the voters, so replica 3 alone is no majority.
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
    fn n11c_an_epoch_begins_at_the_greatest_reported_time() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let says = |replica, time, knows_time| Report {
            time: Timestamp(time),
            knows_time,
            ..report(replica, 2, 9, 3, set.clone())
        };
        let opens_at = |reports: &[Report]| decide(1, &[], reports).map(|open| open.time);
        let (past, future) = (WALL.0 - 1, WALL.0 + 1);
        // Replica 1 has just started; replica 2 has counted the time in which nothing was ordered.
        assert_eq!(opens_at(&[says(1, 9, false), says(2, 30, true)]), Some(Timestamp(30)));
        assert_eq!(opens_at(&[says(1, 40, false), says(2, 30, true)]), Some(Timestamp(40)));
        // Both have restarted, so neither has counted it.
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

    /// Returns the decision of replica 1, which loses its vote, on its own report and these.
    fn hands_over(reports: &[Report], patient: bool) -> Option<Open> {
        let wanted = voters(&[2, 3], &[2, 3], 10).now;
        let mut coordination = Coordination::new(ballot(9), Some(wanted), Duration::ZERO);
        let own = report(1, 2, 9, 9, voters(&[1, 2, 3], &[1, 2, 3], 1));
        coordination.add(None, own);
        reports.iter().cloned().for_each(|report| coordination.add(None, report));
        coordination.decide(incarnation(1), &config(1, &[]), WALL, patient).cloned()
    }

    #[test]
    fn b7_a_coordinator_that_loses_its_vote_names_a_voter_as_the_sequencer() {
        let set = voters(&[1, 2, 3], &[1, 2, 3], 1);
        let [behind, at_base] = [8, 9].map(|last| report(2, 2, last, 8, set.clone()));
        let open = hands_over(std::slice::from_ref(&at_base), true).unwrap();
        assert_eq!(open.sequencer, incarnation(2));
        assert_eq!(open.voters, voters(&[2, 3], &[1, 2, 3], 10));
        // The third voter may be at the base, so the coordinator waits for its report, but not
        // forever.
        assert_eq!(hands_over(std::slice::from_ref(&behind), true), None);
        let open = hands_over(std::slice::from_ref(&behind), false).unwrap();
        assert_eq!(open.sequencer, incarnation(1));
        let third = report(3, 2, 9, 8, set);
        assert_eq!(hands_over(&[behind, third], true).unwrap().sequencer, incarnation(3));
    }

    #[test]
    fn v1_a_coordinator_that_is_not_at_the_base_does_not_change_voters() {
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
        // The greatest log belongs to a cluster without a majority.
        assert_eq!(add(4, 9, &other, 2), None);
        assert_eq!(add(1, 5, &one, 1), None);
        assert_eq!(add(2, 4, &one, 1).unwrap().voters, one);
        assert_eq!(coordination.cluster(), Some(ClusterId(1)));
    }
}
