//! Test harness: an engine that is the only voter of its group, and whose outputs are executed at
//! once.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use cpg::{Member, NodeId, Pid};

use super::{Config, Engine, EntryPayload, Input, Now, Output, Status};
use crate::Timestamp;
use crate::engine::SnapshotCommand;
use crate::wire::entry::{Batch, BatchKind};
use crate::wire::message::{Announce, Message, Open};
use crate::wire::types::{
    Ballot, Digest, Incarnation, Index, Nonce, Origin, Position, ReplicaId, StoreId,
};

pub(super) struct Solo {
    pub(super) engine: Engine<u64>,
    pub(super) now: Now,
    /// Payloads of all committed entries.
    pub(super) committed: Vec<EntryPayload>,
    /// Time at which the state machine asks to be woken.
    pub(super) wake_at: Option<Timestamp>,
    /// Tickets of the reads that were carried out.
    pub(super) read: Vec<u64>,
    /// Messages sent.
    pub(super) sent: Vec<Message>,
    /// Commands to the snapshot manager; nothing answers them.
    pub(super) snapshot_commands: Vec<SnapshotCommand>,
    /// First index of each read from the store; nothing answers them.
    pub(super) log_reads: Vec<Index>,
}

pub(super) fn run(replica: u32, nonce: u64) -> Incarnation {
    Incarnation { replica: ReplicaId(replica), nonce: Nonce(nonce) }
}

pub(super) fn member(node: u32, pid: u32) -> Member {
    Member { node: NodeId(node), pid: Pid(pid) }
}

pub(super) fn ballot(counter: u64, replica: u32) -> Ballot {
    Ballot { counter, replica, nonce: Nonce(replica.into()) }
}

impl Solo {
    /// Returns replica 1, alone and with its epoch open.
    pub(super) fn new() -> Self {
        Self::start(false)
    }

    /// Returns the same with its store in memory.
    pub(super) fn volatile() -> Self {
        Self::start(true)
    }

    /// Returns the same beside replica 2, which follows.
    pub(super) fn with_member() -> Self {
        let mut solo = Self::new();
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        solo.new_entries();
        solo.sent.clear();
        solo
    }

    /// Returns replica 1 while it follows replica 2, whose log is longer by far, in epoch 50.
    pub(super) fn lagging() -> Self {
        let mut solo = Self::with_member();
        let history = solo.engine.log.history().to_vec();
        solo.open_far_ahead(ballot(50, 2), history[0].0, history);
        assert!(!solo.engine.is_in_sync());
        solo
    }

    /// Has replica 2 open an epoch whose base ends at index 900, in epoch `base`, and has that
    /// history.
    pub(super) fn open_far_ahead(
        &mut self,
        ballot: Ballot,
        base: Ballot,
        history: Vec<(Ballot, Index)>,
    ) {
        let open = Open {
            ballot,
            base: Position { epoch: base, index: Index(900) },
            digest: Digest(7),
            history,
            sequencer: run(2, 2),
            voters: self.engine.log.voters().clone(),
            time: self.engine.log.time(),
        };
        self.deliver(member(2, 2), Message::Open(open));
    }

    fn start(volatile: bool) -> Self {
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000_000) };
        let mut config = Config::new(run(1, 1), StoreId(1), vec![ReplicaId(1)]);
        config.volatile = volatile;
        let engine = Engine::new(config, now);
        let (committed, read, sent, snapshot_commands) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let log_reads = Vec::new();
        let mut solo = Self {
            engine,
            now,
            committed,
            wake_at: None,
            read,
            sent,
            snapshot_commands,
            log_reads,
        };
        solo.configure(&[member(1, 1)], &[member(1, 1)]);
        solo
    }

    pub(super) fn configure(&mut self, members: &[Member], joined: &[Member]) {
        let (members, joined) = (members.to_vec(), joined.to_vec());
        self.input(Input::Configuration { local: member(1, 1), members, joined });
    }

    pub(super) fn deliver(&mut self, from: Member, message: Message) {
        let cluster = self.engine.cluster();
        self.input(Input::Delivered { from, cluster, message });
    }

    pub(super) fn announce(&mut self, from: Member, incarnation: Incarnation) {
        let store = StoreId(incarnation.nonce.0);
        let (last, promised) = (Position::default(), Ballot::default());
        let announce = Announce {
            incarnation,
            store,
            last,
            promised,
            first_kept: Index(1),
            snapshots: Vec::new(),
            first: true,
            refused: None,
            application: String::new(),
        };
        self.deliver(from, Message::Announce(announce));
    }

    pub(super) fn batch(&mut self, from: Member, incarnation: Incarnation, number: u64) {
        let Incarnation { replica, nonce } = incarnation;
        let origin = Origin { replica, counter: 1, nonce };
        let (kind, commands) = (BatchKind::Application, Bytes::new());
        let batch = Batch { origin, number, kind, count: 0, commands };
        self.deliver(from, Message::Batch(batch, None));
    }

    /// Lets time pass, with a tick at the end.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall.0 += time.as_millis() as u64;
        self.input(Input::Tick);
    }

    /// Lets time pass while the transport delivers nothing.
    pub(super) fn deaf_for(&mut self, time: Duration) -> Status {
        let end = self.now.monotonic + time;
        while self.now.monotonic < end {
            self.now.monotonic += Duration::from_millis(50);
            let mut lost = Vec::new();
            self.engine.step(self.now, Input::Tick, &mut lost);
            self.engine.step(self.now, Input::Drained, &mut lost);
        }
        self.engine.status()
    }

    /// Sets the time at which the state machine asks to be woken.
    pub(super) fn sleep_until(&mut self, at: Option<Timestamp>) {
        self.wake_at = at;
        let index = self.engine.commit.applied;
        self.input(Input::Applied { index, wake_at: at });
    }

    /// Returns the payloads committed since the last call.
    pub(super) fn new_entries(&mut self) -> Vec<EntryPayload> {
        std::mem::take(&mut self.committed)
    }

    /// Returns the engine's outputs, and executes none of them.
    pub(super) fn step(&mut self, input: Input<u64>) -> Vec<Output<u64>> {
        let mut out = Vec::new();
        self.engine.step(self.now, input, &mut out);
        self.engine.step(self.now, Input::Drained, &mut out);
        out
    }

    /// Makes the epoch look as if its sequencer had not been heard for long.
    pub(super) fn forget_health(&mut self) {
        self.engine.election.sequencer_heard_at = Duration::ZERO;
        self.engine.election.commit_advanced_at = Duration::ZERO;
    }

    pub(super) fn input(&mut self, input: Input<u64>) {
        let mut inputs = VecDeque::from([input, Input::Drained]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.engine.step(self.now, input, &mut out);
            let any = !out.is_empty();
            inputs.extend(out.into_iter().filter_map(|output| self.carry_out(output)));
            self.engine.step(self.now, Input::Unsent { frames: 0, bytes: 0 }, &mut Vec::new());
            if any {
                inputs.push_back(Input::Drained);
            }
        }
        assert_eq!(self.engine.status().stopped, None);
    }

    fn carry_out(&mut self, output: Output<u64>) -> Option<Input<u64>> {
        match output {
            Output::Send(message) => {
                self.sent.push(message.clone());
                let (from, cluster) = (member(1, 1), self.engine.cluster());
                Some(Input::Delivered { from, cluster, message })
            }
            Output::Write { ticket, .. } => Some(Input::Written { ticket }),
            Output::Apply(entries) => {
                let index = entries.last().map_or(Index(0), |last| last.entry.position.index);
                self.committed.extend(entries.into_iter().map(|committed| committed.entry.payload));
                Some(Input::Applied { index, wake_at: self.wake_at })
            }
            Output::Read { tickets } => {
                self.read.extend(tickets);
                None
            }
            Output::Snapshot(op) => {
                self.snapshot_commands.push(op);
                None
            }
            Output::ReadLog { first, .. } => {
                self.log_reads.push(first);
                None
            }
            Output::Capture(_) | Output::Restore(_) | Output::Forgo { .. } => None,
            Output::Fail { .. } | Output::FailReads { .. } | Output::Answer { .. } => None,
            Output::Stop => None,
        }
    }
}
