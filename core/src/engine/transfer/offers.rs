//! Offers: the sequencer names donors to lagging replicas (rules L1 and L2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpg::Member;

use crate::engine::membership::peers::Peer;
use crate::engine::transfer::fetch::Piece;
use crate::engine::{Engine, Output};
use crate::wire::message::{Message, Offer, Offered};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Digest, Incarnation, Position};

/// Number of bytes that a snapshot has to save over entries to be offered in their place.
const SHORTER_BY: u64 = 1 << 20;

/// Offers that a sequencer has made in its epoch.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    snapshot: Option<SnapshotOffer>,
    /// Lagging replicas that were sent to another donor for entries, and when.
    entries: BTreeMap<Incarnation, Duration>,
}

#[derive(Debug)]
struct SnapshotOffer {
    name: SnapshotName,
    donor: Incarnation,
    laggards: BTreeSet<Incarnation>,
    at: Duration,
}

impl<T> Engine<T> {
    /// Answers a lagging replica that asks the sequencer. Sends the rest of the log itself if it
    /// fits into one piece, and names a donor otherwise.
    pub(crate) fn answer_laggard(
        &mut self,
        laggard: Incarnation,
        after: Position,
        digest: Digest,
        partial: Option<SnapshotName>,
        out: &mut Vec<Output<T>>,
    ) {
        if after == self.log.last() {
            return;
        }
        let piece = self.piece_after(after, digest);
        let is_all = matches!(&piece, Piece::Here(piece) if !piece.more);
        let is_nowhere = matches!(piece, Piece::Nowhere);
        if is_nowhere || !is_all && self.is_shorter_by_snapshot(after) {
            self.offer_snapshot(laggard, after, partial, out);
        } else if !is_all && let Some(donor) = self.donor_of_entries(laggard, after) {
            let Self { transfer, peers, .. } = self;
            transfer.offers.entries.retain(|laggard, _| peers.has(*laggard));
            transfer.offers.entries.insert(laggard, self.now.monotonic);
            self.offer(vec![laggard], donor, Offered::Entries, out);
        } else {
            self.give(piece, laggard, after, out);
        }
    }

    /// Returns true if the newest snapshot here and the entries after it are at least
    /// [`SHORTER_BY`] bytes fewer than all entries that a lagging replica lacks.
    fn is_shorter_by_snapshot(&self, after: Position) -> bool {
        let newest =
            self.transfer.snapshots.held().last().filter(|name| name.index() > after.index);
        newest.is_some_and(|name| {
            let with_it = name.bytes.saturating_add(self.log.bytes_after(name.index()));
            self.log.bytes_after(after.index) > with_it.saturating_add(SHORTER_BY)
        })
    }

    fn offer(
        &self,
        laggards: Vec<Incarnation>,
        donor: Incarnation,
        what: Offered,
        out: &mut Vec<Output<T>>,
    ) {
        tracing::debug!(?laggards, donor = %donor.replica, ?what, "naming a donor");
        let epoch = self.open_epoch();
        out.push(Output::Send(Message::Offer(Offer { epoch, laggards, donor, what })));
    }

    /// Returns another caught-up replica that holds the entries after `after`. Returns `None` if
    /// the lagging replica was sent away a short time ago: it asks again because that did not help.
    fn donor_of_entries(&self, laggard: Incarnation, after: Position) -> Option<Incarnation> {
        let sent_away = self.transfer.offers.entries.get(&laggard);
        if sent_away.is_some_and(|at| self.ago(*at) < self.config.election_timeout) {
            return None;
        }
        let fits = |peer: &&Peer| {
            peer.incarnation != laggard
                && peer.incarnation != self.me()
                && peer.epoch == self.promised
                && peer.acked > after.index
                && peer.first_kept <= after.index.next()
        };
        self.peers.identified().find(fits).map(|peer| peer.incarnation)
    }

    /// Offers a snapshot. One stream serves all replicas that need the same snapshot, so a later
    /// replica is added to it; and a replica that has a part of a snapshot continues with that one
    /// (rule L5).
    fn offer_snapshot(
        &mut self,
        laggard: Incarnation,
        after: Position,
        partial: Option<SnapshotName>,
        out: &mut Vec<Output<T>>,
    ) {
        let compacted_through = self.log.compacted_through();
        let usable = |name: &SnapshotName| {
            // The entries after the snapshot must be in this log. A member may still hold a
            // snapshot of a cluster that a forced one has replaced.
            let is_of_this_log = self.log.epoch_at(name.index()) == name.position.epoch;
            name.index() >= compacted_through
                && name.index() > after.index
                && name.index() <= self.commit.index
                && is_of_this_log
        };
        let me = self.me();
        let own = self.transfer.snapshots.held().iter().map(|name| (me, *name));
        let others = self.peers.held().map(|(incarnation, name)| (incarnation, *name));
        let holders: Vec<(Incarnation, SnapshotName)> = others
            .filter(|(incarnation, _)| *incarnation != laggard && *incarnation != me)
            .chain(own)
            .filter(|(_, name)| usable(name))
            .collect();
        let before = self.transfer.offers.snapshot.take();
        let is_held = |name: &SnapshotName| holders.iter().any(|(_, held)| held == name);
        let under_way = before.as_ref().map(|offer| offer.name);
        // At equal positions, prefer the sequencer's own snapshot.
        let newest = holders
            .iter()
            .map(|(_, name)| *name)
            .max_by_key(|name| (name.position, self.transfer.snapshots.held().contains(name)));
        let name = partial.filter(is_held).or(under_way.filter(is_held)).or(newest);
        let Some(name) = name else {
            tracing::warn!(laggard = %laggard.replica, "no replica holds a usable snapshot");
            return;
        };
        let before = before.filter(|offer| offer.name == name);
        // A replica that asks again was not helped by the donor that it was given.
        let stalls = before.as_ref().filter(|offer| {
            offer.laggards.contains(&laggard) && self.ago(offer.at) > self.config.resend_timeout
        });
        let avoid = stalls.map(|offer| offer.donor);
        let keep = before.as_ref().map(|offer| offer.donor).filter(|donor| Some(*donor) != avoid);
        let mut donors = holders.iter().filter(|(_, held)| *held == name).map(|(donor, _)| *donor);
        let donor = match keep.filter(|donor| donors.clone().any(|d| d == *donor)) {
            Some(donor) => donor,
            None => match donors.clone().find(|donor| Some(*donor) != avoid).or(donors.next()) {
                Some(donor) => donor,
                None => return,
            },
        };
        let mut laggards = before.map(|offer| offer.laggards).unwrap_or_default();
        laggards.insert(laggard);
        laggards.retain(|laggard| self.peers.has(*laggard));
        let all = laggards.iter().copied().collect();
        let at = self.now.monotonic;
        self.transfer.offers.snapshot = Some(SnapshotOffer { name, donor, laggards, at });
        self.offer(all, donor, Offered::Snapshot(name), out);
    }

    /// Handles an offer. Only an offer in the epoch open here, from its sequencer, is accepted
    /// (rule L5).
    pub(crate) fn on_offer(&mut self, from: Member, offer: &Offer, out: &mut Vec<Output<T>>) {
        let Some(epoch) = self.live().filter(|epoch| epoch.open.ballot == offer.epoch) else {
            return;
        };
        let sequencer = epoch.open.sequencer;
        if self.peers.peer(from).is_none_or(|peer| peer.incarnation != sequencer) {
            return;
        }
        if let Offered::Snapshot(name) = offer.what {
            self.transfer.snapshots.pin(name, self.now.monotonic);
            if offer.donor == self.me() {
                self.donate(name);
            }
        }
        if offer.laggards.contains(&self.me()) {
            self.accept(offer.what, offer.donor, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::solo::{Solo, member, run};
    use crate::wire::message::{Announce, Fetch, Missing};
    use crate::wire::types::{Ballot, Index, StoreId};

    /// Returns the snapshot that is offered to replica 3 if replica 2 holds one at index `held_at`.
    fn offered(held_at: u64) -> Option<SnapshotName> {
        let mut solo = Solo::new();
        let all = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&all, &all[1..]);
        solo.announce(member(3, 3), run(3, 3));
        let epoch = solo.engine.open_epoch();
        let position = Position { epoch, index: Index(held_at) };
        let name = SnapshotName { position, digest: Digest(1), bytes: 100 };
        solo.deliver(
            member(2, 2),
            Message::Announce(Announce {
                incarnation: run(2, 2),
                store: StoreId(2),
                application: String::new(),
                last: position,
                promised: Ballot::default(),
                first_kept: Index(1),
                snapshots: vec![name],
                first: true,
                refused: None,
            }),
        );
        let after = Position::default();
        solo.engine.log.compact(Index(1));
        let missing = Missing::Entries { after, digest: Digest(0), donor: None, partial: None };
        let fetch = Fetch { epoch, incarnation: run(3, 3), missing };
        solo.deliver(member(3, 3), Message::Fetch(fetch));
        let offers = solo.sent.iter().filter_map(|message| match message {
            Message::Offer(Offer { what: Offered::Snapshot(name), .. }) => Some(*name),
            _ => None,
        });
        offers.last()
    }

    #[test]
    fn l2_only_a_snapshot_up_to_the_commit_index_is_offered() {
        assert_eq!(offered(2).map(|name| name.index()), Some(Index(2)));
        assert_eq!(offered(50), None);
    }
}
