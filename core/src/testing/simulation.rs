use std::fmt;
use std::time::Duration;

use cpg::NodeId;
use cpg::sim::{Observed, Sim};

use super::ambush::Ambush;
use super::checker::{Checked, Violation, check};
use super::host::{Death, Host};
use super::trace::Trace;
use super::world::World;
use super::{Parameters, Theme, Workload};
use crate::StateMachine;
use crate::engine::{Role, VoterChange};
use crate::snapshot::Snapshot;
use crate::types::{Index, ReplicaId, Voter, Voters};

/// What the rates of [`Parameters`] count.
const MOMENT: Duration = Duration::from_millis(10);

/// How long a wake-up may take in an idle group, by the log's time: some ticks, and a way
/// through the group.
const LATE_MS: u64 = 2000;

/// Who is that close to the commit index follows the others.
const NEAR_ENTRIES: u64 = 20;

/// The longest time that a chunk takes beside clients who write as fast as they can, of an election
/// timeout.
const SLOW_CHUNK: f64 = 0.6;

/// With stores lost at this rate, they are lost beside changes of the voters too.
const LATE_WIPES: u32 = 800;

/// A group of replicas in a world where everything fails that may fail, without a thread, a
/// clock or I/O: one seed draws everything, so a run repeats.
///
/// First there are faults, and at every step it is checked that nothing is wrong. Then the
/// faults end, and everybody must agree within a bound; in the end an idle group must be
/// quiet.
pub struct Simulation<W: Workload> {
    pub(super) world: World<W>,
    pub(super) hosts: Vec<Host<W>>,
    next_moment: Duration,
    /// Stores that were lost before there was a group.
    losses: u32,
    learners_came: bool,
    /// Operators have asked for other voters.
    is_changing: bool,
    /// When the network that fell apart in the worst moment is whole again.
    pub(super) heals_at: Option<Duration>,
    pub(super) ambush: Option<Ambush>,
}

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Report {
    /// Entries that were committed.
    pub commits: u64,
    /// Commands that clients had an answer to.
    pub acknowledged: u64,
    /// Reads that were carried out.
    pub reads: u64,
    /// Snapshots that replicas went on from.
    pub restored: u64,
    /// Epochs that were opened.
    pub epochs: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// How long it took until everybody agreed, once the faults had ended.
    pub converged_after: Duration,
    /// What the network did.
    pub network: Observed,
}

impl<W: Workload> Simulation<W> {
    /// A group that is started now, as those parameters say.
    pub fn new(parameters: Parameters, workload: W) -> Self {
        Self::build(parameters, workload, Trace::default())
    }

    /// The same, told line by line; each line begins with the time in milliseconds.
    pub fn traced(
        parameters: Parameters,
        workload: W,
        reader: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        Self::build(parameters, workload, Trace::to(reader))
    }

    fn build(parameters: Parameters, workload: W, trace: Trace) -> Self {
        let machines = (1..=parameters.machines.max(1)).map(NodeId);
        let mut network = Sim::new(parameters.seed, machines, parameters.network);
        if trace.is_on() {
            let trace = trace.clone();
            network.on_trace(move |line| trace.line(line));
        }
        let (voters, learners) = (parameters.voters, parameters.learners);
        let machines = parameters.machines.max(1);
        let listed: Vec<_> = (1..=voters).map(ReplicaId).collect();
        let mut world = World::new(parameters, network, workload, trace);
        world.note(|| format!("{:?}", world.parameters));
        let hosts = (1..=voters + learners)
            .map(|id| {
                let bootstrap = if id <= voters { listed.clone() } else { Vec::new() };
                let node = NodeId(1 + (id - 1) % machines);
                Host::new(ReplicaId(id), node, bootstrap, &mut world)
            })
            .collect();
        Self {
            world,
            hosts,
            next_moment: MOMENT,
            losses: 0,
            learners_came: false,
            is_changing: false,
            heals_at: None,
            ambush: None,
        }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// What must never be, and was.
    pub fn run(&mut self) -> Result<Report, Violation> {
        let result = self.run_phases();
        if let Err(violation) = &result {
            self.world.note(|| format!("VIOLATION {violation}"));
            self.world.note(|| self.who_is_where());
        }
        result
    }

    fn run_phases(&mut self) -> Result<Report, Violation> {
        let faulty_for = self.world.parameters.faulty_for;
        while self.world.now() < faulty_for {
            self.step()?;
        }
        if self.world.parameters.disaster {
            self.suffer_disaster()?;
        }
        let converged_after = self.recover()?;
        self.rest()?;
        self.let_time_pass()?;
        self.compare_states()?;
        let checked = self.world.workload.check();
        checked.map_err(|what| Violation(format!("the clients' answers are wrong: {what}")))?;
        Ok(Report {
            commits: self.world.checker.committed().0,
            acknowledged: self.world.acknowledged,
            reads: self.world.reads,
            restored: self.world.restored,
            epochs: self.world.checker.epochs() as u64,
            messages: self.world.messages,
            simulated: self.world.now(),
            converged_after,
            network: self.world.network.observed(),
        })
    }

    /// A little time goes by.
    pub(super) fn step(&mut self) -> Checked {
        let by = self.world.random.up_to(self.world.parameters.step_max);
        self.world.network.advance(by + Duration::from_micros(1));
        let now = self.world.now();
        while !self.world.is_calm && now >= self.next_moment {
            self.next_moment += MOMENT;
            if !self.world.is_disaster && self.ambush.is_none() {
                self.fail_something()?;
            }
        }
        if self.heals_at.is_some_and(|at| now >= at) {
            self.heals_at = None;
            self.world.network.heal();
        }
        self.go_on_with_ambush()?;
        self.world.is_ambush = self.ambush.is_some();
        while let Some(at) = self.world.leaving.iter().position(|(until, _)| now >= *until) {
            let (_, connection) = self.world.leaving.swap_remove(at);
            self.world.network.close(connection);
        }
        if self.world.checker.committed() > Index(0) && !self.learners_came {
            self.learners_came = true;
            let learners = self.hosts.iter_mut().skip(self.world.parameters.voters as usize);
            learners.for_each(|host| host.restart_at = Some(now));
        }
        let first = self.world.random.below(self.hosts.len() as u64) as usize;
        for offset in 0..self.hosts.len() {
            let at = (first + offset) % self.hosts.len();
            self.hosts[at].turn(&mut self.world)?;
            if self.hosts[at].has_opened() {
                self.spring_ambush(at);
            }
            if self.hosts[at].is_to_heal() {
                self.heals_at = None;
                self.world.network.heal();
            }
            if self.hosts[at].is_to_split() {
                self.split();
            }
            if self.hosts[at].is_to_die() {
                self.kill(at, Death::Kill)?;
            }
        }
        self.world.act_as(None);
        Ok(())
    }

    /// The network falls into two parts, for as long as it does so by itself.
    fn split(&mut self) {
        let world = &mut self.world;
        let machines = (1..=world.parameters.machines.max(1)).map(NodeId);
        let (one, other): (Vec<_>, Vec<_>) = machines.partition(|_| world.random.chance(500));
        world.network.part(&[&one, &other]);
        let span = world.parameters.network.partition_max.max(world.parameters.election_timeout);
        self.heals_at = Some(world.now() + world.random.up_to(span));
    }

    fn fail_something(&mut self) -> Checked {
        let at = self.world.random.below(self.hosts.len() as u64) as usize;
        let random = &mut self.world.random;
        let p = &self.world.parameters;
        let (hangs, kills, stops) =
            (random.chance(p.hangs), random.chance(p.kills), random.chance(p.stops));
        let (disk_fails, jumps) = (random.chance(p.disk_failures), random.chance(p.wall_jumps));
        let changes = random.chance(p.voter_changes);
        let ambushes = p.ambushes > 0 && random.chance(p.ambushes);
        if ambushes {
            self.lay_ambush();
        }
        if hangs {
            self.hosts[at].hang(&mut self.world);
        }
        if jumps {
            self.hosts[at].clock.jump(&mut self.world.random);
        }
        if kills {
            self.kill(at, Death::Kill)?;
        } else if stops {
            self.kill(at, Death::Stop)?;
        } else if disk_fails && (self.keeps_store() || self.can_lose(at)) {
            self.losses += u32::from(!self.keeps_store());
            self.hosts[at].fail_disk(&mut self.world);
        }
        if changes {
            self.change_voters(at)?;
        }
        let (p, rarities) = (&self.world.parameters, &mut self.world.rarities);
        let (blocks, lies) =
            (p.blocks > 0 && rarities.chance(p.blocks), p.lies > 0 && rarities.chance(p.lies));
        let at = rarities.below(self.hosts.len() as u64) as usize;
        if blocks {
            self.hosts[at].block(&mut self.world);
        }
        if lies {
            self.hosts[at].lie(&mut self.world);
        }
        Ok(())
    }

    /// A store outlives its process.
    pub(super) fn keeps_store(&self) -> bool {
        !self.world.parameters.in_memory
    }

    /// Whether the group can bear the loss of that store: of all voters that anybody may count
    /// with, a majority has its store, and lives or will live again.
    fn can_lose(&self, at: usize) -> bool {
        let victim = self.hosts[at].replica;
        if self.world.checker.last_open().is_none() {
            let listed = self.world.parameters.voters;
            return victim.0 > listed || self.losses < (listed - 1) / 2;
        }
        // A change that is asked for may name a store in the moment in which it is lost.
        if self.is_changing && !(self.never_shrinks() && self.others_are_whole(victim)) {
            return false;
        }
        let is_lost = |voter: &&Voter| {
            let store = self.world.stores.get(&voter.replica);
            voter.replica == victim
                || store.is_none_or(|store| {
                    let is_doomed = store.damage.is_some() || store.full_until == Duration::MAX;
                    store.id != voter.store || is_doomed
                })
                || self.hosts[voter.replica.0 as usize - 1].is_gone()
        };
        let bears = |set: &Vec<Voter>| set.iter().filter(is_lost).count() * 2 < set.len();
        self.sets_that_count().all(bears)
    }

    /// Whether voters are only added and replaced, so that any set bears the loss of one.
    fn never_shrinks(&self) -> bool {
        let p = &self.world.parameters;
        p.voters >= 3 && p.wipes >= LATE_WIPES
    }

    /// Whether all other stores are there, and are those that everybody counts with.
    fn others_are_whole(&self, victim: ReplicaId) -> bool {
        let is_whole = |replica: &ReplicaId| {
            let store = self.world.stores.get(replica);
            !self.hosts[replica.0 as usize - 1].is_gone()
                && store
                    .is_some_and(|store| store.damage.is_none() && store.full_until < Duration::MAX)
        };
        let is_current = |voter: &Voter| {
            let store = self.world.stores.get(&voter.replica);
            store.is_some_and(|store| store.id == voter.store)
        };
        let mut all = self.hosts.iter().map(|host| host.replica);
        all.all(|replica| replica == victim || is_whole(&replica))
            && self.sets_that_count().flatten().all(is_current)
    }

    /// The sets of voters of which majorities may be needed.
    fn sets_that_count(&self) -> impl Iterator<Item = &Vec<Voter>> {
        let known = self.hosts.iter().filter_map(|host| {
            let voters = self.world.stores.get(&host.replica)?.digests.voters()?;
            let commit = host.process.as_ref().map_or(Index(0), |p| p.engine.commit());
            Some((voters, commit))
        });
        let open = self.world.checker.last_open().map(|open| (&open.voters, Index(0)));
        known.chain(open).flat_map(|(voters, commit)| {
            let previous = (!voters.is_settled(commit)).then_some(&voters.previous);
            std::iter::once(&voters.now).chain(previous)
        })
    }

    /// All voters that anybody may count with.
    pub(super) fn voters_known(&self) -> impl Iterator<Item = &Voters> {
        let logs = self.world.stores.values().filter_map(|store| store.digests.voters());
        let open = self.world.checker.last_open().map(|open| &open.voters);
        let running = self.hosts.iter().filter_map(|host| host.process.as_ref());
        logs.chain(open).chain(running.map(|process| process.engine.voters()))
    }

    fn kill(&mut self, at: usize, death: Death) -> Checked {
        if self.hosts[at].process.is_none() {
            return Ok(());
        }
        let wiped =
            !self.world.is_disaster && self.world.random.chance(self.world.parameters.wipes);
        if self.world.is_disaster && !self.keeps_store() {
            return Ok(());
        }
        let flips =
            !self.world.is_disaster && self.world.random.chance(self.world.parameters.flips);
        if self.keeps_store() && !((wiped || flips) && self.can_lose(at)) {
            return self.hosts[at].die(&mut self.world, death);
        }
        if self.keeps_store() && !wiped {
            self.losses += u32::from(at < self.world.parameters.voters as usize);
            return self.hosts[at].die(&mut self.world, Death::Flip);
        }
        if self.can_lose(at) {
            self.losses += u32::from(at < self.world.parameters.voters as usize);
            return self.hosts[at].die(&mut self.world, Death::Wipe);
        }
        Ok(())
    }

    /// Some replica is to vote, or not. Not while a store is lost that anybody counts with: who
    /// decides may not have noticed it yet.
    fn change_voters(&mut self, at: usize) -> Checked {
        let is_lost = |voter: &Voter| {
            let store = self.world.stores.get(&voter.replica);
            store.is_none_or(|store| store.id != voter.store || store.damage.is_some())
        };
        if self.voters_known().any(|voters| voters.now.iter().any(is_lost)) {
            return Ok(());
        }
        self.is_changing = true;
        let random = &mut self.world.random;
        let mut any = || ReplicaId(1 + random.below(self.hosts.len() as u64) as u32);
        let (one, other) = (any(), any());
        let kind = random.below(3);
        let change = match kind {
            0 => VoterChange::Add(one),
            1 if !self.never_shrinks() => VoterChange::Remove(one),
            _ => VoterChange::Replace(one, other),
        };
        self.hosts[at].ask(&mut self.world, change)
    }

    /// The faults end: what is proposed must commit, and everybody must agree.
    fn recover(&mut self) -> Checked<Duration> {
        let began = self.world.now();
        self.world.note(|| "CALM: the faults end".into());
        self.heals_at = None;
        self.world.network.calm();
        self.world.is_calm = true;
        if self.world.parameters.some_stay_dead && self.world.checker.committed() > Index(0) {
            self.leave_some_dead()?;
        }
        let Self { hosts, world, .. } = self;
        hosts.iter_mut().for_each(|host| host.calm(world));
        let p = &self.world.parameters;
        let faults = &p.network;
        let bound = p.election_timeout * 40
            + faults.detection_max * 10
            + faults.sync_max * 10
            + Duration::from_secs(20);
        let acknowledged = self.world.acknowledged;
        while self.world.acknowledged < acknowledged + self.hosts.len() as u64 {
            self.step()?;
            check(self.world.now() < began + bound, || {
                format!("liveness: nothing new is committed\n{}", self.who_is_where())
            })?;
        }
        if self.world.parameters.theme == Theme::Transfers {
            self.take_in_beside_writers(bound)?;
        }
        let began_to_settle = self.world.now();
        self.world.is_busy = false;
        let mut converged_at = None;
        let settles = self.world.parameters.election_timeout * 6;
        loop {
            self.step()?;
            let now = self.world.now();
            if self.has_converged() {
                let since = *converged_at.get_or_insert(now);
                if now - since > settles {
                    return Ok(since - began);
                }
            } else if !self.world.checker.ends_in_time() {
                // A time that is ordered has yet to come to everybody.
                converged_at = None;
            }
            check(now < began_to_settle + bound, || {
                format!("liveness: replicas do not agree\n{}", self.who_is_where())
            })?;
        }
    }

    /// Rule L7: whoever comes with an empty store gets what it lacks while clients write as fast
    /// as they can.
    fn take_in_beside_writers(&mut self, bound: Duration) -> Checked {
        let is_here = |host: &Host<W>| {
            host.process.as_ref().is_some_and(|process| !process.stopped)
                && self.world.is_newest(host.cluster())
        };
        let at = (0..self.hosts.len()).rev().find(|at| is_here(&self.hosts[*at]));
        let Some(at) = at.filter(|at| self.can_lose(*at)) else { return Ok(()) };
        self.hosts[at].die(&mut self.world, Death::Wipe)?;
        self.hosts[at].restart_at = Some(self.world.now());
        let p = &mut self.world.parameters;
        let usual = (p.think_max, p.chunk_max, p.capture_max);
        (p.think_max, p.chunk_max) = (Duration::ZERO, p.election_timeout.mul_f64(SLOW_CHUNK));
        p.capture_max = p.chunk_max * 5;
        let began = self.world.now();
        let is_near = |simulation: &Self| {
            let committed = simulation.world.checker.committed();
            let process = simulation.hosts[at].process.as_ref();
            process.is_some_and(|p| p.engine.last().0 + NEAR_ENTRIES >= committed.0)
        };
        while !is_near(self) {
            self.step()?;
            check(self.world.now() < began + bound, || {
                format!(
                    "L7: {} does not catch up with those who write\n{}",
                    self.hosts[at].replica,
                    self.who_is_where()
                )
            })?;
        }
        let p = &mut self.world.parameters;
        (p.think_max, p.chunk_max, p.capture_max) = usual;
        Ok(())
    }

    fn leave_some_dead(&mut self) -> Checked {
        let count = self.hosts.len();
        let first = self.world.random.below(count as u64) as usize;
        for at in (0..count).map(|offset| (first + offset) % count) {
            if self.world.random.chance(500) && !self.is_changing && self.can_lose(at) {
                self.hosts[at].die(&mut self.world, Death::Kill)?;
                self.hosts[at].restart_at = None;
            }
        }
        Ok(())
    }

    pub(super) fn has_converged(&self) -> bool {
        let mut ends = self.alive().map(|(_, engine)| (engine.last(), engine.last_epoch()));
        let Some(first) = ends.next() else { return true };
        self.is_one_group()
            && first.0 == self.world.checker.committed()
            && ends.all(|end| end == first)
            && self.alive().all(|(_, engine)| engine.is_at_rest())
            && self.hosts.iter().all(|host| {
                (host.process.is_some() || host.restart_at.is_none())
                    && !(self.world.is_newest(host.cluster()) && host.is_waited_for(&self.world))
            })
    }

    /// All machines are in one ring and know of all processes; of dead ones some may know as well.
    fn is_one_group(&self) -> bool {
        if !self.world.network.has_one_ring() {
            return false;
        }
        let mut machines = (1..=self.world.parameters.machines.max(1)).map(NodeId);
        machines.all(|machine| {
            let members = self.world.network.members(machine);
            let mut processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
            processes.all(|process| members.contains(&process.member()))
        })
    }

    fn alive(
        &self,
    ) -> impl Iterator<Item = (ReplicaId, &crate::engine::Engine<super::checker::ProposalId>)> {
        self.hosts
            .iter()
            .filter(|host| self.world.is_newest(host.cluster()))
            .filter_map(|host| host.process.as_ref().map(|p| (host.replica, &p.engine)))
    }

    /// An idle group commits nothing, and says no more than that it is there.
    fn rest(&mut self) -> Checked {
        let timeouts = 10;
        let until = self.world.now() + self.world.parameters.election_timeout * timeouts;
        let (messages, commits) = (self.world.messages, self.world.checker.committed());
        let (epochs, times) = (self.world.checker.epochs(), self.world.checker.times());
        let requests = self.world.requests.len();
        let heard: Vec<u64> = self.hosts.iter().map(Host::sent).collect();
        while self.world.now() < until {
            self.step()?;
            self.check_wake_ups()?;
        }
        for (host, before) in self.hosts.iter().zip(heard) {
            let here = host.process.is_some() && self.world.is_newest(host.cluster());
            check(!here || host.sent() >= before + u64::from(timeouts) / 2, || {
                format!("N7: {} says nothing, not even that it is there", host.replica)
            })?;
        }
        let times = self.world.checker.times() - times;
        // An operator's request that waited for somebody may come true at any time.
        if requests > 0 {
            return Ok(());
        }
        let alive = self.alive().count() as u64;
        let strangers = self.hosts.iter().any(|host| !self.world.is_newest(host.cluster()));
        let sent = self.world.messages - messages;
        // The sequencer speaks four times a timeout, the others once.
        let most = u64::from(timeouts) * (alive + 3) * 2 + 10 * alive + times * (alive + 1) * 2;
        check(sent <= most || strangers, || {
            format!("idle: {sent} messages of {alive} replicas, {most} at most")
        })?;
        let commits = self.world.checker.committed().0 - commits.0;
        check(commits == times, || format!("idle: {commits} entries commit, {times} are times"))?;
        check(self.world.checker.epochs() == epochs, || "idle: epochs change".into())?;
        check(self.alive().all(|(_, engine)| engine.knows_members()), || {
            format!("N9: the order does not know who is here\n{}", self.who_is_where())
        })?;
        let sequencers =
            self.alive().filter(|(_, engine)| engine.status().role == Role::Sequencer).count();
        check(sequencers == 1, || format!("idle: {sequencers} sequencers"))?;
        check(self.alive().all(|(_, engine)| engine.votes() || !engine.is_sequencer()), || {
            format!("B7: a replica sequences that does not vote\n{}", self.who_is_where())
        })
    }

    /// Rule N11: who wants to be woken is so in an idle group too, in time.
    fn check_wake_ups(&self) -> Checked {
        let here = self.hosts.iter().filter(|host| self.world.is_newest(host.cluster()));
        let mut processes = here.filter_map(|host| host.process.as_ref());
        let sequencer = processes.find(|process| process.engine.is_sequencer());
        let Some(process) = sequencer else { return Ok(()) };
        let asked = process.machine().wake_at();
        let log_time = process.engine.log_time();
        check(asked.is_none_or(|at| at.0.saturating_add(LATE_MS) > log_time.0), || {
            format!("N11: at {log_time} an idle group has not woken who asked for {asked:?}")
        })
    }

    /// Everybody has the same state, and the workload is content with it.
    fn compare_states(&mut self) -> Checked {
        let until = self.world.now() + self.world.parameters.election_timeout * 10;
        while !self.has_converged() {
            self.step()?;
            check(self.world.now() < until, || {
                format!("liveness: replicas agree no more\n{}", self.who_is_where())
            })?;
        }
        let mut known: Option<(ReplicaId, Vec<u8>)> = None;
        for host in &self.hosts {
            let here = host.process.as_ref().filter(|_| self.world.is_newest(host.cluster()));
            let Some(process) = here else { continue };
            let (replica, machine) = (host.replica, process.machine());
            let mut state = Vec::new();
            let written = machine.snapshot().write(&mut state);
            written.map_err(|e| Violation(format!("a snapshot cannot be written: {e}")))?;
            match &known {
                Some((other, as_there)) => check(state == *as_there, || {
                    format!("determinism: {replica} and {other} have another state in the end")
                })?,
                None => {
                    let content =
                        self.world.workload.at_rest(machine, self.world.checker.members());
                    content
                        .map_err(|what| Violation(format!("the state at rest is wrong: {what}")))?;
                    known = Some((replica, state));
                }
            }
        }
        Ok(())
    }

    /// Everybody's state, for people.
    pub(super) fn who_is_where(&self) -> String {
        let committed = self.world.checker.committed();
        let mut text = format!("{} ms, committed {committed}", self.world.now().as_millis());
        for host in &self.hosts {
            text += &match &host.process {
                None => format!("\n{} is dead", host.replica),
                Some(process) => {
                    let status = process.engine.status();
                    format!(
                        "\n{} {:?} epoch {} promised {} last {} committed {} applied {} waiting: {}",
                        host.replica,
                        status.role,
                        status.epoch.map_or_else(|| "none".into(), |epoch| epoch.to_string()),
                        status.promised,
                        status.last,
                        status.committed,
                        status.applied,
                        status.waiting.unwrap_or_else(|| "for nothing".into())
                    )
                }
            };
        }
        text
    }
}

impl<W: Workload> fmt::Debug for Simulation<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("parameters", &self.world.parameters)
            .field("now", &self.world.now())
            .finish_non_exhaustive()
    }
}
