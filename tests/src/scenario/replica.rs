use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use cpg::sim::{ConnectionId, Sim};
use cpg::{Event, NodeId, Pid};
use plainsong::engine::{Config, Engine, Entry, Input, Now, Op, Output, Role, TICK};
use plainsong::message::Message;
use plainsong::snapshot::{SnapshotCommand, SnapshotName};
use plainsong::{ClusterId, Incarnation, Index, Nonce, ReplicaId, StoreId, Timestamp};

use super::state::State;
use super::store::Store;

/// Interval of attempts to reconnect to the daemon.
const RETRY: Duration = Duration::from_millis(100);

/// All messages sent so far. The simulated network carries indices into this list.
pub(super) type Mail = Vec<(Option<ClusterId>, Message)>;

/// An event at a replica that the scenario may record.
pub(super) enum News {
    Sends(Message),
    Applies(Entry),
    Answers(String),
    Fails {
        commands: Vec<String>,
        may_take_effect: bool,
    },
    /// Commands that took effect, but whose outputs are unknown at this replica.
    LosesOutput(Vec<String>),
    Restores(SnapshotName),
    /// The replica reads its stored log, from this index on.
    ReadsLog(Index),
    /// The state that a read saw.
    Sees(String),
    /// A failed read, with the reason for which it waited.
    ReadFails(String),
    Operator(String),
    Stops(String),
    /// An error that must never occur.
    Breaks(String),
}

/// Settings of all replicas of a scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) snapshot_entries: Option<u64>,
    pub(super) kept_entries_max: Option<usize>,
    pub(super) cached_bytes_max: Option<u64>,
    /// Extra size of the state, in KiB.
    pub(super) state_kib: usize,
}

impl Settings {
    fn apply(self, config: &mut Config) {
        let Self { snapshot_entries, kept_entries_max, cached_bytes_max, .. } = self;
        config.cached_bytes_max = cached_bytes_max.unwrap_or(config.cached_bytes_max);
        config.snapshot_entries = snapshot_entries.unwrap_or(config.snapshot_entries);
        config.kept_entries_max = kept_entries_max.unwrap_or(config.kept_entries_max);
    }
}

/// A replica: its store, and its current process if one runs.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) node: NodeId,
    bootstrap: Vec<ReplicaId>,
    settings: Settings,
    store: Store,
    runs: u32,
    pub(super) process: Option<Process>,
    pub(super) hangs: bool,
    pub(super) holds_disk: bool,
    /// Milliseconds by which the wall clock of its host is ahead; negative if it is behind.
    pub(super) clock_error_ms: i64,
}

pub(super) struct Process {
    pub(super) engine: Engine<String>,
    pid: Pid,
    client: Option<ConnectionId>,
    joins_at: Duration,
    ticked_at: Duration,
    /// Messages from the engine.
    outbox: VecDeque<(Option<ClusterId>, Message)>,
    /// Messages that the network has not accepted yet.
    unsent: VecDeque<Bytes>,
    writes: VecDeque<(u64, Vec<Op>)>,
    /// Waiting commands for snapshots; one is executed per millisecond.
    snapshot_commands: VecDeque<SnapshotCommand>,
    state: State,
}

impl Replica {
    pub(super) fn new(
        id: ReplicaId,
        bootstrap: Vec<ReplicaId>,
        settings: Settings,
    ) -> Result<Self, String> {
        let (store, process, runs) = (Store::formatted(0)?, None, 0);
        let (hangs, holds_disk) = (false, false);
        let node = NodeId(id.0);
        let clock_error_ms = 0;
        Ok(Self {
            id,
            node,
            bootstrap,
            settings,
            store,
            runs,
            process,
            hangs,
            holds_disk,
            clock_error_ms,
        })
    }

    /// Returns a copy of the replica and its data directory, at another node.
    pub(super) fn copied_to(&self, node: NodeId) -> Result<Self, String> {
        let mut copy = Self::new(self.id, self.bootstrap.clone(), self.settings)?;
        copy.store = self.store.copied()?;
        copy.node = node;
        Ok(copy)
    }

    pub(super) fn start(&mut self, now: Duration) -> Result<(), String> {
        if self.process.is_some() {
            return Err(format!("replica {} is running", self.id));
        }
        self.runs += 1;
        let number = u64::from(self.id.0) * 100;
        let nonce = Nonce(u64::from(self.node.0) * 100 + u64::from(self.runs));
        let incarnation = Incarnation { replica: self.id, nonce };
        let store = StoreId(number + self.store.formats());
        let mut config = Config::new(incarnation, store, self.bootstrap.clone());
        self.settings.apply(&mut config);
        let engine = Engine::restart(config, self.clock(now), self.store.recover()?);
        self.process = Some(Process {
            engine: engine.map_err(|error| error.to_string())?,
            pid: Pid(self.runs),
            client: None,
            joins_at: now,
            ticked_at: now,
            outbox: VecDeque::new(),
            unsent: VecDeque::new(),
            writes: VecDeque::new(),
            snapshot_commands: VecDeque::new(),
            state: State::new(self.settings.state_kib),
        });
        (self.hangs, self.holds_disk) = (false, false);
        Ok(())
    }

    /// Kills the process. Writes that are not durable are lost.
    pub(super) fn kill(&mut self, sim: &mut Sim) -> Result<(), String> {
        let process = self.process.take().ok_or_else(|| format!("replica {} is dead", self.id))?;
        if let Some(client) = process.client {
            sim.close(client);
        }
        Ok(())
    }

    pub(super) fn wipe(&mut self) -> Result<(), String> {
        if self.process.is_some() {
            return Err(format!("replica {} is running", self.id));
        }
        self.store = Store::formatted(self.store.formats() + 1)?;
        Ok(())
    }

    pub(super) fn durable(&self) -> &[Entry] {
        self.store.entries()
    }

    pub(super) fn process(&mut self) -> Result<&mut Process, String> {
        let id = self.id;
        self.process.as_mut().ok_or_else(|| format!("replica {id} is dead"))
    }

    pub(super) fn is_sequencer(&self) -> bool {
        self.process.as_ref().is_some_and(|p| p.engine.status().role == Role::Sequencer)
    }

    /// Runs the process once, unless it hangs.
    pub(super) fn turn(&mut self, sim: &mut Sim, mail: &mut Mail, news: &mut Vec<News>) {
        if self.hangs || self.process.is_none() {
            return;
        }
        let mut any = self.take_events(sim, mail, news);
        any |= self.write_out(sim.now(), news);
        any |= self.run_snapshot_command(sim.now(), news);
        let now = sim.now();
        if let Some(process) = self.process.as_mut()
            && now.saturating_sub(process.ticked_at) >= TICK
        {
            process.ticked_at = now;
            any = true;
            self.input(now, Input::Tick, news);
        }
        if any {
            self.input(now, Input::Drained, news);
        }
        self.post(sim, mail);
    }

    pub(super) fn input(&mut self, now: Duration, input: Input<String>, news: &mut Vec<News>) {
        let clock = self.clock(now);
        let Some(process) = self.process.as_mut() else { return };
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            process.engine.step(clock, input, &mut out);
            for output in out {
                match output {
                    Output::Send(message) => {
                        let cluster = process.engine.cluster();
                        process.outbox.push_back((cluster, message.clone()));
                        news.push(News::Sends(message));
                    }
                    Output::Write { ticket, ops } => process.writes.push_back((ticket, ops)),
                    Output::ReadLog { first, .. } => {
                        news.push(News::ReadsLog(first));
                        let there = self.store.entries().iter();
                        let there = there.filter(|entry| entry.position.index >= first);
                        inputs.push_back(Input::LogRead { entries: there.cloned().collect() });
                    }
                    Output::Apply(entries) => {
                        for committed in entries {
                            news.extend(committed.callers.into_iter().map(News::Answers));
                            let index = committed.entry.position.index;
                            process.state.apply(&committed.entry);
                            let wake_at = process.state.wake_at();
                            inputs.push_back(Input::Applied { index, wake_at });
                            news.push(News::Applies(committed.entry));
                        }
                    }
                    Output::Forgo { tickets } => news.push(News::LosesOutput(tickets)),
                    Output::Capture(head) => match self.store.take(&head, &process.state) {
                        Ok(taken) => inputs.push_back(Input::Snapshot(taken)),
                        Err(error) => news.push(News::Breaks(error)),
                    },
                    Output::Restore(name) => match self.store.restore(name) {
                        Ok(state) => {
                            let (index, wake_at) = (name.index(), state.wake_at());
                            process.state = state;
                            inputs.push_back(Input::Applied { index, wake_at });
                            news.push(News::Restores(name));
                        }
                        Err(error) => news.push(News::Breaks(error)),
                    },
                    Output::Snapshot(op) => process.snapshot_commands.push_back(op),
                    // All entries handed out so far have been applied.
                    Output::Read { tickets } => {
                        news.extend(tickets.iter().map(|_| News::Sees(process.state.to_string())));
                    }
                    Output::FailReads { tickets } => {
                        let why = process.engine.status().waiting.unwrap_or_default();
                        news.extend(tickets.iter().map(|_| News::ReadFails(why.clone())));
                    }
                    Output::Fail { tickets, .. } if tickets.is_empty() => {}
                    Output::Fail { tickets: commands, may_take_effect } => {
                        news.push(News::Fails { commands, may_take_effect });
                    }
                    Output::Answer { result, .. } => news.push(News::Operator(match result {
                        Ok(()) => "done".into(),
                        Err(error) => error.to_string(),
                    })),
                    Output::Stop => {
                        let reason = process.engine.status().stopped;
                        news.push(News::Stops(
                            reason.map_or_else(String::new, |reason| reason.to_string()),
                        ));
                    }
                }
            }
        }
    }

    fn take_events(&mut self, sim: &mut Sim, mail: &Mail, news: &mut Vec<News>) -> bool {
        let (now, node) = (sim.now(), self.node);
        let Some(process) = self.process.as_mut() else { return false };
        let Some(client) = process.client else {
            if now >= process.joins_at {
                process.client = sim.join(node, process.pid).ok();
                process.joins_at = now + RETRY;
            }
            return false;
        };
        let mut any = false;
        loop {
            let input = match sim.poll(client) {
                Ok(None) => return any,
                Ok(Some(Event::Ring(_))) => continue,
                Ok(Some(Event::Configuration(configuration))) => Input::Configuration {
                    local: sim.member(client),
                    members: configuration.members,
                    joined: configuration.joined.iter().map(|change| change.member).collect(),
                },
                Ok(Some(Event::Deliver { sender: from, message })) => {
                    let place = message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                    let (cluster, message) = mail[place as usize].clone();
                    Input::Delivered { from, cluster, message }
                }
                Err(error) => {
                    sim.close(client);
                    if let Some(process) = self.process.as_mut() {
                        process.client = None;
                        process.outbox.clear();
                        process.unsent.clear();
                        process.pid = Pid(process.pid.0 + 10);
                    }
                    let reason = error.to_string();
                    self.input(now, Input::Disconnected { reason }, news);
                    return true;
                }
            };
            any = true;
            self.input(now, input, news);
        }
    }

    fn write_out(&mut self, now: Duration, news: &mut Vec<News>) -> bool {
        let mut any = false;
        while !self.holds_disk
            && let Some((ticket, ops)) = self.process.as_mut().and_then(|p| p.writes.pop_front())
        {
            any = true;
            ops.into_iter().for_each(|op| self.store.write(op));
            self.input(now, Input::Written { ticket }, news);
        }
        any
    }

    fn run_snapshot_command(&mut self, now: Duration, news: &mut Vec<News>) -> bool {
        let Some(op) = self.process.as_mut().and_then(|p| p.snapshot_commands.pop_front()) else {
            return false;
        };
        match self.store.run_snapshot_command(op) {
            Ok(Some(done)) => self.input(now, Input::Snapshot(done), news),
            Ok(None) => {}
            Err(error) => news.push(News::Breaks(error)),
        }
        true
    }

    /// Returns the clocks of its host.
    fn clock(&self, now: Duration) -> Now {
        let monotonic = Duration::from_secs(1) + now;
        let wall = 1_000_000 + monotonic.as_millis() as u64;
        Now { monotonic, wall: Timestamp(wall.saturating_add_signed(self.clock_error_ms)) }
    }

    /// Sends messages in order, until the network rejects one; that one is sent later.
    fn post(&mut self, sim: &mut Sim, mail: &mut Mail) {
        let Some(process) = self.process.as_mut() else { return };
        for message in process.outbox.drain(..) {
            process.unsent.push_back(Bytes::copy_from_slice(&(mail.len() as u64).to_le_bytes()));
            mail.push(message);
        }
        let Some(client) = process.client else {
            process.unsent.clear();
            return;
        };
        while let Some(message) = process.unsent.front() {
            if sim.multicast(client, message.clone()).is_err() {
                return;
            }
            process.unsent.pop_front();
        }
    }
}
