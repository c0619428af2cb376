//! Who receives the state, what is kept for it, and how much is ordered meanwhile (rule L7).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::log::Log;
use crate::engine::transfer::fetch::PIECE_BYTES_MAX;
use crate::engine::transfer::snapshot_sender::SILENT_TIMEOUTS;
use crate::message::{Fetch, Missing, Received};
use crate::types::{Incarnation, Index, ReplicaId};

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
            _ if after < log.gone() => return,
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
        let gone = self.log.gone();
        let can_be = |after: &Index| *after >= gone && self.log.bytes_after(*after) <= most;
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::Input;
    use crate::engine::solo::{Solo, member, run};
    use crate::entry::{Batch, BatchKind};
    use crate::message::{Message, Progress};
    use crate::snapshot::{CHUNK_BYTES, ShelfNews, SnapshotName};
    use crate::types::{Digest, Origin, Position, StoreId};

    const LOG_BYTES_MAX: u64 = 4 << 20;
    const EIGHTH: u64 = LOG_BYTES_MAX / 8;
    const SLACK: u64 = LOG_BYTES_MAX / 64;
    /// At most.
    const BATCH: u64 = 20_500;
    /// Of what is received.
    const CHUNKS: u64 = 100;

    /// A sequencer, and replica 2 that receives a snapshot of the log as it is.
    struct Pair {
        solo: Solo,
        name: SnapshotName,
        /// By replica 3.
        proposed: u64,
        /// Of replica 2.
        run: Incarnation,
    }

    impl Pair {
        fn new() -> Self {
            let mut solo = Solo::new();
            let config = &mut solo.engine.config;
            (config.stored_bytes_max, config.kept_bytes_max) = (LOG_BYTES_MAX, LOG_BYTES_MAX / 2);
            config.kept_entries_max = 4;
            let members = [member(1, 1), member(2, 2), member(3, 3)];
            solo.configure(&members, &members[1..]);
            solo.announce(member(2, 2), run(2, 2));
            solo.announce(member(3, 3), run(3, 3));
            let position = solo.engine.log.last();
            let name =
                SnapshotName { position, digest: Digest(1), bytes: CHUNKS * CHUNK_BYTES as u64 };
            solo.input(Input::Shelf(ShelfNews::Taken(name)));
            let mut pair = Self { solo, name, proposed: 0, run: run(2, 2) };
            pair.received(CHUNKS);
            pair
        }

        fn received(&mut self, missing: u64) {
            let (incarnation, name, donor) = (self.run, self.name, run(1, 1));
            let gap = (missing > 0).then_some((CHUNKS - missing, CHUNKS));
            let received = Received { incarnation, name, donor, seen: 0, gap, missing };
            self.solo.deliver(member(2, 2), Message::Received(received));
        }

        fn fetches(&mut self, after: u64) {
            let log = &self.solo.engine.log;
            let after = Position { epoch: log.epoch_at(Index(after)), index: Index(after) };
            let missing = Missing::Entries { after, digest: Digest(0), donor: None, partial: None };
            let fetch =
                Fetch { epoch: self.solo.engine.open_epoch(), incarnation: run(2, 2), missing };
            self.solo.deliver(member(2, 2), Message::Fetch(fetch));
        }

        /// Replica 3 proposes more than may be ordered; what is ordered then, in bytes behind the
        /// snapshot.
        fn propose(&mut self) -> u64 {
            self.propose_some(250)
        }

        /// The same with those that were not ordered, and others up to so many.
        fn propose_again(&mut self, count: usize) -> u64 {
            let ordered = self.solo.engine.log.last_batch(ReplicaId(3));
            self.proposed = ordered.map_or(0, |last| last.number);
            self.propose_some(count)
        }

        fn propose_some(&mut self, count: usize) -> u64 {
            let origin = Origin { replica: ReplicaId(3), counter: 1, nonce: run(3, 3).nonce };
            for _ in 0..count {
                self.proposed += 1;
                let (number, kind) = (self.proposed, BatchKind::Application);
                let commands = Bytes::from(vec![0; 20_000]);
                let batch = Batch { origin, number, kind, count: 0, commands };
                self.solo.deliver(member(3, 3), Message::Batch(batch, None));
            }
            self.grown()
        }

        fn grown(&self) -> u64 {
            self.solo.engine.log.bytes_after(self.name.index())
        }

        fn wait(&mut self, time: Duration) -> u64 {
            self.solo.wait(time);
            self.grown()
        }
    }

    /// To a few batches.
    fn assert_about(found: u64, expected: u64) {
        assert!(found.abs_diff(expected) < 3 * BATCH, "{found}, not {expected}");
    }

    #[test]
    fn l7_what_is_ordered_keeps_to_the_room_there_is_until_the_snapshot_is_through() {
        let mut pair = Pair::new();
        assert_about(pair.propose(), SLACK);
        assert_about(pair.propose(), SLACK);
        pair.received(CHUNKS / 2);
        assert_about(pair.propose(), GROWS_TO * EIGHTH / 2);
        pair.received(CHUNKS / 4);
        assert_about(pair.propose(), GROWS_TO * EIGHTH / 4 * 3);
        pair.received(1);
        assert_about(pair.propose(), GROWS_TO * EIGHTH);
        pair.received(0);
        assert_about(pair.propose(), FOLLOWED_FROM * EIGHTH);
    }

    #[test]
    fn l7_who_follows_comes_nearer() {
        let mut pair = Pair::new();
        pair.received(0);
        pair.propose();
        pair.fetches(pair.name.index().0);
        let before = pair.propose();
        assert_about(before, FOLLOWED_FROM * EIGHTH);
        let after = pair.name.index().0 + 10;
        let taken = before - pair.solo.engine.log.bytes_after(Index(after));
        pair.fetches(after);
        let now = pair.propose();
        assert!(now > before && now <= before + taken / 2 + BATCH, "{before} {now} {taken}");
    }

    #[test]
    fn l7_who_needs_no_more_than_a_piece_is_not_waited_for() {
        let mut pair = Pair::new();
        pair.received(0);
        let before = pair.propose();
        pair.fetches(pair.name.index().0);
        assert!(!pair.solo.engine.transfer.flow_control.known.is_empty());
        pair.fetches(pair.solo.engine.log.last().index.0 - 5);
        assert!(pair.solo.engine.transfer.flow_control.known.is_empty());
        assert!(pair.propose() > before + 100 * 20_000);
    }

    #[test]
    fn l7_commands_never_stand_still_for_it() {
        let mut pair = Pair::new();
        let mut before = pair.propose();
        let pause = pair.solo.engine.config.election_timeout / ORDERED_PER_TIMEOUT;
        for _ in 0..3 {
            pair.received(CHUNKS);
            assert_eq!(pair.wait(pause / 2), before);
            let now = pair.wait(pause / 2);
            assert!(now > before && now <= before + BATCH, "{before} {now}");
            before = now;
        }
        let said = pair.solo.engine.status().waiting;
        assert!(
            said.as_ref().is_some_and(|said| said.contains("replica 2 receives the state")),
            "{said:?}"
        );
    }

    #[test]
    fn l7_who_is_silent_or_gone_or_too_slow_is_not_waited_for() {
        let second = Duration::from_secs(1);
        let is_free = |pair: &mut Pair| {
            let before = pair.grown();
            pair.propose() > before + 100 * 20_000
        };
        let mut pair = Pair::new();
        pair.propose();
        pair.wait(second * 3);
        assert!(!is_free(&mut pair), "it may still be there");
        pair.wait(second);
        assert!(is_free(&mut pair), "it is silent");

        let mut pair = Pair::new();
        pair.solo.configure(&[member(1, 1), member(3, 3)], &[]);
        assert!(is_free(&mut pair), "it is gone");

        let mut pair = Pair::new();
        pair.propose();
        let mut waited = Duration::ZERO;
        while waited < HELD_BACK_MAX - second * 2 {
            pair.received(CHUNKS);
            pair.wait(second);
            waited += second;
        }
        pair.received(CHUNKS);
        assert!(!is_free(&mut pair), "not for so long");
        for _ in 0..4 {
            pair.wait(second);
        }
        pair.received(CHUNKS);
        assert!(is_free(&mut pair), "it is too slow");
    }

    #[test]
    fn l7_a_replica_that_starts_again_and_again_is_not_waited_for_without_end() {
        let second = Duration::from_secs(1);
        let mut pair = Pair::new();
        pair.solo.engine.config.snapshot_bytes = 1 << 40;
        pair.propose();
        let members = [member(1, 1), member(2, 2), member(3, 3)];
        let mut held_back = Duration::ZERO;
        for restart in 0..5 * 60 {
            // It dies, and comes back as another run that begins anew.
            pair.solo.configure(&[member(1, 1), member(3, 3)], &[]);
            pair.solo.configure(&members, &[member(2, 2)]);
            pair.run = run(2, 1000 + restart);
            pair.solo.announce(member(2, 2), pair.run);
            pair.received(CHUNKS);
            for _ in 0..10 {
                pair.received(CHUNKS);
                pair.propose_again(5);
                if pair.solo.engine.is_held_back() {
                    held_back += second;
                }
                pair.solo.wait(second);
            }
        }
        assert!(held_back > HELD_BACK_MAX / 2, "{held_back:?}");
        assert!(held_back < HELD_BACK_MAX * 3 / 2, "{held_back:?}");
    }

    #[test]
    fn l7_who_lives_is_not_forgotten_while_it_applies_what_it_has() {
        let mut pair = Pair::new();
        pair.received(0);
        pair.propose();
        pair.fetches(pair.name.index().0);
        let lives = |pair: &mut Pair, acked| {
            let epoch = pair.solo.engine.open_epoch();
            pair.solo.deliver(
                member(2, 2),
                Message::Progress(Progress {
                    epoch,
                    incarnation: run(2, 2),
                    store: StoreId(2),
                    marks: None,
                    acked,
                    applied: Index(0),
                    echo: Vec::new(),
                    promised: epoch,
                }),
            );
        };
        let timeout = pair.solo.engine.config.election_timeout;
        for _ in 0..KEPT_TIMEOUTS * 2 {
            pair.wait(timeout);
            lives(&mut pair, Index(0));
        }
        let (first, before) = (pair.name.index(), pair.grown());
        assert_eq!(pair.solo.engine.kept_for_laggards(), Some(first));
        assert!(pair.propose() <= before + BATCH, "commands are still held back");
        lives(&mut pair, Index(first.0 + 7));
        assert_eq!(pair.solo.engine.kept_for_laggards(), Some(Index(first.0 + 7)));
        let last = pair.solo.engine.log.last().index;
        lives(&mut pair, last);
        assert!(pair.solo.engine.transfer.flow_control.known.is_empty());
    }

    #[test]
    fn l7_what_a_laggard_needs_is_kept_while_there_is_room_for_it() {
        let mut pair = Pair::new();
        let first = pair.name.index();
        pair.received(0);
        pair.propose();
        assert!(pair.grown() > pair.solo.engine.config.kept_bytes_max);
        // A newer snapshot would let it all go.
        let take = |pair: &mut Pair| {
            let position = pair.solo.engine.log.last();
            let name = SnapshotName { position, ..pair.name };
            pair.solo.input(Input::Shelf(ShelfNews::Taken(name)));
            pair.solo.engine.log.gone()
        };
        assert!(take(&mut pair) <= first, "the snapshot is not installed yet");
        let half = Index(first.0 + (pair.solo.engine.log.last().index.0 - first.0) / 2);
        pair.fetches(first.0);
        pair.fetches(half.0);
        let start = take(&mut pair);
        assert!(start > first && start <= half, "{start} is not in {first} to {half}");
        pair.wait(pair.solo.engine.config.election_timeout * (KEPT_TIMEOUTS + 1));
        assert!(take(&mut pair) > half, "nothing was heard of it");
    }
}
