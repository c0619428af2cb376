use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpg::Member;

use crate::engine::membership::applications::Applications;
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{
    Ballot, ClusterId, Incarnation, Index, Nonce, Position, ReplicaId, StoreId, Voter,
};

/// Maximum number of snapshots remembered for each member, the newest ones. No replica keeps more.
const HELD_MAX: usize = 8;

/// Maximum number of other runs with this replica's own id that are remembered in each set.
const RUNS_MAX: usize = 1024;

/// State of the replica behind a CPG member, as known here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The run that the member has identified itself as.
    pub(crate) incarnation: Incarnation,
    /// The store of that run.
    pub(crate) store: StoreId,
    /// End of its log when it last announced itself or reported.
    pub(crate) last: Position,
    /// Highest ballot that it is known to have promised.
    pub(crate) promised: Ballot,
    /// First entry that it held when it last announced itself.
    pub(crate) first_kept: Index,
    /// Epoch open there; `acked` belongs to it.
    pub(crate) epoch: Ballot,
    /// Index up to which it has acked in `epoch`.
    pub(crate) acked: Index,
    /// Index up to which it has applied.
    pub(crate) applied: Index,
    /// Time at which its last message arrived.
    pub(crate) heard_at: Duration,
    /// Set if the configuration lists the member although its process seems to be dead (rule N9).
    is_presumed_dead: bool,
}

/// Members of the configuration, and the replica behind each.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// This replica's own member; `None` without a connection to the group.
    local: Option<Member>,
    /// Reason why there is no connection to the group, if it was lost.
    lost: Option<String>,
    /// Members of the configuration; `None` for those that have not identified themselves.
    present: BTreeMap<Member, Option<Peer>>,
    /// Snapshots that each run has announced.
    held: BTreeMap<Incarnation, Vec<SnapshotName>>,
    /// Members that have not identified themselves, with the time at which they joined.
    unidentified: BTreeMap<Member, Duration>,
    /// Set if the members in the order of the log may differ from the configuration (rule N9).
    pub(crate) membership_dirty: bool,
    /// Members that belong to other clusters.
    foreign: BTreeMap<Member, ClusterId>,
    /// Members that run other applications.
    pub(crate) applications: Applications,
    /// Set if this replica has to announce itself, because a member has joined.
    pub(crate) announce_due: bool,
    /// Set once this run has received its own first announcement.
    pub(crate) settled: bool,
    /// Later runs with this replica's own id that are to be rejected.
    pub(crate) refused: BTreeSet<Nonce>,
    /// Other runs with this replica's own id that were heard before this run heard itself.
    pub(crate) earlier: BTreeSet<Nonce>,
    /// Later runs that were rejected. They are rejected again when heard, because a rejection may
    /// be lost.
    pub(crate) later: BTreeSet<Nonce>,
    /// Time at which this run last announced itself.
    pub(crate) announced_at: Duration,
    /// Members that have sent an implausible message, each reported once (rule N13).
    pub(crate) implausible: BTreeSet<Member>,
    /// Voters about which this replica has already warned: their voters differ from those listed
    /// here.
    pub(crate) warned_of: BTreeSet<ReplicaId>,
}

impl Peers {
    /// Applies a configuration: keeps the peers that stay, and forgets those that left.
    pub(crate) fn configure(
        &mut self,
        local: Member,
        members: &[Member],
        joined: &[Member],
        now: Duration,
    ) {
        self.membership_dirty = true;
        self.local = Some(local);
        self.lost = None;
        let old = std::mem::take(&mut self.present);
        for member in members {
            // A member that joined is a new one, even under a known address.
            let known = old.get(member).filter(|_| !joined.contains(member));
            self.present.insert(*member, known.copied().flatten());
        }
        // A member that joined under a known address may be any replica.
        self.foreign
            .retain(|member, _| self.present.contains_key(member) && !joined.contains(member));
        self.applications.retain(|member| members.contains(member) && !joined.contains(member));
        let known = std::mem::take(&mut self.unidentified);
        let unknown = self.present.iter().filter(|(member, peer)| {
            peer.is_none()
                && !self.foreign.contains_key(*member)
                && !self.applications.contains(**member)
        });
        for (member, _) in unknown {
            let since = known.get(member).filter(|_| !joined.contains(member));
            self.unidentified.insert(*member, *since.unwrap_or(&now));
        }
        self.announce_due |= !joined.is_empty();
    }

    /// Forgets all members, because the connection to the group is lost.
    pub(crate) fn disconnect(&mut self, reason: String) {
        self.local = None;
        self.lost = Some(reason);
        self.present.clear();
        self.unidentified.clear();
        self.applications.retain(|_| false);
    }

    /// Returns the reason why there is no connection to the group, if it was lost.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Returns this replica's own member; `None` without a connection to the group.
    pub(crate) fn local(&self) -> Option<Member> {
        self.local
    }

    /// Records the replica behind a member. Members that are not in the configuration are not kept:
    /// on Corosync a departure can overtake messages sent before it.
    pub(crate) fn identify(
        &mut self,
        from: Member,
        incarnation: Incarnation,
        store: StoreId,
        now: Duration,
        silence: Duration,
    ) {
        self.doubt(from, incarnation.replica, now, silence);
        self.foreign.remove(&from);
        let Some(peer) = self.present.get_mut(&from) else { return };
        if peer.is_none_or(|peer| peer.incarnation != incarnation || peer.store != store) {
            self.unidentified.remove(&from);
            self.membership_dirty = true;
            *peer = Some(Peer {
                incarnation,
                store,
                last: Position::default(),
                promised: Ballot::default(),
                first_kept: Index(u64::MAX),
                epoch: Ballot::default(),
                acked: Index(0),
                applied: Index(0),
                heard_at: now,
                is_presumed_dead: false,
            });
        }
        let revived = peer.as_mut().is_some_and(|peer| {
            peer.heard_at = now;
            std::mem::take(&mut peer.is_presumed_dead)
        });
        self.membership_dirty |= revived;
    }

    /// Presumes other runs of a replica dead if they are silent for longer than `silence`. Corosync
    /// may list a dead process forever. If both runs were alive, one would have been rejected, and
    /// a live one is heard.
    fn doubt(&mut self, from: Member, replica: ReplicaId, now: Duration, silence: Duration) {
        let others = self.present.iter_mut().filter(|(member, _)| **member != from);
        for peer in others.filter_map(|(_, peer)| peer.as_mut()) {
            let silent = now.saturating_sub(peer.heard_at) > silence;
            if peer.incarnation.replica == replica && silent && !peer.is_presumed_dead {
                peer.is_presumed_dead = true;
                self.membership_dirty = true;
            }
        }
    }

    /// Records the snapshots that a run holds, and forgets those of runs that are gone.
    pub(crate) fn hold(&mut self, incarnation: Incarnation, names: &[SnapshotName]) {
        let Self { held, present, .. } = self;
        let newest = names.len().saturating_sub(HELD_MAX);
        held.insert(incarnation, names[newest..].to_vec());
        let is_here = |run: &Incarnation| present.values().flatten().any(|p| p.incarnation == *run);
        held.retain(|run, _| is_here(run));
    }

    /// Returns the snapshots held by runs that are present.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Incarnation, &SnapshotName)> {
        let present = self.held.iter().filter(|(run, _)| self.has(**run));
        present.flat_map(|(run, names)| names.iter().map(|name| (*run, name)))
    }

    /// Returns the replica behind a member, if the member has identified itself.
    pub(crate) fn peer(&self, from: Member) -> Option<&Peer> {
        self.present.get(&from)?.as_ref()
    }

    /// Returns the replica behind a member for changing it.
    pub(crate) fn peer_mut(&mut self, from: Member) -> Option<&mut Peer> {
        self.present.get_mut(&from)?.as_mut()
    }

    /// Records that a member belongs to another cluster and ignores it as a peer. Returns true if
    /// this was not known.
    pub(crate) fn foreign(&mut self, from: Member, cluster: ClusterId) -> bool {
        let known = self.present.get_mut(&from).and_then(Option::take);
        self.unidentified.remove(&from);
        if known.is_some() {
            self.membership_dirty = true;
        }
        self.foreign.insert(from, cluster) != Some(cluster)
    }

    /// Forgets the replica behind a member that runs another application.
    pub(crate) fn forget(&mut self, from: Member) {
        self.membership_dirty |= self.present.get_mut(&from).and_then(Option::take).is_some();
        self.unidentified.remove(&from);
    }

    /// Returns true if the member is in the configuration.
    pub(crate) fn is_present(&self, member: Member) -> bool {
        self.present.contains_key(&member)
    }

    /// Returns the cluster of a member that belongs to another one, if there is any.
    pub(crate) fn foreign_cluster(&self) -> Option<ClusterId> {
        self.foreign.values().next().copied()
    }

    /// Returns all members of the configuration, with the replicas behind them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Member, Option<&Peer>)> {
        self.present.iter().map(|(member, peer)| (*member, peer.as_ref()))
    }

    /// Returns the peers that have identified themselves and are not presumed dead.
    pub(crate) fn identified(&self) -> impl Iterator<Item = &Peer> {
        self.present.values().flatten().filter(|peer| !peer.is_presumed_dead)
    }

    /// Returns true if a member that joined after `since` has not identified itself yet.
    pub(crate) fn has_unidentified(&self, since: Duration) -> bool {
        self.unidentified.values().any(|came| *came > since)
    }

    /// Returns true if the run is here.
    pub(crate) fn has(&self, incarnation: Incarnation) -> bool {
        self.identified().any(|peer| peer.incarnation == incarnation)
    }

    /// Returns the time at which a message of this voter last arrived, if the voter is here.
    pub(crate) fn heard_at(&self, voter: &Voter) -> Option<Duration> {
        let is_it =
            |peer: &&Peer| peer.incarnation.replica == voter.replica && peer.store == voter.store;
        self.identified().filter(is_it).map(|peer| peer.heard_at).max()
    }

    /// Returns true if the voter is here, with the store that votes.
    pub(crate) fn has_voter(&self, voter: &Voter) -> bool {
        self.identified()
            .any(|peer| peer.incarnation.replica == voter.replica && peer.store == voter.store)
    }

    /// Returns true if the voter's replica runs with another store.
    pub(crate) fn has_other_store(&self, voter: &Voter) -> bool {
        self.identified()
            .any(|peer| peer.incarnation.replica == voter.replica && peer.store != voter.store)
    }

    /// Returns true if any run of the replica is here.
    pub(crate) fn has_replica(&self, replica: ReplicaId) -> bool {
        self.identified().any(|peer| peer.incarnation.replica == replica)
    }

    /// Returns true if another run of this replica, heard after this run heard itself, is the later
    /// one of the two. `first` tells whether this was the other's first announcement. If it was
    /// not, the two met when a network healed, or this run was away when the other came; then both
    /// compare nonces.
    pub(crate) fn is_later(&self, other: Nonce, first: bool, mine: Nonce) -> bool {
        let later = first || other > mine || self.later.contains(&other);
        later && !self.earlier.contains(&other)
    }

    /// Records another run with this replica's own id. Drops the lowest nonce if there are too
    /// many.
    pub(crate) fn remember(runs: &mut BTreeSet<Nonce>, run: Nonce) {
        runs.insert(run);
        if runs.len() > RUNS_MAX {
            runs.pop_first();
        }
    }

    /// Returns the highest ballot that any peer is known to have promised.
    pub(crate) fn highest_promise(&self) -> Ballot {
        self.identified().map(|peer| peer.promised).max().unwrap_or_default()
    }
}
