//! Linearizable reads without the log (rules R1 and R2): a majority's echoes determine the index
//! that a read has to wait for. No sequencer and no disk take part.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::engine::{Engine, Epoch, Output};
use crate::wire::message::{Message, Read};
use crate::wire::types::{Index, Nonce, Voter};

/// Maximum number of readers whose rounds are kept until they are echoed; more than there are
/// members.
pub(crate) const READERS_MAX: usize = 256;

/// This replica's reads, and the echoes that it owes to other readers.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Reads that wait for the next round, oldest first.
    gathered: Vec<Waiting>,
    /// Round in progress, one at a time. It serves all reads that had gathered when it began.
    round: Option<Round>,
    /// Number of the last round. An incarnation uses each number once.
    last_round: u64,
    /// Time at which a `Read` was last sent.
    sent_at: Option<Duration>,
    /// Reads with the index that they wait for. Indices never decrease.
    placed: VecDeque<(Index, Vec<Waiting>)>,
    /// Highest round of each reader, to be echoed with the next `Progress`.
    echoes: BTreeMap<Nonce, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: u64,
    since: Duration,
    /// Number of commands proposed here that have to be settled before the read runs.
    behind: u64,
}

#[derive(Debug)]
struct Round {
    number: u64,
    reads: Vec<Waiting>,
    began_at: Duration,
    sent_at: Duration,
    /// Voters that have echoed the round, with the index that each had acked.
    echoes: BTreeMap<Voter, Index>,
}

impl Reads {
    /// Returns the time at which the round in progress began.
    pub(crate) fn waiting_since(&self) -> Option<Duration> {
        self.round.as_ref().map(|round| round.began_at)
    }

    /// Handles the opening of an epoch: reads whose index is not known to be committed go into
    /// another round.
    pub(crate) fn restart(&mut self, commit: Index) {
        let settled = self.placed.partition_point(|(index, _)| *index <= commit);
        let mut again: Vec<_> = self.placed.drain(settled..).flat_map(|(_, reads)| reads).collect();
        again.extend(self.round.take().into_iter().flat_map(|round| round.reads));
        again.append(&mut self.gathered);
        self.gathered = again;
        self.echoes.clear();
    }

    /// Takes the echoes owed to other readers. A reader asks again if its echo is lost.
    pub(crate) fn take_echoes(&mut self) -> Vec<(Nonce, u64)> {
        std::mem::take(&mut self.echoes).into_iter().collect()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn owed(&self) -> usize {
        self.echoes.len()
    }

    /// Removes the reads that came before `since`, and returns their tickets.
    fn give_up(&mut self, since: Duration) -> Vec<u64> {
        let placed = self.placed.iter_mut().map(|(_, reads)| reads);
        let round = self.round.iter_mut().map(|round| &mut round.reads);
        let all = placed.chain(round).chain([&mut self.gathered]);
        all.flat_map(|reads| reads.extract_if(.., |read| read.since < since))
            .map(|read| read.ticket)
            .collect()
    }

    /// Removes the reads whose index is reached by `handed_out` and whose commands are among the
    /// `settled` ones, and returns their tickets.
    fn take_ready(&mut self, handed_out: Index, settled: u64) -> Vec<u64> {
        let reached = self.placed.partition_point(|(index, _)| *index <= handed_out);
        let mut ready = Vec::new();
        for (_, reads) in self.placed.range_mut(..reached) {
            let able = reads.extract_if(.., |read| read.behind <= settled);
            ready.extend(able.map(|read| read.ticket));
        }
        while self.placed.front().is_some_and(|(_, reads)| reads.is_empty()) {
            self.placed.pop_front();
        }
        ready
    }
}

impl<T> Engine<T> {
    /// Queues a read. With `after_proposals` it also waits for every command proposed here before
    /// it.
    pub(crate) fn queue_read(&mut self, ticket: u64, after_proposals: bool) {
        let behind = if after_proposals { self.proposals.taken() } else { 0 };
        self.reads.gathered.push(Waiting { ticket, since: self.now.monotonic, behind });
    }

    /// Begins the next round if reads wait for one and none is in progress.
    pub(crate) fn begin_round(&mut self, out: &mut Vec<Output<T>>) {
        let is_unsent = self.reads.sent_at.is_some_and(|at| self.is_unsent(at));
        if self.reads.round.is_some()
            || self.reads.gathered.is_empty()
            || self.live().is_none()
            || is_unsent
        {
            return;
        }
        self.reads.last_round += 1;
        // This replica has promised nothing higher either, and counts without a message.
        let echoes = BTreeMap::from([(self.voter(), self.commit.acked)]);
        self.reads.round = Some(Round {
            number: self.reads.last_round,
            reads: std::mem::take(&mut self.reads.gathered),
            began_at: self.now.monotonic,
            sent_at: self.now.monotonic,
            echoes,
        });
        self.place_round();
        self.send_round(out);
    }

    fn send_round(&mut self, out: &mut Vec<Output<T>>) {
        let (epoch, incarnation) = (self.open_epoch(), self.me());
        if let Some(Round { number, sent_at, .. }) = &mut self.reads.round {
            *sent_at = self.now.monotonic;
            self.reads.sent_at = Some(self.now.monotonic);
            out.push(Output::Send(Message::Read(Read { epoch, incarnation, round: *number })));
        }
    }

    /// At a tick: repeats a `Read` that may be lost, and fails reads that have waited for too long.
    pub(crate) fn tend_reads(&mut self, out: &mut Vec<Output<T>>) {
        let sent_at = self.reads.round.as_ref().map(|round| round.sent_at);
        let lost = sent_at.is_some_and(|at| self.unanswered(at) > self.config.resend_timeout);
        if lost && self.live().is_some() {
            self.send_round(out);
        }
        let oldest = self.now.monotonic.saturating_sub(self.config.read_timeout);
        let tickets = self.reads.give_up(oldest);
        if !tickets.is_empty() {
            out.push(Output::FailReads { tickets });
        }
    }

    /// Handles a `Read`: a voter that has promised nothing higher echoes it in its next `Progress`
    /// (rule R1).
    pub(crate) fn on_read(&mut self, read: &Read) {
        let in_epoch = |epoch: &&Epoch| epoch.open.ballot == read.epoch;
        let Some(epoch) = self.live().filter(in_epoch) else {
            return self.on_other_epoch(read.epoch, read.epoch);
        };
        let votes = epoch.open.voters.contains(&self.voter());
        let asked = read.incarnation != self.me() && votes;
        if !asked || self.reads.echoes.len() >= READERS_MAX {
            return;
        }
        let round = self.reads.echoes.entry(read.incarnation.nonce).or_default();
        *round = (*round).max(read.round);
        self.progress.schedule();
    }

    /// Handles the echoes of a voter in the epoch that is open here.
    pub(crate) fn on_echoes(&mut self, voter: Voter, acked: Index, echoes: &[(Nonce, u64)]) {
        let nonce = self.me().nonce;
        let mine = echoes.iter().find(|(reader, _)| *reader == nonce);
        let last = self.reads.last_round;
        let Some(round) = &mut self.reads.round else { return };
        // A round that has not begun cannot have been echoed.
        let mine = mine.filter(|(_, number)| *number <= last);
        if mine.is_some_and(|(_, number)| *number >= round.number) {
            round.echoes.insert(voter, acked);
            self.place_round();
        }
    }

    /// Determines the index of the round once a majority has echoed it: the greatest index that one
    /// of them had acked, and at least this epoch's `EpochStart` (rule R1).
    fn place_round(&mut self) {
        let Some(open) = self.epoch.as_ref().map(|epoch| &epoch.open) else { return };
        let heard = |round: &mut Round| {
            open.voters.majority(self.commit.index, |voter| round.echoes.contains_key(voter))
        };
        let Some(round) = self.reads.round.take_if(heard) else { return };
        let start = open.base.index.next();
        let before = self.reads.placed.back().map_or(start, |(index, _)| *index);
        let acked = round.echoes.into_values().max().unwrap_or(start);
        self.reads.placed.push_back((acked.max(start).max(before), round.reads));
    }

    /// Hands out the reads whose index has been handed out to be applied; they run after it (rule
    /// R2).
    pub(crate) fn hand_out_reads(&mut self, out: &mut Vec<Output<T>>) {
        let tickets = self.reads.take_ready(self.commit.handed_out, self.proposals.settled());
        if !tickets.is_empty() {
            out.push(Output::Read { tickets });
        }
    }

    /// Fails all reads because this replica stops.
    pub(crate) fn abandon_reads(&mut self, out: &mut Vec<Output<T>>) {
        let tickets = self.reads.give_up(Duration::MAX);
        if !tickets.is_empty() {
            out.push(Output::FailReads { tickets });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Input;
    use crate::engine::solo::{Solo, member, run};
    use crate::wire::types::Ballot;

    #[test]
    fn r1_a_voter_alone_reads_without_a_message() {
        let mut solo = Solo::new();
        solo.sent.clear();
        solo.input(Input::Read { ticket: 7, after_proposals: false });
        assert_eq!((&solo.read[..], &solo.sent[..]), (&[7][..], &[][..]));
    }

    #[test]
    fn r1_a_read_is_echoed_once_and_only_in_the_open_epoch() {
        let mut solo = Solo::new();
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        let echoes = |solo: &mut Solo, epoch, round| {
            solo.sent.clear();
            let read = Read { epoch, incarnation: run(2, 2), round };
            solo.deliver(member(2, 2), Message::Read(read));
            let sent = solo.sent.iter().filter_map(|message| match message {
                Message::Progress(progress) => Some(progress.echo.clone()),
                _ => None,
            });
            sent.flatten().collect::<Vec<_>>()
        };
        let epoch = solo.engine.open_epoch();
        assert_eq!(echoes(&mut solo, epoch, 3), [(Nonce(2), 3)]);
        assert_eq!(echoes(&mut solo, Ballot::default(), 4), []);
        assert_eq!(echoes(&mut solo, epoch, 5), [(Nonce(2), 5)]);
    }

    fn placed(index: u64, reads: &[(u64, u64)]) -> (Index, Vec<Waiting>) {
        let waiting = |&(ticket, behind)| Waiting { ticket, since: Duration::ZERO, behind };
        (Index(index), reads.iter().map(waiting).collect())
    }

    #[test]
    fn r2_a_read_waits_for_its_index_and_for_its_commands() {
        let reads = [placed(5, &[(1, 0), (2, 10)]), placed(5, &[(3, 0)]), placed(9, &[(4, 0)])];
        let mut reads = Reads { placed: reads.into(), ..Reads::default() };
        assert_eq!(reads.take_ready(Index(4), 100), []);
        assert_eq!(reads.take_ready(Index(5), 9), [1, 3]);
        assert_eq!(reads.take_ready(Index(9), 9), [4]);
        assert_eq!(reads.take_ready(Index(9), 10), [2]);
        assert!(reads.placed.is_empty());
    }

    #[test]
    fn r1_a_new_epoch_restarts_uncommitted_reads_in_order() {
        let placed = [placed(5, &[(1, 0)]), placed(6, &[(2, 0)]), placed(8, &[(3, 0)])];
        let waiting = |ticket| Waiting { ticket, since: Duration::ZERO, behind: 0 };
        let round = Round {
            number: 1,
            reads: vec![waiting(4)],
            began_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            echoes: BTreeMap::new(),
        };
        let mut reads = Reads {
            placed: placed.into(),
            round: Some(round),
            gathered: vec![waiting(5)],
            ..Reads::default()
        };
        reads.restart(Index(5));
        let tickets: Vec<_> = reads.gathered.iter().map(|read| read.ticket).collect();
        assert_eq!(tickets, [2, 3, 4, 5]);
        assert_eq!(reads.take_ready(Index(9), 0), [1]);
    }
}
