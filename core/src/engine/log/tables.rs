use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::engine::membership::voters::VoterChange;
use crate::wire::entry::{BatchKind, Entry, EntryPayload};
use crate::wire::types::{Digest, Incarnation, Nonce, Origin, Position, ReplicaId, Voters};

/// The last batch of a replica in the order: its origin and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastBatch {
    /// Counter of the origin.
    pub(crate) counter: u64,
    /// Nonce of the origin.
    pub(crate) nonce: Nonce,
    /// Number of the batch.
    pub(crate) number: u64,
}

/// State that follows from all entries up to a position, and is kept when the entries are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tables {
    /// Position of the last entry.
    pub(crate) position: Position,
    /// Digest after the last entry.
    pub(crate) digest: Digest,
    /// Stamp of the last entry.
    pub(crate) time: Timestamp,
    /// Voters by the last `EpochStart`.
    pub(crate) voters: Voters,
    /// Replicas that operators want to vote.
    pub(crate) desired: BTreeSet<ReplicaId>,
    /// Last batch of each replica that ever proposed.
    pub(crate) origins: BTreeMap<ReplicaId, LastBatch>,
    /// Members of the group in the order of the log (rule N9).
    pub(crate) members: BTreeSet<Incarnation>,
    /// Sum of the bytes of the payloads of all entries.
    pub(crate) bytes: u64,
}

impl Tables {
    /// Applies the next entry.
    pub(crate) fn add(&mut self, entry: &Entry) {
        self.bytes = self.bytes.saturating_add(entry.payload.bytes() as u64);
        self.position = entry.position;
        self.digest = entry.digest;
        self.time = entry.time;
        match &entry.payload {
            EntryPayload::EpochStart(voters) => {
                // The first `EpochStart` of a group, or of a forced cluster, determines the desired
                // voters.
                if voters.since == entry.index() && voters.now == voters.previous {
                    self.desired = voters.now.iter().map(|voter| voter.replica).collect();
                }
                self.voters = voters.clone();
            }
            EntryPayload::Batch(batch) => {
                if batch.kind == BatchKind::Operator
                    && let Some(change) = VoterChange::of(batch)
                {
                    // A change that has become impossible since it was requested has no effect.
                    let _ = change.apply(&mut self.desired);
                }
                let Origin { replica, counter, nonce } = batch.origin;
                self.origins.insert(replica, LastBatch { counter, nonce, number: batch.number });
            }
            EntryPayload::Notice(notice) => {
                self.members.extend(&notice.joined);
                self.members.retain(|member| !notice.left.contains(member));
            }
            EntryPayload::Time => {}
        }
    }
}
