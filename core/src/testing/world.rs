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

/// What replicas need of the world around them, and what is seen from above.
pub(super) struct World<W: Workload> {
    pub(super) parameters: Parameters,
    pub(super) random: Random,
    pub(super) network: Sim,
    pub(super) workload: W,
    /// What is known of the cluster whose replica acts.
    pub(super) checker: Checker<<W::Machine as StateMachine>::Output>,
    /// The same of all clusters: the first, and those that were forced after it. That of the
    /// one whose replica acts is not in its place.
    clusters: Vec<Checker<<W::Machine as StateMachine>::Output>>,
    acting: usize,
    /// Which of them a forced one is.
    forced: BTreeMap<ClusterId, usize>,
    pub(super) trace: Trace,
    /// By replica, the store of each.
    pub(super) stores: BTreeMap<ReplicaId, Store>,
    /// Who waits for the answer to which proposal.
    pub(super) callers: BTreeMap<ProposalId, ClientNumber>,
    /// Clients that will never know what became of a command.
    pub(super) lost_clients: BTreeSet<ClientNumber>,
    /// Nothing else fails meanwhile.
    pub(super) is_ambush: bool,
    /// No sync that is begun before then is over before.
    pub(super) disks_stand_until: Duration,
    /// What operators wait for.
    pub(super) requests: BTreeMap<u64, ReplicaId>,
    /// What each store was last told to have acked, and in which epoch.
    acked: BTreeMap<Voter, (Ballot, Index)>,
    /// Connections of processes that have left, and when they are closed.
    pub(super) leaving: Vec<(Duration, ConnectionId)>,
    last_client: u64,
    last_proposal: ProposalId,
    last_pid: u32,
    last_request: u64,
    /// Clients have new commands.
    pub(super) is_busy: bool,
    /// Nothing fails any more.
    pub(super) is_calm: bool,
    /// A majority was lost for good, and what is left must not be lost too.
    pub(super) is_disaster: bool,
    pub(super) messages: u64,
    pub(super) acknowledged: u64,
    /// Reads that were carried out.
    pub(super) reads: u64,
    /// Snapshots that replicas went on from.
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
            is_ambush: false,
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

    /// A replica of that cluster acts. Whoever belongs to none may come to the newest.
    pub(super) fn act_as(&mut self, cluster: Option<ClusterId>) {
        let newest = self.clusters.len() - 1;
        let which = cluster.map_or(newest, |id| self.forced.get(&id).copied().unwrap_or(0));
        std::mem::swap(&mut self.checker, &mut self.clusters[self.acting]);
        std::mem::swap(&mut self.checker, &mut self.clusters[which]);
        self.acting = which;
    }

    /// The cluster of whoever acts is forked by it (rule V4).
    pub(super) fn force(&mut self, id: ClusterId, open: &Open, log: &Digests) -> Checked {
        let fork = self.checker.forked(open, log)?;
        self.forced.insert(id, self.clusters.len());
        self.clusters.push(fork);
        self.workload.forced();
        self.act_as(Some(id));
        Ok(())
    }

    /// Whether that is the newest cluster, or none yet.
    pub(super) fn is_newest(&self, cluster: Option<ClusterId>) -> bool {
        let newest = self.clusters.len() - 1;
        cluster.is_none_or(|id| self.forced.get(&id).copied().unwrap_or(0) == newest)
    }

    /// Whether a cluster was forced.
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

    /// Of a proposal or a read that nobody waits for.
    pub(super) fn new_id(&mut self) -> ProposalId {
        self.last_proposal += 1;
        self.last_proposal
    }

    pub(super) fn new_request(&mut self, at: ReplicaId) -> u64 {
        self.last_request += 1;
        self.requests.insert(self.last_request, at);
        self.last_request
    }

    /// A process id, now and then that of the process before.
    pub(super) fn new_pid(&mut self, before: Option<cpg::Pid>) -> cpg::Pid {
        if let Some(pid) = before.filter(|_| self.random.chance(100)) {
            return pid;
        }
        self.last_pid += 1;
        cpg::Pid(self.last_pid)
    }

    /// Answers whoever waits for a proposal, if anybody does; who it was.
    pub(super) fn answer(
        &mut self,
        id: ProposalId,
        answer: Answer<<W::Machine as StateMachine>::Output>,
    ) -> Option<ClientNumber> {
        let client = self.callers.remove(&id)?;
        if answer == Answer::Unknown {
            self.lost_clients.insert(client);
        }
        self.note(|| format!("client {} hears of proposal {id}: {answer:?}", client.0));
        self.workload.answered(client, answer);
        Some(client)
    }

    /// Whoever waits for it never hears what became of it.
    pub(super) fn forget(&mut self, id: ProposalId) {
        if self.checker.is_read(id) {
            self.show(id, None);
        } else {
            self.answer(id, Answer::Unknown);
        }
    }

    /// Shows a state, or none, to whoever waits for a read, if anybody does.
    pub(super) fn show(&mut self, id: ProposalId, state: Option<&W::Machine>) {
        let Some(client) = self.callers.remove(&id) else { return };
        self.note(|| {
            let how = if state.is_some() { "is carried out" } else { "comes to nothing" };
            format!("read {id} of client {} {how}", client.0)
        });
        self.reads += u64::from(state.is_some());
        self.workload.seen(client, state);
    }

    /// What a replica may say, by what is on its disk.
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
                        "P1: {replica} reports to {} and has promised {promised} durably",
                        report.ballot
                    )
                })?;
                self.checker.reported(report);
                let last = report.last.index;
                // A snapshot that is complete may wait to be gone on from.
                check(durable.last() == last || store.durable_to() == last, || {
                    format!("P3: {replica} reports {} and holds {}", report.last, durable.last())
                })?;
                check(last > durable.last() || durable.holds(last, report.digest), || {
                    format!("P3: {replica} reports another digest at {} than it holds", report.last)
                })
            }
            Message::Announce(announce) => check(announce.promised >= promised, || {
                let told = announce.promised;
                format!("P1: {replica} announces {told} and has promised {promised} durably")
            }),
            Message::Open(open) => self.checker.opened(open, self.network.now()),
            Message::Progress(progress) | Message::Batch(_, Some(progress)) => {
                let Progress { acked, epoch, promised: told, .. } = progress;
                check(*told >= promised, || {
                    format!("P1: {replica} tells {told} and has promised {promised} durably")
                })?;
                let of = durable.epoch_at(*acked);
                let base = self.checker.base(*epoch).unwrap_or(*acked);
                let is_known = durable.at(*acked).is_some();
                check(*acked <= base || of == *epoch || !is_known, || {
                    format!("L4: {replica} acks {acked} in epoch {epoch}, and has it of {of}")
                })?;
                // What is in the base counts for nothing, acked or not.
                let before = self.acked.entry(Voter { replica, store: store.id }).or_default();
                check(before.0 != *epoch || *acked >= before.1 || before.1 <= base, || {
                    format!("N7: {replica} acks {acked} in epoch {epoch}, and {} before", before.1)
                })?;
                *before = (*before).max((*epoch, *acked));
                let held = match log.at(*acked) {
                    Some(digest) => durable.holds(*acked, digest),
                    None => *acked <= durable.last(),
                };
                let held = held || *acked <= store.snapshot_index();
                check(held, || format!("P2: {replica} acks {acked} and holds {}", durable.last()))?;
                check(promised >= durable.epoch_at(*acked), || {
                    format!(
                        "B6: {replica} acks {acked} in epoch {epoch} and has promised {promised} \
                         durably"
                    )
                })
            }
            _ => Ok(()),
        }
    }

    /// A committed entry is handed out: the same as everywhere, and durable at a majority.
    pub(super) fn check_committed(
        &mut self,
        replica: ReplicaId,
        committed: &Committed<ProposalId>,
    ) -> Checked {
        let entry = &committed.entry;
        let index = entry.position.index;
        let known_in = self.stores.get(&replica).and_then(|store| store.known_in(index));
        let epoch = known_in.ok_or_else(|| {
            Violation(format!("N8: {replica} hands out {index}, which it does not know committed"))
        })?;
        // What whoever forced the cluster held is committed by that alone.
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
                // Of a store that is gone nobody can tell.
                let store = self.stores.get(&voter.replica).filter(|s| s.id == voter.store);
                store.is_none_or(|store| store.digests.holds(index, entry.digest))
            };
            let voters = self.checker.voters(epoch);
            let before = self.checker.committed();
            check(voters.is_some_and(|voters| voters.majority(before, holds)), || {
                format!("N8: entry {index} is committed and not durable at a majority")
            })?;
        }
        self.checker.handed_out(entry, epoch, &proposals)?;
        check(committed.callers.is_empty() || committed.callers == proposals, || {
            format!("callers {:?} get the answers of {proposals:?}", committed.callers)
        })
    }
}

/// Which proposal a command is.
pub(super) fn proposal_of(command: &[u8]) -> ProposalId {
    command.first_chunk().map_or(0, |id| u64::from_le_bytes(*id))
}
