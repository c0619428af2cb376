//! The engine alone, in a loop: several replicas on a simulated group that loses messages,
//! delays writes and kills members. One seed draws everything, so a failure repeats.
//!
//! `PLAINSONG_SEEDS=N` runs more seeds than the few of every test run, `PLAINSONG_SEED=S`
//! runs one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use common::disk::Kept;
use cpg::{Member, NodeId, Pid};
use plainsong::Timestamp;
use plainsong::engine::{Config, Content, Engine, Entry, Facts, Input, Now, Op, Output, Recovered};
use plainsong::message::Message;
use plainsong::snapshot::{Cutter, Joiner, Shelf, ShelfOp, SnapshotHead, SnapshotName};
use plainsong::{
    ClusterId, Digest, Incarnation, Index, Nonce, Origin, ReplicaId, Role, StopReason, StoreId,
};
use plainsong_storage::MemorySnapshots;

/// Of one node: what its group delivers, in order.
enum Event {
    Message(Member, Option<ClusterId>, Box<Message>),
    Configuration(Vec<Member>, Vec<Member>),
}

struct Node {
    member: Member,
    replica: ReplicaId,
    engine: Engine<u64>,
    inbox: VecDeque<Event>,
    /// What the log thread holds; checked against what is reported.
    durable: Store,
    shelf: Shelf,
    /// What its snapshot threads are busy with.
    shelving: VecDeque<Shelving>,
    /// Writes and entries that its other threads are busy with.
    pending: VecDeque<(u64, Vec<Op>)>,
    applying: VecDeque<Index>,
    applied: Index,
    applied_commands: BTreeSet<u64>,
    /// What was proposed here.
    proposed: Vec<u64>,
    /// By the notices that it has applied.
    members: BTreeSet<Incarnation>,
    last_time: Timestamp,
    /// How often it gets its turn, per mille.
    speed: u64,
    /// Until then it gets none at all: it wakes up with a backlog, believing what it did.
    hangs_until: Duration,
    /// Until then its group engine is gone: it hears nothing, and nobody hears it.
    away_until: Option<Duration>,
}

impl Node {
    /// What a restart would find: a snapshot that is complete, and the log where it goes on
    /// from it.
    fn durable_to(&self) -> Index {
        let newest = self.shelf.names().last().map_or(Index(0), |name| name.index());
        newest.max(self.durable.last())
    }
}

enum Shelving {
    Capture(Box<SnapshotHead>, State),
    Op(ShelfOp),
}

/// What a node's state machine holds; padded, so that it takes several chunks.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct State {
    applied: Index,
    commands: BTreeSet<u64>,
    members: BTreeSet<Incarnation>,
    last_time: Timestamp,
    padding: Vec<u64>,
}

/// What no crash takes away, where stores are kept.
#[derive(Clone, Default)]
struct Store {
    facts: Option<Facts>,
    entries: BTreeMap<Index, Entry>,
    /// The log begins behind it.
    begins: Index,
    snapshots: Kept<MemorySnapshots>,
}

impl Store {
    fn write(&mut self, op: Op) {
        match op {
            Op::Append(entry) => {
                self.entries.insert(entry.position.index, entry);
            }
            Op::Cut(after) => self.entries.retain(|index, _| *index <= after),
            Op::Facts(facts) => self.facts = Some(facts),
            Op::Compact(through) => {
                self.begins = self.begins.max(through);
                self.entries.retain(|index, _| *index > through);
            }
            Op::Reset(through) => {
                self.begins = through;
                self.entries.clear();
            }
        }
    }

    fn last(&self) -> Index {
        self.entries.last_key_value().map_or(self.begins, |(index, _)| *index)
    }
}

/// A read that was asked for and not answered.
struct Read {
    run: Incarnation,
    asked_at: Duration,
    /// What it must see at least.
    answered: Index,
    /// Commands proposed at the same replica that it must see.
    proposed: Vec<u64>,
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    fn pick<V: Copy>(&mut self, of: &[V]) -> V {
        of[self.below(of.len() as u64) as usize]
    }
}

struct World {
    random: Random,
    nodes: Vec<Node>,
    voters: u32,
    listed: Vec<ReplicaId>,
    next_pid: u32,
    monotonic: Duration,
    loss: u64,
    hangs: u64,
    aways: u64,
    next_command: u64,
    /// One digest per committed index, for all time.
    committed: BTreeMap<Index, Digest>,
    /// Where each command was applied: one place for all time.
    places: BTreeMap<u64, Index>,
    acknowledged: BTreeSet<u64>,
    /// Up to where the log was seen by whoever has an answer: reads that begin later must
    /// see as much.
    answered: Index,
    reads: BTreeMap<u64, Read>,
    next_read: u64,
    messages: u64,
    trace: bool,
    killed: bool,
    /// Whether replicas come back with their stores; then any number may be killed.
    keeps: bool,
    /// Who is down, with what it left, until when.
    down: Vec<(ReplicaId, Store, Duration)>,
    restarts: u64,
    /// Snapshots that were received and gone on from.
    restored: u64,
    padding: usize,
    /// At the end everybody is in step.
    caught_up: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let voters = random.pick(&[1, 2, 3, 3, 3, 5]);
        let loss = random.pick(&[0, 0, 2, 20]);
        let hangs = random.pick(&[0, 0, 3, 10]);
        let aways = random.pick(&[0, 0, 1, 5]);
        let keeps = random.chance(500);
        let padding = random.pick(&[0, 100_000, 300_000]);
        let trace = std::env::var_os("PLAINSONG_TRACE").is_some();
        let listed: Vec<_> = (1..=voters).map(ReplicaId).collect();
        let mut world = Self {
            random,
            nodes: Vec::new(),
            voters,
            listed,
            next_pid: 1,
            monotonic: Duration::from_secs(1),
            loss,
            hangs,
            aways,
            next_command: 0,
            committed: BTreeMap::new(),
            places: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            answered: Index(0),
            reads: BTreeMap::new(),
            next_read: 0,
            messages: 0,
            trace,
            killed: false,
            keeps,
            down: Vec::new(),
            restarts: 0,
            restored: 0,
            padding,
            caught_up: false,
        };
        for replica in world.listed.clone() {
            world.start(replica, Store::default());
        }
        world
    }

    fn now(&mut self) -> Now {
        // Wall clocks differ from node to node and jump.
        let jump = if self.random.chance(5) { self.random.below(100_000) } else { 0 };
        let wall = 1_000_000 + self.monotonic.as_millis() as u64 + jump;
        Now { monotonic: self.monotonic, wall: Timestamp(wall) }
    }

    fn start(&mut self, replica: ReplicaId, durable: Store) {
        let member = Member { node: NodeId(replica.0), pid: Pid(self.next_pid) };
        self.next_pid += 1;
        let incarnation = Incarnation { replica, nonce: Nonce(self.random.next()) };
        let store = StoreId(self.random.next());
        let mut config = Config::new(incarnation, store, self.listed.clone());
        config.batches_in_flight_max = self.random.pick(&[1, 3, 8]);
        config.batch_bytes_max = self.random.pick(&[16, 64, 4096]);
        config.applying_max = self.random.pick(&[1, 7, 1024]);
        config.kept_entries_max = self.random.pick(&[5, 50]);
        config.snapshot_entries = self.random.pick(&[20, 60]);
        let now = self.now();
        let speed = self.random.pick(&[1000, 900, 300]);
        let entries = durable.entries.values().cloned().collect();
        durable.snapshots.with(MemorySnapshots::forget_drafts);
        let mut shelf = Shelf::open(Box::new(durable.snapshots.clone())).unwrap();
        let snapshots = shelf.names();
        let head = snapshots.last().map(|name| shelf.head(*name).unwrap());
        let recovered = Recovered { facts: durable.facts, snapshots, head, entries };
        self.nodes.push(Node {
            member,
            replica,
            engine: Engine::restart(config, now, recovered).unwrap(),
            inbox: VecDeque::new(),
            durable,
            shelf,
            shelving: VecDeque::new(),
            pending: VecDeque::new(),
            applying: VecDeque::new(),
            applied: Index(0),
            applied_commands: BTreeSet::new(),
            proposed: Vec::new(),
            members: BTreeSet::new(),
            last_time: Timestamp(0),
            speed,
            hangs_until: Duration::ZERO,
            away_until: None,
        });
        self.configure(&[member]);
    }

    fn configure(&mut self, joined: &[Member]) {
        let present = |node: &&mut Node| node.away_until.is_none();
        let members: Vec<_> =
            self.nodes.iter_mut().filter(present).map(|node| node.member).collect();
        for node in self.nodes.iter_mut().filter(present) {
            node.inbox.push_back(Event::Configuration(members.clone(), joined.to_vec()));
        }
    }

    /// Of the writes under way some first operations may still get to the disk.
    fn kill(&mut self, at: usize) -> (ReplicaId, Store) {
        if self.trace {
            eprintln!("{:?} kill {}", self.monotonic, self.nodes[at].replica);
        }
        self.killed = true;
        let Node { replica, mut durable, pending, .. } = self.nodes.remove(at);
        let under_way: Vec<Op> = pending.into_iter().flat_map(|(_, ops)| ops).collect();
        let done = self.random.below(under_way.len() as u64 + 1) as usize;
        under_way.into_iter().take(done).for_each(|op| durable.write(op));
        self.configure(&[]);
        (replica, durable)
    }

    /// Now and then one dies, or all at once, and comes back with its store.
    fn power(&mut self) {
        while self.keeps && !self.nodes.is_empty() && self.random.chance(2) {
            let all = self.random.chance(300);
            for _ in 0..if all { self.nodes.len() } else { 1 } {
                let at = self.random.below(self.nodes.len() as u64) as usize;
                let until = self.monotonic + Duration::from_millis(self.random.below(4000));
                let (replica, store) = self.kill(at);
                self.down.push((replica, store, until));
            }
        }
        let now = self.monotonic;
        let due = self.down.iter().position(|(_, _, until)| *until <= now);
        if let Some((replica, store, _)) = due.map(|due| self.down.remove(due)) {
            self.restarts += 1;
            self.start(replica, store);
        }
    }

    /// The node's daemon dies, or its network: it loses what it had not taken in yet.
    fn go_away(&mut self, at: usize) {
        let for_ms = self.random.below(5000);
        self.nodes[at].away_until = Some(self.monotonic + Duration::from_millis(for_ms));
        self.nodes[at].inbox.clear();
        self.input(at, Input::Disconnected { reason: "a test".into() });
        self.configure(&[]);
    }

    /// It joins again, as a new member, and knows what it knew.
    fn come_back(&mut self, at: usize) {
        self.nodes[at].away_until = None;
        self.nodes[at].member.pid = Pid(self.next_pid);
        self.next_pid += 1;
        let member = self.nodes[at].member;
        self.configure(&[member]);
    }

    fn input(&mut self, at: usize, input: Input<u64>) {
        let now = self.now();
        let mut out = Vec::new();
        self.nodes[at].engine.step(now, input, &mut out);
        for output in out {
            self.carry_out(at, output);
        }
    }

    fn carry_out(&mut self, at: usize, output: Output<u64>) {
        match output {
            Output::Send(message) => self.send(at, message),
            Output::Write { ticket, ops } => self.nodes[at].pending.push_back((ticket, ops)),
            Output::Apply(entries) => {
                for committed in entries {
                    self.check_committed(at, &committed.entry, &committed.callers);
                }
                let applied = self.nodes[at].applied;
                self.nodes[at].applying.push_back(applied);
            }
            Output::Capture(head) => {
                let Node { applied, applied_commands, members, last_time, .. } = &self.nodes[at];
                let state = State {
                    applied: *applied,
                    commands: applied_commands.clone(),
                    members: members.clone(),
                    last_time: *last_time,
                    padding: vec![7; self.padding / 8],
                };
                self.nodes[at].shelving.push_back(Shelving::Capture(head, state));
            }
            Output::Restore(name) => self.restore(at, name),
            Output::Shelf(op) => self.nodes[at].shelving.push_back(Shelving::Op(op)),
            // They are to be found in the state.
            Output::Forgo { tickets } => self.acknowledged.extend(tickets),
            Output::Read { tickets } => {
                tickets.into_iter().for_each(|ticket| self.check_read(at, ticket));
            }
            Output::FailReads { tickets } => {
                let stopped = self.nodes[at].engine.status().stopped;
                for ticket in tickets {
                    let waited = self.monotonic - self.reads.remove(&ticket).unwrap().asked_at;
                    assert!(waited > Duration::from_secs(10) || stopped.is_some(), "{waited:?}");
                }
            }
            Output::Fail { .. } | Output::Answer { .. } => {}
            Output::Stop => {
                let stopped = self.nodes[at].engine.status().stopped;
                // Nothing in this world gives a reason to stop.
                panic!("replica {} stops: {stopped:?}", self.nodes[at].replica);
            }
        }
    }

    fn send(&mut self, at: usize, message: Message) {
        let (from, cluster) = (self.nodes[at].member, self.nodes[at].engine.cluster());
        if self.trace {
            eprintln!("{:?} {} sends {message:?}", self.monotonic, self.nodes[at].replica);
        }
        if self.nodes[at].away_until.is_some() {
            return;
        }
        self.messages += 1;
        if let Message::Report(report) = &message {
            // Rule P3: durable entries only, and all of them.
            let durable = &self.nodes[at].durable;
            let last = report.last.index;
            // A snapshot that is complete may wait to be gone on from.
            let holds = last == durable.last() || last == self.nodes[at].durable_to();
            assert!(holds, "a report names what is durable, and {last} is not the end of it");
            if let Some(entry) = durable.entries.get(&last) {
                assert_eq!(report.digest, entry.digest);
            }
            assert!(durable.facts.is_some_and(|facts| facts.promised >= report.ballot));
        }
        if let Message::Progress(progress) | Message::Batch(_, Some(progress)) = &message {
            // Rule P2.
            let acked = progress.acked;
            let durable = acked <= self.nodes[at].durable_to();
            assert!(durable, "acked {acked}, which is not durable");
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].away_until.is_none() && !self.random.chance(self.loss) {
                let event = Event::Message(from, cluster, Box::new(message.clone()));
                self.nodes[node].inbox.push_back(event);
            }
        }
    }

    /// Linearizable (rules R1 and R2): it sees all that anybody had an answer from before
    /// it was asked for.
    fn check_read(&mut self, at: usize, ticket: u64) {
        let read = self.reads.remove(&ticket).unwrap();
        let node = &self.nodes[at];
        assert!(node.applied >= read.answered, "{} sees too little", node.replica);
        let seen = |command| node.applied_commands.contains(command);
        assert!(read.proposed.iter().all(seen), "{} does not see its own", node.replica);
        self.answered = self.answered.max(node.applied);
    }

    fn read(&mut self, at: usize) {
        let ticket = self.next_read;
        self.next_read += 1;
        let in_order = self.random.chance(500);
        let run = self.nodes[at].engine.status().incarnation;
        let proposed = if in_order { self.nodes[at].proposed.clone() } else { Vec::new() };
        let (asked_at, answered) = (self.monotonic, self.answered);
        self.reads.insert(ticket, Read { run, asked_at, answered, proposed });
        self.input(at, Input::Read { ticket, in_order });
    }

    fn check_committed(&mut self, at: usize, entry: &plainsong::engine::Entry, callers: &[u64]) {
        let index = entry.position.index;
        let asked = self.wake_at(at);
        let node = &mut self.nodes[at];
        // Rule P4 is broken here if what a restarted replica applies was not committed.
        assert_eq!(index, node.applied.next(), "applied in order, without gaps");
        assert!(entry.time >= node.last_time, "the log's time never goes back");
        node.applied = index;
        node.last_time = entry.time;
        let known = *self.committed.entry(index).or_insert(entry.digest);
        assert_eq!(known, entry.digest, "two commits at index {index}");
        let batch = match &entry.content {
            Content::Batch(batch) => batch,
            Content::Notice(change) => {
                for run in &change.left {
                    assert!(node.members.remove(run), "{run} left before it came");
                }
                for run in &change.joined {
                    assert!(node.members.insert(*run), "{run} joined twice");
                }
                return;
            }
            Content::Time => {
                // Rule N11: asked for, and not early.
                assert!(asked.is_some_and(|at| at <= entry.time), "a time nobody asked for");
                return;
            }
            Content::EpochStart(_) => return,
        };
        let Origin { replica, nonce, .. } = batch.origin;
        let proposer = Incarnation { replica, nonce };
        assert!(node.members.contains(&proposer), "{proposer} proposes and is no member");
        let commands: Vec<u64> = batch
            .commands
            .chunks(12)
            .map(|command| u64::from_le_bytes(command[4..].try_into().unwrap()))
            .collect();
        for command in &commands {
            assert!(node.applied_commands.insert(*command), "{command} applied twice");
            let place = *self.places.entry(*command).or_insert(index);
            assert_eq!(place, index, "{command} is committed at two places");
        }
        if !callers.is_empty() {
            assert_eq!(callers, commands, "each caller gets its own answer");
            self.acknowledged.extend(callers);
            self.answered = self.answered.max(index);
        }
    }

    /// One turn of a node: some of what waits for it, then `Drained`.
    fn turn(&mut self, at: usize) {
        for _ in 0..self.random.below(20) {
            let Some(event) = self.nodes[at].inbox.pop_front() else { break };
            let local = self.nodes[at].member;
            let input = match event {
                Event::Message(from, cluster, message) => {
                    Input::Delivered { from, cluster, message: *message }
                }
                Event::Configuration(members, joined) => {
                    Input::Configuration { local, members, joined }
                }
            };
            self.input(at, input);
        }
        if self.random.chance(600)
            && let Some((ticket, ops)) = self.nodes[at].pending.pop_front()
        {
            ops.into_iter().for_each(|op| self.nodes[at].durable.write(op));
            self.input(at, Input::Written { ticket });
        }
        if self.random.chance(700)
            && let Some(index) = self.nodes[at].applying.pop_front()
        {
            let wake_at = self.wake_at(at);
            self.input(at, Input::Applied { index, wake_at });
        }
        for _ in 0..self.random.below(4) {
            self.shelve(at);
        }
        if self.random.chance(300) {
            self.input(at, Input::Tick);
        }
        self.input(at, Input::Drained);
    }

    /// A state machine that wants to be woken every two seconds, but not for ever.
    fn wake_at(&self, at: usize) -> Option<Timestamp> {
        let mut times = (1..=10).map(|nth| Timestamp(1_000_000 + 2000 * nth));
        times.find(|time| self.nodes[at].last_time < *time)
    }

    fn shelve(&mut self, at: usize) {
        let Node { shelf, shelving, .. } = &mut self.nodes[at];
        let news = match shelving.pop_front() {
            Some(Shelving::Capture(head, state)) => {
                let cut = Cutter::cut(&head, state, |chunk| {
                    shelf.take(chunk).map_err(std::io::Error::other)
                });
                Some(shelf.taken(cut.unwrap()).unwrap())
            }
            Some(Shelving::Op(op)) => shelf.carry_out(op).unwrap(),
            None => None,
        };
        if let Some(news) = news {
            self.input(at, Input::Shelf(news));
        }
    }

    fn restore(&mut self, at: usize, name: SnapshotName) {
        let Node { shelf, durable, .. } = &mut self.nodes[at];
        let read = |chunk| shelf.read(name, chunk).map_err(std::io::Error::other);
        let (head, mut rest) = Joiner::join(name, read).unwrap();
        let state: State = plainsong::snapshot::read(&mut rest).unwrap();
        assert_eq!(state.applied, head.position().index);
        self.restored += u64::from(durable.begins < state.applied);
        let node = &mut self.nodes[at];
        assert!(node.applied <= state.applied, "a snapshot never leads back");
        node.applied = state.applied;
        node.applied_commands = state.commands;
        node.members = state.members;
        node.last_time = state.last_time;
        node.applying.push_back(state.applied);
    }

    fn propose(&mut self, at: usize) {
        for _ in 0..1 + self.random.below(5) {
            let command = self.next_command;
            self.next_command += 1;
            self.nodes[at].proposed.push(command);
            let bytes = Bytes::copy_from_slice(&command.to_le_bytes());
            self.input(at, Input::Propose { ticket: command, command: bytes });
        }
    }

    fn step(&mut self) {
        self.monotonic += Duration::from_micros(self.random.below(20_000));
        self.power();
        if self.nodes.is_empty() {
            return;
        }
        let at = self.random.below(self.nodes.len() as u64) as usize;
        if self.random.chance(150) {
            self.propose(at);
        }
        if self.random.chance(100) {
            self.read(at);
        }
        if self.random.chance(self.hangs) {
            let for_ms = self.random.below(6000);
            self.nodes[at].hangs_until = self.monotonic + Duration::from_millis(for_ms);
        }
        if self.nodes[at].away_until.is_some_and(|until| self.monotonic >= until) {
            self.come_back(at);
        } else if self.nodes[at].away_until.is_none() && self.random.chance(self.aways) {
            self.go_away(at);
        }
        let Node { speed, hangs_until, .. } = self.nodes[at];
        if self.monotonic >= hangs_until && self.random.chance(speed) {
            self.turn(at);
        }
    }

    /// Faults, of which a majority of the first voters survives; then none.
    fn run(&mut self) {
        let minority = u64::from(self.voters).div_ceil(2);
        let kills = if self.keeps { 0 } else { self.random.below(minority) };
        let restart = self.random.chance(500);
        for round in 0..=kills {
            for _ in 0..300 + self.random.below(1500) {
                self.step();
            }
            if round < kills {
                let at = self.random.below(u64::from(self.voters) - round) as usize;
                let replica = self.nodes[at].replica;
                self.kill(at);
                if restart {
                    self.start(replica, Store::default());
                }
            }
        }
        self.settle();
    }

    /// The faults end: a majority must commit what it is given, and all whom the log still
    /// reaches must agree.
    fn settle(&mut self) {
        self.loss = 0;
        self.down.iter_mut().for_each(|(_, _, until)| *until = self.monotonic);
        self.keeps = false;
        while !self.down.is_empty() {
            self.power();
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].away_until.is_some() {
                self.come_back(at);
            }
        }
        let mut last = None;
        let (mut before, mut commits_before) = (0, 0);
        for round in 0..4000 {
            if round == 3000 {
                (before, commits_before) = (self.messages, self.committed.len());
            }
            self.monotonic += Duration::from_millis(5);
            for at in 0..self.nodes.len() {
                self.turn(at);
            }
            if round % 500 == 0 {
                (0..self.nodes.len()).for_each(|at| self.read(at));
                let at = self.nodes.iter().position(|node| {
                    matches!(node.engine.status().role, Role::Sequencer | Role::Voter)
                });
                if let Some(at) = at {
                    last = Some(self.next_command);
                    self.propose(at);
                }
            }
        }
        // 5 seconds, and nothing to do but what is left from before: no storm of answers to
        // answers.
        let sent = (self.messages - before) / self.nodes.len() as u64;
        let commits = (self.committed.len() - commits_before) as u64;
        assert!(sent < 100 + 3 * commits, "{sent} messages each for {commits} commits");
        if self.trace {
            self.nodes.iter().for_each(|node| eprintln!("{:#?}", node.engine.status()));
        }
        if self.committed.is_empty() && self.killed {
            // A new group needs every listed replica, and one died before it was formed.
            return;
        }
        let last = last.expect("a replica in step");
        assert!(self.acknowledged.contains(&last), "{last} was not acknowledged");
        let in_step = |node: &&Node| {
            let status = node.engine.status();
            status.role != Role::Learner
                || status.waiting.is_some_and(|w| w.starts_with("waiting for a vote"))
        };
        let ends: BTreeSet<_> = self.nodes.iter().filter(in_step).map(|n| n.applied).collect();
        assert_eq!(ends.len(), 1, "replicas in step have applied the same: {ends:?}");
        for node in self.nodes.iter().filter(in_step) {
            let applied = &node.applied_commands;
            assert!(self.acknowledged.is_subset(applied), "an acknowledged command is lost");
        }
        let run = |node: &Node| node.engine.status().incarnation;
        for node in self.nodes.iter().filter(in_step) {
            let waiting = self.reads.values().filter(|read| read.run == run(node)).count();
            assert_eq!(waiting, 0, "reads of replica {} are not answered", node.replica);
        }
        // Rule N9: in the end the order knows who is there.
        let here: BTreeSet<_> = self.nodes.iter().map(run).collect();
        for node in self.nodes.iter().filter(in_step) {
            assert_eq!(node.members, here, "as replica {} has it", node.replica);
        }
        self.caught_up = self.nodes.iter().all(|node| in_step(&node));
    }
}

#[test]
fn nothing_is_lost_or_applied_twice_whatever_the_seed() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, seeds) = match number("PLAINSONG_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("PLAINSONG_SEEDS").unwrap_or(300)),
    };
    let (mut commits, mut caught_up, mut restarts, mut restored) = (0, 0, 0, 0);
    for seed in first..first + seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            (world.committed.len(), world.caught_up, world.restarts, world.restored)
        });
        match run {
            Ok((count, all, again, snapshots)) => {
                restored += snapshots;
                commits += count;
                restarts += again;
                caught_up += u64::from(all);
            }
            Err(panic) => {
                eprintln!("seed {seed} failed; run it again with PLAINSONG_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!(
        "{seeds} seeds, {commits} commits, {restarts} restarts, {restored} snapshots received, everybody in step at the end of {caught_up}"
    );
    assert!(commits as u64 > seeds, "the runs did something");
}

/// The reasons to stop are for people to read.
#[test]
fn a_replica_that_cannot_write_stops_and_says_why() {
    let incarnation = Incarnation { replica: ReplicaId(1), nonce: Nonce(1) };
    let config = Config::new(incarnation, StoreId(1), vec![ReplicaId(1)]);
    let mut engine: Engine<u64> = Engine::new(config, Now::default());
    let mut out = Vec::new();
    engine.step(Now::default(), Input::WriteFailed { reason: "disk full".into() }, &mut out);
    assert!(matches!(out.last(), Some(Output::Stop)));
    assert_eq!(engine.status().stopped, Some(StopReason::WriteFailed("disk full".into())));
    out.clear();
    let command = Bytes::new();
    engine.step(Now::default(), Input::Propose { ticket: 7, command }, &mut out);
    assert!(
        matches!(&out[..], [Output::Fail { tickets, may_take_effect: false }] if *tickets == [7])
    );
}
