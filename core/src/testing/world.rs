use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpg::sim::{ConnectionId, Sim};

use super::checker::{Checked, Checker, ProposalId, Violation, check};
use super::disk::{Digests, Store};
use super::trace::Trace;
use super::{Answer, ClientNumber, Parameters, Random, Workload};
use crate::StateMachine;
use crate::engine::{Committed, EntryPayload};
use crate::wire::entry::{BatchKind, Commands};
use crate::wire::message::{Message, Open, Progress};
use crate::wire::types::{Ballot, ClusterId, Index, ReplicaId, Voter};

/// The shared surroundings of the replicas: network, stores, clients and random numbers; and the
/// checkers, which see all replicas at once.
pub(super) struct World<W: Workload> {
    pub(super) parameters: Parameters,
    pub(super) random: Random,
    pub(super) network: Sim,
    pub(super) workload: W,
    /// The checker of the cluster whose replica acts now.
    pub(super) checker: Checker<<W::Machine as StateMachine>::Output>,
    /// The checkers of all clusters: the first one, and those forced after it. The place of the
    /// acting cluster holds a stale value, because its checker is in `checker`.
    clusters: Vec<Checker<<W::Machine as StateMachine>::Output>>,
    acting: usize,
    /// Place in `clusters` of each forced cluster.
    forced: BTreeMap<ClusterId, usize>,
    pub(super) trace: Trace,
    /// The store of each replica.
    pub(super) stores: BTreeMap<ReplicaId, Store>,
    /// The client that waits for each proposal or read.
    pub(super) callers: BTreeMap<ProposalId, ClientNumber>,
    /// Clients that will never learn the outcome of a command.
    pub(super) lost_clients: BTreeSet<ClientNumber>,
    /// True while a staged fault is in progress: no other faults strike.
    pub(super) in_staged_fault: bool,
    /// A sync that begins before this time does not finish before it.
    pub(super) disks_stand_until: Duration,
    /// Operators' pending requests, with the replica that each was sent to.
    pub(super) requests: BTreeMap<u64, ReplicaId>,
    /// The highest ack of each store, with its epoch.
    acked: BTreeMap<Voter, (Ballot, Index)>,
    /// Connections of processes that have left the group, with the times at which they close.
    pub(super) leaving: Vec<(Duration, ConnectionId)>,
    last_client: u64,
    last_proposal: ProposalId,
    last_pid: u32,
    last_request: u64,
    /// True while clients send new commands.
    pub(super) is_busy: bool,
    /// True once the faults have ended.
    pub(super) is_calm: bool,
    /// True while a majority is lost for good: the remaining stores must survive.
    pub(super) is_disaster: bool,
    pub(super) messages: u64,
    pub(super) acknowledged: u64,
    /// Executed reads.
    pub(super) reads: u64,
    /// Snapshots that replicas installed.
    pub(super) restored: u64,
}

impl<W: Workload> World<W> {
    pub(super) fn new(parameters: Parameters, network: Sim, workload: W, trace: Trace) -> Self {
        Self {
            random: Random::new(parameters.seed),
            checker: Checker::new((1..=parameters.voters).map(ReplicaId).collect()),
            clusters: vec![Checker::new(Vec::new())],
            acting: 0,
            forced: BTreeMap::new(),
            parameters,
            network,
            workload,
            trace,
            stores: BTreeMap::new(),
            callers: BTreeMap::new(),
            lost_clients: BTreeSet::new(),
            in_staged_fault: false,
            disks_stand_until: Duration::ZERO,
            requests: BTreeMap::new(),
            acked: BTreeMap::new(),
            leaving: Vec::new(),
            last_client: 0,
            last_proposal: 0,
            last_pid: 0,
            last_request: 0,
            is_busy: true,
            is_calm: false,
            is_disaster: false,
            messages: 0,
            acknowledged: 0,
            reads: 0,
            restored: 0,
        }
    }

    /// Selects the checker of `cluster`. A replica without a cluster may join the newest, so it
    /// gets the checker of that one.
    pub(super) fn act_as(&mut self, cluster: Option<ClusterId>) {
        let newest = self.clusters.len() - 1;
        let which = cluster.map_or(newest, |id| self.forced.get(&id).copied().unwrap_or(0));
        std::mem::swap(&mut self.checker, &mut self.clusters[self.acting]);
        std::mem::swap(&mut self.checker, &mut self.clusters[which]);
        self.acting = which;
    }

    /// Adds a checker for a new cluster that the acting replica forces (rule V4).
    pub(super) fn force(&mut self, id: ClusterId, open: &Open, log: &Digests) -> Checked {
        let fork = self.checker.forked(open, log)?;
        self.forced.insert(id, self.clusters.len());
        self.clusters.push(fork);
        self.workload.forced();
        self.act_as(Some(id));
        Ok(())
    }

    /// Returns true if `cluster` is the newest cluster or `None`.
    pub(super) fn is_newest(&self, cluster: Option<ClusterId>) -> bool {
        let newest = self.clusters.len() - 1;
        cluster.is_none_or(|id| self.forced.get(&id).copied().unwrap_or(0) == newest)
    }

    /// Returns true if a new cluster was forced in this run.
    pub(super) fn is_forked(&self) -> bool {
        self.clusters.len() > 1
    }

    pub(super) fn now(&self) -> Duration {
        self.network.now()
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.trace.note(self.network.now(), what);
    }

    pub(super) fn new_client(&mut self) -> ClientNumber {
        self.last_client += 1;
        ClientNumber(self.last_client)
    }

    pub(super) fn new_proposal(&mut self, client: ClientNumber) -> ProposalId {
        let id = self.new_id();
        self.callers.insert(id, client);
        id
    }

    /// Returns a new id for a proposal or a read without a waiting client.
    pub(super) fn new_id(&mut self) -> ProposalId {
        self.last_proposal += 1;
        self.last_proposal
    }

    pub(super) fn new_request(&mut self, at: ReplicaId) -> u64 {
        self.last_request += 1;
        self.requests.insert(self.last_request, at);
        self.last_request
    }

    /// Returns a new process id; sometimes that of the replica's previous process.
    pub(super) fn new_pid(&mut self, before: Option<cpg::Pid>) -> cpg::Pid {
        if let Some(pid) = before.filter(|_| self.random.chance(100)) {
            return pid;
        }
        self.last_pid += 1;
        cpg::Pid(self.last_pid)
    }

    /// Passes the answer to the client that waits for a proposal, if there is one, and returns the
    /// client.
    pub(super) fn answer(
        &mut self,
        id: ProposalId,
        answer: Answer<<W::Machine as StateMachine>::Output>,
    ) -> Option<ClientNumber> {
        let client = self.callers.remove(&id)?;
        if answer == Answer::Unknown {
            self.lost_clients.insert(client);
        }
        self.note(|| format!("client {} gets the answer to proposal {id}: {answer:?}", client.0));
        self.workload.answered(client, answer);
        Some(client)
    }

    /// Ends the wait for a proposal or a read without a result.
    pub(super) fn forget(&mut self, id: ProposalId) {
        if self.checker.is_read(id) {
            self.show(id, None);
        } else {
            self.answer(id, Answer::Unknown);
        }
    }

    /// Passes a state, or none, to the client that waits for a read, if there is one.
    pub(super) fn show(&mut self, id: ProposalId, state: Option<&W::Machine>) {
        let Some(client) = self.callers.remove(&id) else { return };
        self.note(|| {
            let how = if state.is_some() { "is executed" } else { "fails" };
            format!("read {id} of client {} {how}", client.0)
        });
        self.reads += u64::from(state.is_some());
        self.workload.seen(client, state);
    }

    /// Checks a message of a replica against the content of its disk.
    pub(super) fn check_message(
        &mut self,
        replica: ReplicaId,
        log: &Digests,
        message: &Message,
    ) -> Checked {
        let Some(store) = self.stores.get(&replica) else { return Ok(()) };
        let (durable, promised) = (&store.digests, store.promised());
        match message {
            Message::Report(report) => {
                self.checker.log_time.reported(report);
                check(promised >= report.ballot, || {
                    format!(
                        "P1: {replica} reports to {}, but its durable promise is {promised}",
                        report.ballot
                    )
                })?;
                self.checker.reported(report);
                let last = report.last.index;
                // A complete snapshot may be waiting to be installed.
                check(durable.last() == last || store.durable_to() == last, || {
                    format!(
                        "P3: {replica} reports {}, but its durable log ends at {}",
                        report.last,
                        durable.last()
                    )
                })?;
                check(last > durable.last() || durable.holds(last, report.digest), || {
                    format!(
                        "P3: {replica} reports a digest at {} that differs from its log",
                        report.last
                    )
                })
            }
            Message::Announce(announce) => check(announce.promised >= promised, || {
                let sent = announce.promised;
                format!("P1: {replica} announces {sent}, but its durable promise is {promised}")
            }),
            Message::Open(open) => self.checker.opened(open, self.network.now()),
            Message::Progress(progress) | Message::Batch(_, Some(progress)) => {
                let Progress { acked, epoch, promised: sent, .. } = progress;
                check(*sent >= promised, || {
                    format!(
                        "P1: {replica} sends promise {sent}, but its durable promise is {promised}"
                    )
                })?;
                let of = durable.epoch_at(*acked);
                let base = self.checker.base(*epoch).unwrap_or(*acked);
                let is_known = durable.at(*acked).is_some();
                check(*acked <= base || of == *epoch || !is_known, || {
                    format!("L4: {replica} acks {acked} in epoch {epoch}, but the entry is of {of}")
                })?;
                // Acks of entries in the base decide nothing, so they may go back.
                let before = self.acked.entry(Voter { replica, store: store.id }).or_default();
                check(before.0 != *epoch || *acked >= before.1 || before.1 <= base, || {
                    format!(
                        "N7: {replica} acks {acked} in epoch {epoch}, after it acked {}",
                        before.1
                    )
                })?;
                *before = (*before).max((*epoch, *acked));
                let held = match log.at(*acked) {
                    Some(digest) => durable.holds(*acked, digest),
                    None => *acked <= durable.last(),
                };
                let held = held || *acked <= store.snapshot_index();
                check(held, || {
                    format!(
                        "P2: {replica} acks {acked}, but its durable log ends at {}",
                        durable.last()
                    )
                })?;
                check(promised >= durable.epoch_at(*acked), || {
                    format!(
                        "B6: {replica} acks {acked} in epoch {epoch}, but its durable promise is \
                         {promised}"
                    )
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks a committed entry that a replica hands to its state machine: it is the same as at
    /// other replicas, and durable at a majority of the voters.
    pub(super) fn check_committed(
        &mut self,
        replica: ReplicaId,
        committed: &Committed<ProposalId>,
    ) -> Checked {
        let entry = &committed.entry;
        let index = entry.position.index;
        let known_in = self.stores.get(&replica).and_then(|store| store.known_in(index));
        let epoch = known_in.ok_or_else(|| {
            Violation(format!(
                "N8: {replica} hands out {index}, which it does not know to be committed"
            ))
        })?;
        // Entries in the log of the replica that forced the cluster are committed without acks.
        let is_news =
            index > self.checker.committed() && !self.checker.inherits(index, entry.digest);
        let proposals = match &entry.payload {
            EntryPayload::Batch(batch) if batch.kind == BatchKind::Application => {
                Commands(&batch.commands).map(proposal_of).collect()
            }
            _ => Vec::new(),
        };
        if is_news {
            let holds = |voter: &Voter| {
                // Nothing is known about a lost store.
                let store = self.stores.get(&voter.replica).filter(|s| s.id == voter.store);
                store.is_none_or(|store| store.digests.holds(index, entry.digest))
            };
            let voters = self.checker.voters(epoch);
            let before = self.checker.committed();
            check(voters.is_some_and(|voters| voters.majority(before, holds)), || {
                format!("N8: entry {index} is committed, but not durable at a majority")
            })?;
        }
        self.checker.handed_out(entry, epoch, &proposals)?;
        check(committed.callers.is_empty() || committed.callers == proposals, || {
            format!("callers {:?} receive the answers of {proposals:?}", committed.callers)
        })
    }
}

/// Returns the proposal id at the beginning of a command.
pub(super) fn proposal_of(command: &[u8]) -> ProposalId {
    command.first_chunk().map_or(0, |id| u64::from_le_bytes(*id))
}
