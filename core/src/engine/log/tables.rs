use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::engine::membership::voters::VoterChange;
use crate::wire::entry::{BatchKind, Entry, EntryPayload};
use crate::wire::types::{Digest, Incarnation, Nonce, Origin, Position, ReplicaId, Voters};

/// The last batch of a replica in the order: its origin and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastBatch {
    pub(crate) counter: u64,
    pub(crate) nonce: Nonce,
    pub(crate) number: u64,
}

/// What follows from the entries up to some position, and is kept when they are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tables {
    pub(crate) position: Position,
    pub(crate) digest: Digest,
    pub(crate) time: Timestamp,
    pub(crate) voters: Voters,
    /// Who is to vote, as operators have it.
    pub(crate) desired: BTreeSet<ReplicaId>,
    pub(crate) origins: BTreeMap<ReplicaId, LastBatch>,
    /// Who is in the group by the order of the log (rule N9).
    pub(crate) members: BTreeSet<Incarnation>,
    /// Of the payloads of all entries.
    pub(crate) bytes: u64,
}

impl Tables {
    pub(crate) fn add(&mut self, entry: &Entry) {
        self.bytes = self.bytes.saturating_add(entry.payload.bytes() as u64);
        self.position = entry.position;
        self.digest = entry.digest;
        self.time = entry.time;
        match &entry.payload {
            EntryPayload::EpochStart(voters) => {
                // The first of a group, or of one that was forced, says who is to vote.
                if voters.since == entry.index() && voters.now == voters.previous {
                    self.desired = voters.now.iter().map(|voter| voter.replica).collect();
                }
                self.voters = voters.clone();
            }
            EntryPayload::Batch(batch) => {
                if batch.kind == BatchKind::Operator
                    && let Some(change) = VoterChange::of(batch)
                {
                    // What has become impossible since it was asked for changes nothing.
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
