use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpg::Member;

use crate::engine::membership::applications::Applications;
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{
    Ballot, ClusterId, Incarnation, Index, Nonce, Position, ReplicaId, StoreId, Voter,
};

/// Snapshots of each member that are remembered, the newest: more than any keeps.
const HELD_MAX: usize = 8;

/// Other runs with this replica's own id that are remembered.
const RUNS_MAX: usize = 1024;

/// What is known of the replica behind a CPG member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) incarnation: Incarnation,
    pub(crate) store: StoreId,
    /// The end of its log when it announced itself.
    pub(crate) last: Position,
    pub(crate) promised: Ballot,
    /// The first entry that it held when it announced itself.
    pub(crate) first_kept: Index,
    /// The epoch open there, which `acked` is of.
    pub(crate) epoch: Ballot,
    pub(crate) acked: Index,
    pub(crate) applied: Index,
    pub(crate) heard_at: Duration,
    /// Listed, and dead.
    is_presumed_dead: bool,
}

/// Who is in the configuration, and which replica is behind whom.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    local: Option<Member>,
    /// Why there is no connection to the group.
    lost: Option<String>,
    present: BTreeMap<Member, Option<Peer>>,
    /// The snapshots that they hold, as they have said.
    held: BTreeMap<Incarnation, Vec<SnapshotName>>,
    /// Peers that have not said yet who they are, and since when.
    unidentified: BTreeMap<Member, Duration>,
    /// The order of the log may not know yet who is here (rule N9).
    pub(crate) membership_dirty: bool,
    /// Peers that turned out to be of other clusters.
    foreign: BTreeMap<Member, ClusterId>,
    /// Peers that turned out to run other applications.
    pub(crate) applications: Applications,
    /// Somebody came since this replica last announced itself.
    pub(crate) announce_due: bool,
    /// This run has announced itself, and heard it.
    pub(crate) settled: bool,
    /// Later runs with this replica's own id that are to be told to stop.
    pub(crate) refused: BTreeSet<Nonce>,
    /// Other runs with this replica's own id, heard before this run heard itself.
    pub(crate) earlier: BTreeSet<Nonce>,
    /// Those that were told to stop. A refusal may get lost.
    pub(crate) later: BTreeSet<Nonce>,
    /// When this run last announced itself.
    pub(crate) announced_at: Duration,
    /// Members whose messages could not be true.
    pub(crate) implausible: BTreeSet<Member>,
    /// Voters that were reported to be others than those listed here.
    pub(crate) warned_of: BTreeSet<ReplicaId>,
}

impl Peers {
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
            // A member that joined is a new one, also under an old name.
            let known = old.get(member).filter(|_| !joined.contains(member));
            self.present.insert(*member, known.copied().flatten());
        }
        // Under an old name it may be anybody.
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

    /// The connection to the group is lost, and with it all knowledge of who is there.
    pub(crate) fn disconnect(&mut self, reason: String) {
        self.local = None;
        self.lost = Some(reason);
        self.present.clear();
        self.unidentified.clear();
        self.applications.retain(|_| false);
    }

    /// Why there is no connection to the group.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    pub(crate) fn local(&self) -> Option<Member> {
        self.local
    }

    /// Learns who is behind a member. Peers that are not in the configuration are not
    /// kept: on Corosync a departure can overtake what was sent before it.
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

    /// Corosync may list a process for ever that is dead. Another run of its replica shows it:
    /// of two live ones one would have been refused, and whoever lives is heard.
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

    /// A member tells which snapshots it holds.
    pub(crate) fn hold(&mut self, incarnation: Incarnation, names: &[SnapshotName]) {
        let Self { held, present, .. } = self;
        let newest = names.len().saturating_sub(HELD_MAX);
        held.insert(incarnation, names[newest..].to_vec());
        let is_here = |run: &Incarnation| present.values().flatten().any(|p| p.incarnation == *run);
        held.retain(|run, _| is_here(run));
    }

    /// Who is here and holds which snapshots.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Incarnation, &SnapshotName)> {
        let present = self.held.iter().filter(|(run, _)| self.has(**run));
        present.flat_map(|(run, names)| names.iter().map(|name| (*run, name)))
    }

    pub(crate) fn peer(&self, from: Member) -> Option<&Peer> {
        self.present.get(&from)?.as_ref()
    }

    pub(crate) fn peer_mut(&mut self, from: Member) -> Option<&mut Peer> {
        self.present.get_mut(&from)?.as_mut()
    }

    /// Notes a member of another cluster, who is nobody in this one; whether that is news.
    pub(crate) fn foreign(&mut self, from: Member, cluster: ClusterId) -> bool {
        let known = self.present.get_mut(&from).and_then(Option::take);
        self.unidentified.remove(&from);
        if known.is_some() {
            self.membership_dirty = true;
        }
        self.foreign.insert(from, cluster) != Some(cluster)
    }

    /// Notes a member that runs another application, who is nobody in this one.
    pub(crate) fn forget(&mut self, from: Member) {
        self.membership_dirty |= self.present.get_mut(&from).and_then(Option::take).is_some();
        self.unidentified.remove(&from);
    }

    /// Whether that member is in the configuration.
    pub(crate) fn is_present(&self, member: Member) -> bool {
        self.present.contains_key(&member)
    }

    /// The cluster of those members that are of another.
    pub(crate) fn foreign_cluster(&self) -> Option<ClusterId> {
        self.foreign.values().next().copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Member, Option<&Peer>)> {
        self.present.iter().map(|(member, peer)| (*member, peer.as_ref()))
    }

    /// Those who have said who they are, but for the dead.
    pub(crate) fn identified(&self) -> impl Iterator<Item = &Peer> {
        self.present.values().flatten().filter(|peer| !peer.is_presumed_dead)
    }

    /// Whether a member came after `since` that has not said yet who it is.
    pub(crate) fn has_unidentified(&self, since: Duration) -> bool {
        self.unidentified.values().any(|came| *came > since)
    }

    pub(crate) fn has(&self, incarnation: Incarnation) -> bool {
        self.identified().any(|peer| peer.incarnation == incarnation)
    }

    /// When a message of this voter last came, if the voter is here.
    pub(crate) fn heard_at(&self, voter: &Voter) -> Option<Duration> {
        let is_it =
            |peer: &&Peer| peer.incarnation.replica == voter.replica && peer.store == voter.store;
        self.identified().filter(is_it).map(|peer| peer.heard_at).max()
    }

    pub(crate) fn has_voter(&self, voter: &Voter) -> bool {
        self.identified()
            .any(|peer| peer.incarnation.replica == voter.replica && peer.store == voter.store)
    }

    /// Whether that replica runs with another store.
    pub(crate) fn has_other_store(&self, voter: &Voter) -> bool {
        self.identified()
            .any(|peer| peer.incarnation.replica == voter.replica && peer.store != voter.store)
    }

    pub(crate) fn has_replica(&self, replica: ReplicaId) -> bool {
        self.identified().any(|peer| peer.incarnation.replica == replica)
    }

    /// Whether another run of this replica, which this one has heard after itself, is the later
    /// of the two. Who has announced itself before met this one when a network healed, or this
    /// one was away when it came: then both know by the nonces alone.
    pub(crate) fn is_later(&self, other: Nonce, first: bool, mine: Nonce) -> bool {
        let later = first || other > mine || self.later.contains(&other);
        later && !self.earlier.contains(&other)
    }

    /// Remembers another run with this replica's own id; the lowest gives way where there are many.
    pub(crate) fn remember(runs: &mut BTreeSet<Nonce>, run: Nonce) {
        runs.insert(run);
        if runs.len() > RUNS_MAX {
            runs.pop_first();
        }
    }

    pub(crate) fn highest_promise(&self) -> Ballot {
        self.identified().map(|peer| peer.promised).max().unwrap_or_default()
    }
}
