//! Who receives the state, what is kept for it, and how much is ordered meanwhile (rule L7).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::log::Log;
use crate::engine::transfer::fetch::PIECE_BYTES_MAX;
use crate::engine::transfer::snapshot_sender::SILENT_TIMEOUTS;
use crate::wire::message::{Fetch, Missing, Received};
use crate::wire::types::{Incarnation, Index, ReplicaId};

/// So many election timeouts what a laggard needs is kept after it was last heard of.
pub(crate) const KEPT_TIMEOUTS: u32 = 10;
/// While commands are held back, a batch is ordered so many times in an election timeout.
/// Too low: commands seem to stand still, and others start ballots. Too high: the log grows
/// though it must not.
const ORDERED_PER_TIMEOUT: u32 = 4;
/// Maximum time for which commands are held back for one replica, over all its runs. Too low: a
/// large state does not arrive beside many writes. Too high: a replica that is too slow for the
/// group holds it up.
const HELD_BACK_MAX: Duration = Duration::from_secs(15 * 60);
/// A replica gets back one second of that time in so many seconds in which commands are not held
/// back for it. Too low: one that crashes again and again slows the group down for too long. Too
/// high: one that has to receive the state twice on a day is not waited for.
const REGAINED_PART: u32 = 16;

/// Of what the log may take where it is kept, in eighths: what follows a snapshot may grow to the
/// first while the snapshot comes, to the second while it is installed, and is given up after the
/// last.
const GROWS_TO: u64 = 4;
const FOLLOWED_FROM: u64 = 6;
const GIVEN_UP_AFTER: u64 = 7;

/// A replica that takes in what it lacks.
#[derive(Debug)]
struct Laggard {
    /// It needs what follows this index.
    after: Index,
    stage: Stage,
    heard_at: Duration,
}

/// How far it is, and up to which cost of the log ([`Log::cost`]) commands may be ordered before
/// it is further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Receives a snapshot, of which so many bytes are missing.
    Receives { missing: u64, allowed: u64 },
    /// Has the snapshot, and fetches what follows.
    Follows { allowed: u64 },
    /// Fetches entries, and never needed a snapshot: commands do not wait for it.
    Fetches,
}

/// Those that are known.
#[derive(Debug, Default)]
pub(crate) struct FlowControl {
    known: BTreeMap<Incarnation, Laggard>,
    /// For how long commands were held back for each replica.
    waited: BTreeMap<ReplicaId, Waited>,
    /// When that was last added to.
    ticked_at: Duration,
    /// When they were last found to be held back.
    held_back_at: Option<Duration>,
    /// When a batch was last ordered.
    pub(crate) ordered_at: Duration,
}

/// For how long commands were held back for a replica, whichever run of it.
#[derive(Clone, Copy, Debug, Default)]
struct Waited {
    total: Duration,
    /// It has used up its time, and has not got half of it back yet.
    spent: bool,
}

/// How large the log may become, by [`Log::cost`], before so much follows an index.
fn cost_where(log: &Log, after: Index, eighths: u64, log_bytes_max: u64) -> u64 {
    log.cost() - log.bytes_after(after) + log_bytes_max / 8 * eighths
}

impl FlowControl {
    #[cfg(feature = "testing")]
    pub(crate) fn known(&self) -> usize {
        self.known.len().max(self.waited.len())
    }

    /// One has told how much of a snapshot it lacks.
    ///
    /// What is left of the room is shared out over what is missing: whatever comes in allows its
    /// part, so that both end together.
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
        // When all is here it has yet to be looked at, for which there is no measure.
        let allowed = if missing == 0 { full_at(FOLLOWED_FROM) } else { allowed };
        let stage = Stage::Receives { missing, allowed };
        self.known.insert(incarnation, Laggard { after, stage, heard_at: now });
    }

    /// One asks for what follows an index. Who comes from a snapshot has to come nearer: beyond the
    /// room that there is while it installs the snapshot, for what it takes in half as much may be
    /// added.
    fn fetches(&mut self, incarnation: Incarnation, after: Index, log: &Log, now: Duration) {
        let lacks = log.bytes_after(after);
        let known = self.known.get(&incarnation);
        let stage = match known.map(|known| (known.after, known.stage)) {
            // It asks for more than it could be given: the snapshot is still to come.
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
    /// One tells how much of a snapshot it lacks.
    pub(crate) fn note_received(&mut self, received: &Received) {
        if !self.peers.has(received.incarnation) {
            return;
        }
        let (max, now) = (self.log_bytes_max(), self.now.monotonic);
        self.transfer.flow_control.receives(received, &self.log, max, now);
    }

    /// One asks for what it lacks of the log.
    pub(crate) fn note_fetch(&mut self, fetch: &Fetch) {
        let of_member = self.peers.has(fetch.incarnation);
        if let (true, Missing::Entries { after, .. }) = (of_member, fetch.missing) {
            let now = self.now.monotonic;
            self.transfer.flow_control.fetches(fetch.incarnation, after.index, &self.log, now);
        }
    }

    /// One tells how far it has written what it took in. It may have to apply much before it asks
    /// for more, and is not forgotten meanwhile.
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

    /// From which index on entries are kept for laggards, and whoever receives that snapshot. What
    /// has become too much is not.
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

    /// Rule L7: whether no batch may be ordered now. For who receives the state the others wait,
    /// or it would have to begin again; but not so that they seem to stand still.
    pub(crate) fn is_held_back(&self) -> bool {
        let pause = self.config.election_timeout / ORDERED_PER_TIMEOUT;
        self.holding_back().is_some() && self.ago(self.transfer.flow_control.ordered_at) < pause
    }

    /// For whom commands are held back.
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

    fn has_spent_its_time(&self, laggard: ReplicaId) -> bool {
        self.transfer.flow_control.waited.get(&laggard).is_some_and(|waited| waited.spent)
    }

    /// At a tick.
    pub(crate) fn tend_flow_control(&mut self) {
        let now = self.now.monotonic;
        let span = self.config.election_timeout * KEPT_TIMEOUTS;
        let since =
            now.saturating_sub(std::mem::replace(&mut self.transfer.flow_control.ticked_at, now));
        // Whoever sequences next knows for how long the others have waited already.
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
                "commands are not held back any longer for a replica that receives the state more \
                 slowly than they come; it may have to begin again: have clients write less, or \
                 see to its disk and network"
            );
        }
    }

    /// The same for people.
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
                "ordering commands no faster than replica {} takes in what followed the state: it \
                 lacks {} bytes",
                run.replica,
                self.log.bytes_after(laggard.after)
            ),
        })
    }
}

#[cfg(test)]
mod tests;
