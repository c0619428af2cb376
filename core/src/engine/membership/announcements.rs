//! Announcements of this replica to the group, and the handling of others' announcements.

use cpg::Member;

use crate::engine::membership::peers::Peers;
use crate::engine::{Engine, Output, StepResult, StopReason};
use crate::wire::message::{Announce, Message};
use crate::wire::types::{Incarnation, StoreId};

impl<T> Engine<T> {
    /// Announces this replica's identity and state, if an announcement is due. Also rejects the
    /// later runs with this replica's id that were heard since.
    pub(crate) fn announce(&mut self, out: &mut Vec<Output<T>>) {
        if self.is_unsent(self.peers.announced_at) {
            return;
        }
        let refused = std::mem::take(&mut self.peers.refused);
        if !refused.is_empty() {
            self.peers.announced_at = self.now.monotonic;
        }
        for refused in refused {
            let announce = self.announcement(Some(refused));
            out.push(Output::Send(Message::Announce(announce)));
        }
        if std::mem::take(&mut self.peers.announce_due) {
            let announce = self.announcement(None);
            self.peers.announced_at = self.now.monotonic;
            out.push(Output::Send(Message::Announce(announce)));
        }
    }

    /// Records the replica behind a member of the group.
    pub(crate) fn identify(&mut self, from: Member, incarnation: Incarnation, store: StoreId) {
        // A live replica is heard at least once in each election timeout, so it is never silent for
        // this long.
        let silence = self.config.election_timeout * 4;
        self.peers.identify(from, incarnation, store, self.now.monotonic, silence);
    }

    fn announcement(&self, refused: Option<crate::wire::types::Nonce>) -> Announce {
        Announce {
            incarnation: self.me(),
            store: self.config.store,
            last: self.log.last(),
            promised: self.promised,
            first_kept: self.log.first_kept(),
            snapshots: self.transfer.snapshots.held().to_vec(),
            first: !self.peers.settled,
            refused,
            application: self.config.application.clone(),
        }
    }

    /// Handles an announcement. Of two live processes with one replica id, the later one to
    /// announce itself is rejected, and stops; if neither heard the other's first announcement, the
    /// one with the higher nonce is.
    pub(crate) fn on_announce(&mut self, from: Member, announce: &Announce) -> StepResult {
        let me = self.me();
        if announce.incarnation == me {
            self.peers.settled = true;
        } else if announce.incarnation.replica == me.replica {
            if announce.refused == Some(me.nonce) {
                return Err(StopReason::Duplicate {
                    replica: me.replica,
                    other: from,
                    mine: self.peers.local().unwrap_or(from),
                });
            }
            let other = announce.incarnation.nonce;
            if !self.peers.settled {
                Peers::remember(&mut self.peers.earlier, other);
            } else if self.peers.is_later(other, announce.first, me.nonce) {
                tracing::error!(
                    replica = %me.replica, %from,
                    "another process runs with this replica's id, and was told to stop: if its \
                     folder is a copy, restart it with an empty one"
                );
                Peers::remember(&mut self.peers.later, other);
                Peers::remember(&mut self.peers.refused, other);
            }
        }
        self.identify(from, announce.incarnation, announce.store);
        let believed = self.believe(announce.promised);
        if let Some(peer) = self.peers.peer_mut(from) {
            peer.last = announce.last;
            peer.first_kept = announce.first_kept;
            if believed {
                peer.promised = announce.promised;
            }
        }
        self.peers.hold(announce.incarnation, &announce.snapshots);
        self.election.discovery.promised(announce.promised);
        self.compare_states()
    }
}
