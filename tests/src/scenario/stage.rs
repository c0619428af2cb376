use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cpg::NodeId;
use cpg::sim::{Faults, Sim};
use datadriven::{DataDrivenError, TestCase};
use plainsong::engine::{Entry, Input, VoterChange};
use plainsong::message::Message;
use plainsong::{Ballot, ClusterId, Digest, Index, ReplicaId};

use super::replica::{Mail, News, Replica, Settings};
use super::words;

/// A scenario in progress; see the [module](super).
#[derive(Default)]
pub struct Scenario {
    stage: Option<Stage>,
    /// Settings that the `group` command completes.
    settings: Settings,
}

impl Scenario {
    /// Executes one command and returns the events that it caused.
    ///
    /// # Errors
    ///
    /// If the command is invalid, or if something happens that must never happen.
    pub fn play(&mut self, case: &mut TestCase) -> Result<String, String> {
        let text = self.carry_out(case).map_err(|error| error.to_string())??;
        case.expect_empty().map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn carry_out(
        &mut self,
        case: &mut TestCase,
    ) -> Result<Result<String, String>, DataDrivenError> {
        if case.directive == "group" {
            let voters: u32 = case.take_arg("replicas")?;
            let others: u32 = case.try_take_arg("others")?.unwrap_or(0);
            let learners = case.try_take_arg("learners")?.unwrap_or(0);
            let ms = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or(0));
            let faults = Faults {
                detection_max: ms(case.try_take_arg("detection")?),
                sync_max: ms(case.try_take_arg("sync")?),
                ..Faults::default()
            };
            let mut settings = self.settings;
            settings.snapshot_entries = case.try_take_arg("snapshot-every")?;
            settings.kept_entries_max = case.try_take_arg("kept")?;
            settings.cached_bytes_max = case.try_take_arg("cached")?;
            settings.state_kib = case.try_take_arg("state-kib")?.unwrap_or(0);
            let stage = Stage::new([voters, others, learners], faults, settings);
            return Ok(stage.map(|stage| {
                self.stage = Some(stage);
                String::new()
            }));
        }
        match &mut self.stage {
            Some(stage) => stage.carry_out(case),
            None => Ok(Err("the first command must be `group`".into())),
        }
    }
}

/// An index in the log of a cluster.
type Place = (Option<ClusterId>, Index);

struct Stage {
    sim: Sim,
    trace: Arc<Mutex<Vec<String>>>,
    replicas: BTreeMap<u32, Replica>,
    mail: Mail,
    tickets: u64,
    /// Ballots whose `Begin` and whose `Open` have been recorded.
    begun: BTreeSet<Ballot>,
    opened: BTreeSet<Ballot>,
    /// Digests of all entries committed so far, by cluster.
    committed: BTreeMap<Place, Digest>,
    /// Entries applied since the last command, and the replicas that applied them.
    applied: BTreeMap<Place, (String, Vec<u32>)>,
    /// Chunks sent since the last command, by sender and index of the snapshot.
    chunks: BTreeMap<(u32, Index), Vec<u64>>,
}

impl Stage {
    fn new(
        [voters, others, learners]: [u32; 3],
        faults: Faults,
        settings: Settings,
    ) -> Result<Self, String> {
        let groups = [1..=voters, voters + 1..=voters + others];
        let all = 1..=voters + others + learners;
        let mut sim = Sim::new(1, all.clone().map(NodeId), faults);
        let trace = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&trace);
        sim.on_trace(move |line| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(words::network(line));
        });
        let mut stage = Self {
            sim,
            trace,
            replicas: BTreeMap::new(),
            mail: Vec::new(),
            tickets: 0,
            begun: BTreeSet::new(),
            opened: BTreeSet::new(),
            committed: BTreeMap::new(),
            applied: BTreeMap::new(),
            chunks: BTreeMap::new(),
        };
        for id in all {
            let group = groups.iter().find(|group| group.contains(&id));
            let listed = group.map(|group| group.clone().map(ReplicaId).collect());
            let is_listed = listed.is_some();
            let mut replica = Replica::new(ReplicaId(id), listed.unwrap_or_default(), settings)?;
            if is_listed {
                replica.start(Duration::ZERO)?;
            }
            stage.replicas.insert(id, replica);
        }
        Ok(stage)
    }

    fn carry_out(
        &mut self,
        case: &mut TestCase,
    ) -> Result<Result<String, String>, DataDrivenError> {
        let result = match case.directive.as_str() {
            "run" => {
                let ms: u64 = case.take_arg("ms")?;
                self.run(ms)
            }
            "status" => Ok(self.status()),
            "log" => self.log(case.take_arg("replica")?),
            "propose" => {
                let (at, commands) = (case.take_arg("at")?, case.take_args("commands")?);
                self.propose(at, commands)
            }
            "read" => {
                let (at, ticket) = (case.take_arg("at")?, self.new_ticket());
                self.ask(at, Input::Read { ticket, after_proposals: false })
            }
            "replace" => {
                let [old, new] = [case.take_arg("old")?, case.take_arg("new")?].map(ReplicaId);
                self.change_voters(VoterChange::Replace(old, new))
            }
            "admit" => {
                let new = ReplicaId(case.take_arg("replica")?);
                self.change_voters(VoterChange::Add(new))
            }
            "copy" => {
                let (from, to): (u32, u32) = (case.take_arg("from")?, case.take_arg("to")?);
                self.copy(from, to)
            }
            "force" => {
                let (at, ticket) = (case.take_arg("replica")?, self.new_ticket());
                self.ask(at, Input::ForceNewCluster { ticket })
            }
            "part" => {
                let mut parts: Vec<Vec<NodeId>> = Vec::new();
                for name in ["one", "two", "three"] {
                    let nodes: Option<Vec<u32>> = case.try_take_args(name)?;
                    parts.extend(nodes.map(|nodes| nodes.into_iter().map(NodeId).collect()));
                }
                let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
                self.sim.part(&parts);
                Ok(self.take_events())
            }
            "lose-next" => {
                let (from, at): (u32, Vec<u32>) = (case.take_arg("from")?, case.take_args("at")?);
                let at: Vec<_> = at.into_iter().map(NodeId).collect();
                self.sim.lose_next(NodeId(from), &at);
                Ok(self.take_events())
            }
            "heal" | "stall-next-sync" => {
                match case.directive.as_str() {
                    "heal" => self.sim.heal(),
                    _ => self.sim.stall_next_sync(),
                }
                Ok(self.take_events())
            }
            "set-clock" => {
                let id: u32 = case.take_arg("replica")?;
                let [ahead, behind]: [Option<i64>; 2] =
                    [case.try_take_arg("ahead")?, case.try_take_arg("behind")?];
                let error_ms = ahead.unwrap_or(0) - behind.unwrap_or(0);
                let set = self.replica(id).map(|replica| replica.clock_error_ms = error_ms);
                set.map(|()| self.take_events())
            }
            "kill" | "start" | "wipe" | "hang" | "wake" | "hold-disk" | "release-disk" => {
                let id: u32 = case.take_arg("replica")?;
                self.direct_replica(&case.directive, id)
            }
            _ => {
                let node: u32 = case.take_arg("node")?;
                self.direct_node(&case.directive, NodeId(node))
            }
        };
        Ok(result)
    }

    fn replica(&mut self, id: u32) -> Result<&mut Replica, String> {
        self.replicas.get_mut(&id).ok_or_else(|| format!("there is no replica {id}"))
    }

    fn copy(&mut self, from: u32, to: u32) -> Result<String, String> {
        let copy = self.replica(from)?.copied_to(NodeId(to))?;
        self.replicas.insert(to, copy);
        Ok(self.take_events())
    }

    fn direct_replica(&mut self, what: &str, id: u32) -> Result<String, String> {
        let now = self.sim.now();
        let replica = self.replicas.get_mut(&id).ok_or_else(|| format!("no replica {id}"))?;
        match what {
            "kill" => replica.kill(&mut self.sim)?,
            "start" => replica.start(now)?,
            "wipe" => replica.wipe()?,
            "hang" => replica.hangs = true,
            "wake" => replica.hangs = false,
            "hold-disk" => replica.holds_disk = true,
            _ => replica.holds_disk = false,
        }
        Ok(self.take_events())
    }

    fn direct_node(&mut self, what: &str, node: NodeId) -> Result<String, String> {
        match what {
            "pause-daemon" => self.sim.pause_daemon(node),
            "resume-daemon" => self.sim.resume_daemon(node),
            "kill-daemon" => self.sim.kill_daemon(node),
            "start-daemon" => self.sim.start_daemon(node),
            "lose-token" => self.sim.lose_token(node),
            "straddle-next" => self.sim.straddle_next(node),
            "swallow-next" => self.sim.swallow_next(node, 1),
            other => return Err(format!("there is no command {other}")),
        }
        Ok(self.take_events())
    }

    fn propose(&mut self, at: u32, commands: Vec<String>) -> Result<String, String> {
        let now = self.sim.now();
        let mut news = Vec::new();
        let replica = self.replica(at)?;
        replica.process()?;
        for ticket in commands {
            let command = Bytes::copy_from_slice(ticket.as_bytes());
            replica.input(now, Input::Propose { ticket, command, deadline: None }, &mut news);
        }
        replica.input(now, Input::Drained, &mut news);
        self.hear(at, news)?;
        Ok(self.take_events())
    }

    /// Passes an operator's request to change the voters to the sequencer.
    fn change_voters(&mut self, change: VoterChange) -> Result<String, String> {
        let sequencer = self.replicas.values().find(|replica| replica.is_sequencer());
        let at = sequencer.ok_or("there is no sequencer")?.id.0;
        let ticket = self.new_ticket();
        self.ask(at, Input::ChangeVoters { ticket, change })
    }

    fn new_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn ask(&mut self, at: u32, request: Input<String>) -> Result<String, String> {
        let (now, mut news) = (self.sim.now(), Vec::new());
        let replica = self.replica(at)?;
        replica.process()?;
        replica.input(now, request, &mut news);
        replica.input(now, Input::Drained, &mut news);
        self.hear(at, news)?;
        Ok(self.take_events())
    }

    fn run(&mut self, ms: u64) -> Result<String, String> {
        for _ in 0..ms {
            self.sim.advance(Duration::from_millis(1));
            for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                let mut news = Vec::new();
                if let Some(replica) = self.replicas.get_mut(&id) {
                    replica.turn(&mut self.sim, &mut self.mail, &mut news);
                }
                self.hear(id, news)?;
            }
        }
        Ok(self.take_events())
    }

    /// Records the events of a replica.
    fn hear(&mut self, id: u32, news: Vec<News>) -> Result<(), String> {
        for news in news {
            let line = match news {
                News::Sends(Message::Begin(ballot)) if self.begun.insert(ballot) => {
                    format!("{id} begins ballot {}", words::ballot(ballot))
                }
                News::Sends(Message::Open(open)) if self.opened.insert(open.ballot) => {
                    format!("{id} {}", words::open(&open))
                }
                News::Sends(Message::Fetch(fetch)) => format!("{id} {}", words::fetch(&fetch)),
                News::Sends(Message::Entries(entries)) => {
                    format!("{id} sends entries from [{}] on", entries.first)
                }
                News::Sends(Message::Offer(offer)) => format!("{id} {}", words::offer(&offer)),
                News::Sends(Message::Chunk(chunk)) => {
                    let stream = (id, chunk.name.index());
                    self.chunks.entry(stream).or_default().push(chunk.number);
                    continue;
                }
                News::Sends(_) => continue,
                News::Applies(entry) => {
                    self.apply(id, &entry)?;
                    continue;
                }
                News::Answers(command) => format!("{id} answers '{command}'"),
                News::Fails { commands, may_take_effect } => format!(
                    "{id} fails {}, which {} take effect",
                    words::list(commands),
                    if may_take_effect { "may" } else { "will not" }
                ),
                News::LosesOutput(commands) => {
                    format!(
                        "{id} does not know the output of {}, which took effect",
                        words::list(commands)
                    )
                }
                News::Restores(name) => {
                    format!("{id} installs the snapshot at [{}]", name.index())
                }
                News::ReadsLog(first) => format!("{id} reads its stored log from [{first}] on"),
                News::Sees(commands) => format!("{id} reads {commands}"),
                News::ReadFails(why) => format!("{id} cannot read: {why}"),
                News::Breaks(what) => return Err(what),
                News::Operator(answer) => format!("{id} answers the operator: {answer}"),
                News::Stops(reason) => format!("{id} stops: {reason}"),
            };
            let mut lines = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
            // Repeated messages are recorded once.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        Ok(())
    }

    /// Whatever the story: one entry at each index.
    fn apply(&mut self, id: u32, entry: &Entry) -> Result<(), String> {
        let index = entry.position.index;
        let cluster = self.replica(id)?.process.as_ref().and_then(|p| p.engine.cluster());
        let known = *self.committed.entry((cluster, index)).or_insert(entry.digest);
        if known != entry.digest {
            return Err(format!("two entries are committed at index {index}"));
        }
        let text = words::entry(entry.position.epoch, &entry.payload);
        let (_, replicas) = self.applied.entry((cluster, index)).or_insert((text, Vec::new()));
        if !replicas.contains(&id) {
            replicas.push(id);
        }
        Ok(())
    }

    /// Returns the events recorded since the last call.
    fn take_events(&mut self) -> String {
        let lines = mem::take(&mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lines = words::together(lines);
        for ((id, index), numbers) in mem::take(&mut self.chunks) {
            let numbers = words::list(numbers);
            lines.push(format!("{id} sends chunks {numbers} of the snapshot at [{index}]"));
        }
        for ((_, index), (text, mut replicas)) in mem::take(&mut self.applied) {
            replicas.sort_unstable();
            lines.push(format!("[{index}] {text} (applied at {})", words::list(replicas)));
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn status(&self) -> String {
        let mut text = String::new();
        for (id, replica) in &self.replicas {
            let Some(process) = &replica.process else {
                text += &format!("{id} is dead\n");
                continue;
            };
            let status = process.engine.status();
            let epoch = status.epoch.map_or_else(|| "none".into(), words::ballot);
            if let Some(reason) = status.stopped {
                text += &format!("{id} has stopped: {reason}\n");
                continue;
            }
            text += &format!(
                "{id} {} of epoch {epoch}, log to {}, applied to {}{}\n",
                status.role,
                status.last,
                status.applied,
                status.waiting.map_or_else(String::new, |what| format!("; {what}"))
            );
            if let Some(foreign) = status.foreign {
                text += &format!("{id} ignores members of cluster {foreign}\n");
            }
        }
        text
    }

    fn log(&mut self, id: u32) -> Result<String, String> {
        let entries = self.replica(id)?.durable();
        let line = |entry: &Entry| {
            let text = words::entry(entry.position.epoch, &entry.payload);
            format!("[{}] {text}\n", entry.position.index)
        };
        Ok(entries.iter().map(line).collect())
    }
}
