//! The cluster that this replica belongs to, and how messages of other clusters are handled (rule
//! V4).

use cpg::Member;

use crate::engine::Engine;
use crate::engine::replication::batch_pool::BatchPool;
use crate::wire::entry::{Entry, EntryPayload};
use crate::wire::message::{Message, Open};
use crate::wire::types::{ClusterId, Digest, Index, Position};

impl<T> Engine<T> {
    /// Returns the cluster that this replica belongs to, for the frames that it sends.
    ///
    /// A replica with an empty log belongs to none, even if it has learned of one: that group may
    /// never have been formed. While it coordinates, its `Open` is for the cluster of the replicas
    /// that reported the base.
    pub fn cluster(&self) -> Option<ClusterId> {
        let opens = || self.election.coordination.as_ref()?.cluster();
        self.cluster.filter(|_| !self.log.is_empty()).or_else(opens)
    }

    /// Returns true if a message is to be handled. A message of another cluster is ignored and
    /// reported (rule V4).
    pub(crate) fn is_of_this_cluster(
        &mut self,
        from: Member,
        cluster: Option<ClusterId>,
        message: &Message,
    ) -> bool {
        match (self.cluster(), first_cluster(message).or(cluster)) {
            (Some(mine), Some(theirs)) if mine != theirs => {
                if self.peers.foreign(from, theirs) {
                    tracing::warn!(
                        %from, %mine, %theirs,
                        "a member of this CPG group belongs to another cluster and is ignored: \
                         give one of the two another group name"
                    );
                }
                false
            }
            // A replica that knows no cluster belongs to the first one that admits it.
            (None, Some(theirs)) if self.is_admitted_by(message) => {
                if self.cluster.is_some_and(|known| known != theirs) {
                    self.ordering.pool = BatchPool::default();
                }
                self.adopt_cluster(theirs);
                true
            }
            // A batch of another cluster would never be ordered here, and would count as work
            // forever.
            (None, Some(theirs)) if matches!(message, Message::Batch(..)) => {
                self.cluster == Some(theirs)
            }
            _ => true,
        }
    }

    /// Joins a cluster. The cluster id is written before any entry of the cluster, because a
    /// replica that restarts with a log must know the cluster of that log.
    pub(crate) fn adopt_cluster(&mut self, cluster: ClusterId) {
        if self.cluster.replace(cluster) != Some(cluster) {
            let hard_state = self.hard_state();
            self.write_queue.push(hard_state);
        }
    }

    /// Returns true if a message shows that this replica now belongs to the cluster of its sender.
    /// A ballot belongs to one cluster only, so the sender of a message of the epoch open here is
    /// of this replica's cluster.
    fn is_admitted_by(&self, message: &Message) -> bool {
        let epoch = match message {
            Message::Open(open) => return open.ballot >= self.promised,
            Message::Entries(entries) => entries.epoch,
            Message::Progress(progress) | Message::Batch(_, Some(progress)) => progress.epoch,
            _ => return false,
        };
        self.live().is_some_and(|live| live.open.ballot == epoch)
    }
}

/// Returns the cluster that an `Open` with an empty base begins. The frame does not name it,
/// because its coordinator did not belong to the cluster yet.
fn first_cluster(message: &Message) -> Option<ClusterId> {
    let Message::Open(open) = message else { return None };
    (open.base.index == Index(0)).then(|| cluster_of(open))
}

/// Returns the id of the cluster whose first entry follows from `open`: the digest of that entry.
pub(crate) fn cluster_of(open: &Open) -> ClusterId {
    let position = Position { epoch: open.ballot, index: Index(1) };
    let payload = EntryPayload::EpochStart(open.voters.clone());
    let first = Entry::new(Digest::default(), position, open.time, payload);
    ClusterId(first.digest.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::engine::Input;
    use crate::engine::solo::{Solo, member, run};
    use crate::wire::types::{Ballot, Nonce, ReplicaId, StoreId, Voter, Voters};

    /// Returns the `Open` of a group that replica 4 forms alone.
    fn of_another_group() -> Open {
        let voter = Voter { replica: ReplicaId(4), store: StoreId(4) };
        Open {
            ballot: Ballot { counter: 9, replica: 4, nonce: Nonce(4) },
            base: Position::default(),
            digest: Digest::default(),
            history: Vec::new(),
            sequencer: run(4, 4),
            voters: Voters { now: vec![voter], previous: vec![voter], since: Index(1) },
            time: Timestamp(5),
        }
    }

    #[test]
    fn v4_a_running_group_ignores_the_first_open_of_another() {
        let mut solo = Solo::new();
        let all = [member(1, 1), member(4, 4)];
        solo.configure(&all, &all[1..]);
        let open = of_another_group();
        let theirs = cluster_of(&open);
        // The coordinator had no log when it sent the `Open`, so the frame names no cluster.
        let message = Message::Open(open);
        solo.input(Input::Delivered { from: member(4, 4), cluster: None, message });
        let status = solo.engine.status();
        assert_eq!(status.foreign, Some(theirs));
        assert_eq!(status.epoch.map(|epoch| epoch.replica), Some(1));
    }
}
