//! Flow control: which replicas receive state, which entries are kept for them, and how much is
//! ordered meanwhile (rule L7).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::log::Log;
use crate::engine::transfer::fetch::PIECE_BYTES_MAX;
use crate::engine::transfer::snapshot_sender::SILENT_TIMEOUTS;
use crate::wire::message::{Fetch, Missing, Received};
use crate::wire::types::{Incarnation, Index, ReplicaId};

/// Number of election timeouts for which the entries that a lagging replica needs are kept after it
/// was last heard from.
pub(crate) const KEPT_TIMEOUTS: u32 = 10;
/// Number of batches ordered per election timeout while commands are held back. If too low, the
/// sequencer seems dead, and others start ballots; if too high, the log grows beyond its limit.
const ORDERED_PER_TIMEOUT: u32 = 4;
/// Maximum time for which commands are held back for one replica, over all its runs. If too low, a
/// large state does not arrive while there are many writes; if too high, a replica that is too slow
/// for the group delays it.
const HELD_BACK_MAX: Duration = Duration::from_secs(15 * 60);
/// Divisor of the time in which commands are not held back for a replica: it regains this fraction
/// of the maximum. If too low, a replica that crashes repeatedly slows the group down for too long;
/// if too high, one that has to receive the state twice a day is not waited for.
const REGAINED_PART: u32 = 16;

/// Limits on the entries after a snapshot, in eighths of the log's limit: they may grow to the
/// first while the snapshot is received, and to the second while it is installed. Beyond the last
/// they are no longer kept.
const GROWS_TO: u64 = 4;
const FOLLOWED_FROM: u64 = 6;
const GIVEN_UP_AFTER: u64 = 7;

/// A replica that receives the state that it lacks.
#[derive(Debug)]
struct Laggard {
    /// It needs the entries after this index.
    after: Index,
    stage: Stage,
    /// Time at which its last message arrived.
    heard_at: Duration,
}

/// Progress of a lagging replica. `allowed` is the cost of the log ([`Log::cost`]) up to which
/// commands may be ordered before the replica progresses further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Receives a snapshot, of which `missing` bytes have not arrived.
    Receives { missing: u64, allowed: u64 },
    /// Has the snapshot, and fetches the entries after it.
    Follows { allowed: u64 },
    /// Fetches entries, and has not needed a snapshot. Commands do not wait for it.
    Fetches,
}

/// All lagging replicas that are known, and the time for which commands were held back for each.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    /// Lagging replicas, by run.
    known: BTreeMap<Incarnation, Laggard>,
    /// Time for which commands were held back for each replica.
    waited: BTreeMap<ReplicaId, Waited>,
    /// Time at which `waited` was last updated.
    ticked_at: Duration,
    /// Time at which commands were last found to be held back.
    held_back_at: Option<Duration>,
    /// Time at which a batch was last ordered.
    pub(crate) ordered_at: Duration,
}

/// Time for which commands were held back for a replica, over all its runs.
#[derive(Clone, Copy, Debug, Default)]
struct Waited {
    total: Duration,
    /// Set once the replica has used up its time, until it has regained half of it.
    spent: bool,
}

/// Returns the cost of the log ([`Log::cost`]) at which the entries after an index take this many
/// eighths of the limit.
fn cost_where(log: &Log, after: Index, eighths: u64, log_bytes_max: u64) -> u64 {
    log.cost() - log.bytes_after(after) + log_bytes_max / 8 * eighths
}

impl FlowControl {
    #[cfg(feature = "testing")]
    pub(crate) fn known(&self) -> usize {
        self.known.len().max(self.waited.len())
    }

    /// Records how much of a snapshot a replica lacks.
    ///
    /// The room left in the log is shared out over the missing bytes: each part that arrives allows
    /// as large a part of the room to be filled, so that both end together.
    fn receives(&mut self, received: &Received, log: &Log, log_bytes_max: u64, now: Duration) {
        let Received { incarnation, name, missing, .. } = *received;
        let (after, missing) = (name.index(), missing.saturating_mul(name.chunk_bytes(0)));
        let full_at = |eighths| cost_where(log, after, eighths, log_bytes_max);
        let known = self.known.get(&incarnation).filter(|known| known.after == after);
        let allowed = match known.map(|known| known.stage) {
            Some(Stage::Receives { missing: before, allowed }) if missing <= before => {
                let room = full_at(GROWS_TO).saturating_sub(allowed);
                let got = u128::from(room) * u128::from(before - missing);
                allowed + u64::try_from(got / u128::from(before.max(1))).unwrap_or(room)
            }
            Some(Stage::Follows { .. }) => return,
            _ => log.cost() + log_bytes_max / 64,
        };
        // The time that the check takes once all chunks are here cannot be estimated.
        let allowed = if missing == 0 { full_at(FOLLOWED_FROM) } else { allowed };
        let stage = Stage::Receives { missing, allowed };
        self.known.insert(incarnation, Laggard { after, stage, heard_at: now });
    }

    /// Records that a replica requests the entries after an index. A replica that has installed a
    /// snapshot must come closer to the end of the log: beyond the room granted for the
    /// installation, half as many bytes may be ordered as it takes in.
    fn fetches(&mut self, incarnation: Incarnation, after: Index, log: &Log, now: Duration) {
        let lacks = log.bytes_after(after);
        let known = self.known.get(&incarnation);
        let stage = match known.map(|known| (known.after, known.stage)) {
            // It asks for entries that no longer exist: the snapshot is yet to come.
            Some((index, Stage::Receives { .. })) if after < index => {
                self.known.entry(incarnation).and_modify(|known| known.heard_at = now);
                return;
            }
            Some((_, Stage::Receives { allowed, .. })) => Stage::Follows { allowed },
            Some((index, Stage::Follows { allowed })) if after >= index => {
                let taken = log.bytes_after(index) - lacks;
                Stage::Follows { allowed: allowed + taken / 2 }
            }
            _ if after < log.compacted_through() => return,
            _ => Stage::Fetches,
        };
        if lacks <= PIECE_BYTES_MAX as u64 {
            self.known.remove(&incarnation);
        } else {
            self.known.insert(incarnation, Laggard { after, stage, heard_at: now });
        }
    }
}

impl<T> Engine<T> {
    /// Records how much of a snapshot a replica lacks.
    pub(crate) fn note_received(&mut self, received: &Received) {
        if !self.peers.has(received.incarnation) {
            return;
        }
        let (max, now) = (self.log_bytes_max(), self.now.monotonic);
        self.transfer.flow_control.receives(received, &self.log, max, now);
    }

    /// Records which entries a replica requests.
    pub(crate) fn note_fetch(&mut self, fetch: &Fetch) {
        let of_member = self.peers.has(fetch.incarnation);
        if let (true, Missing::Entries { after, .. }) = (of_member, fetch.missing) {
            let now = self.now.monotonic;
            self.transfer.flow_control.fetches(fetch.incarnation, after.index, &self.log, now);
        }
    }

    /// Records how far a replica has acked. It may have to apply much before it asks for more, and
    /// must not be forgotten meanwhile.
    pub(crate) fn note_progress(&mut self, incarnation: Incarnation, acked: Index) {
        let now = self.now.monotonic;
        match self.transfer.flow_control.known.get_mut(&incarnation) {
            Some(known) if acked > known.after => {
                self.transfer.flow_control.fetches(incarnation, acked, &self.log, now);
            }
            Some(known) => known.heard_at = now,
            None => {}
        }
    }

    /// Returns the index after which entries are kept, for lagging replicas and for receivers of
    /// the pinned snapshot. Entries beyond the limit are not kept.
    pub(crate) fn kept_for_laggards(&self) -> Option<Index> {
        let span = self.config.election_timeout * KEPT_TIMEOUTS;
        let known = self.transfer.flow_control.known.values();
        let heard = known.filter(|known| self.ago(known.heard_at) < span).map(|known| known.after);
        let most = self.log_bytes_max() / 8 * GIVEN_UP_AFTER;
        let snapshot = self.pinned().map(|name| name.index());
        let compacted_through = self.log.compacted_through();
        let can_be =
            |after: &Index| *after >= compacted_through && self.log.bytes_after(*after) <= most;
        heard.chain(snapshot).filter(can_be).min()
    }

    /// Returns true if no batch may be ordered now (rule L7). The group waits for a replica that
    /// receives the state, because otherwise it would have to begin again; but a batch is ordered
    /// from time to time, so that the sequencer never seems dead.
    pub(crate) fn is_held_back(&self) -> bool {
        let pause = self.config.election_timeout / ORDERED_PER_TIMEOUT;
        self.holding_back().is_some() && self.ago(self.transfer.flow_control.ordered_at) < pause
    }

    /// Returns the replica for which commands are held back, if any.
    fn holding_back(&self) -> Option<Incarnation> {
        let span = self.config.election_timeout * SILENT_TIMEOUTS;
        let waits = |(incarnation, laggard): &(&Incarnation, &Laggard)| match laggard.stage {
            Stage::Receives { allowed, .. } | Stage::Follows { allowed } => {
                self.log.cost() > allowed
                    && self.ago(laggard.heard_at) < span
                    && self.peers.has(**incarnation)
                    && !self.has_spent_its_time(incarnation.replica)
            }
            Stage::Fetches => false,
        };
        self.transfer.flow_control.known.iter().find(waits).map(|(incarnation, _)| *incarnation)
    }

    /// Returns true if commands have been held back for the replica for too long.
    fn has_spent_its_time(&self, laggard: ReplicaId) -> bool {
        self.transfer.flow_control.waited.get(&laggard).is_some_and(|waited| waited.spent)
    }

    /// At a tick: forgets silent replicas, and accounts for the time for which commands were held
    /// back.
    pub(crate) fn tend_flow_control(&mut self) {
        let now = self.now.monotonic;
        let span = self.config.election_timeout * KEPT_TIMEOUTS;
        let since =
            now.saturating_sub(std::mem::replace(&mut self.transfer.flow_control.ticked_at, now));
        // Every replica keeps this account, so that the next sequencer knows it.
        let held_back_for = self.holding_back().map(|run| run.replica);
        let is_sequencing = self.is_sequencing();
        let FlowControl { known, waited, held_back_at, .. } = &mut self.transfer.flow_control;
        known.retain(|_, laggard| now.saturating_sub(laggard.heard_at) < span);
        waited.retain(|replica, waited| {
            if Some(*replica) != held_back_for {
                waited.total = waited.total.saturating_sub(since / REGAINED_PART);
                waited.spent &= waited.total > HELD_BACK_MAX / 2;
            }
            !waited.total.is_zero()
        });
        let Some(replica) = held_back_for else { return };
        let waited = waited.entry(replica).or_default();
        waited.total += since.min(self.config.election_timeout);
        waited.spent = waited.total >= HELD_BACK_MAX;
        if !is_sequencing {
            return;
        }
        if held_back_at.is_none_or(|at| now.saturating_sub(at) > span) {
            tracing::info!(
                laggard = %replica,
                "commands are ordered no faster than this replica receives the state"
            );
        }
        *held_back_at = Some(now);
        if waited.spent {
            tracing::warn!(
                laggard = %replica, waited = ?waited.total,
                "commands are no longer held back for a replica that receives the state more \
                 slowly than they arrive; it may have to start again: reduce the write load, or \
                 check its disk and network"
            );
        }
    }

    /// Describes for the status which replica the commands wait for.
    pub(crate) fn waiting_for_laggard(&self) -> Option<String> {
        let is_new = |at: &Duration| self.ago(*at) < self.config.election_timeout;
        self.transfer.flow_control.held_back_at.filter(|at| self.is_sequencing() && is_new(at))?;
        let mut known = self.transfer.flow_control.known.iter();
        let (run, laggard) = known.find(|(_, known)| known.stage != Stage::Fetches)?;
        Some(match laggard.stage {
            Stage::Receives { missing, .. } => format!(
                "ordering commands no faster than replica {} receives the state: it lacks {missing} \
                 bytes",
                run.replica
            ),
            _ => format!(
                "ordering commands no faster than replica {} fetches the entries after the state: \
                 it lacks {} bytes",
                run.replica,
                self.log.bytes_after(laggard.after)
            ),
        })
    }
}

#[cfg(test)]
mod tests;
