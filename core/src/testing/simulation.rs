use std::fmt;
use std::time::Duration;

use cpg::NodeId;
use cpg::sim::{Observed, Sim};

use super::checker::{Checked, Violation};
use super::faults::staged::StagedFault;
use super::faults::{Armed, armed};
use super::host::{Death, Host};
use super::trace::Trace;
use super::world::World;
use super::{Parameters, Workload};
use crate::wire::types::{Index, ReplicaId};

/// Unit of time of the rates in [`Parameters`].
const MOMENT: Duration = Duration::from_millis(10);

/// A group of replicas in a simulated world with faults, without threads, clocks or I/O. The seed
/// determines everything, so a run is repeatable.
///
/// A run has phases. First there are faults, and the checkers examine every step. Then the faults
/// end, and all replicas must agree within a bounded time. At the end an idle group must be quiet.
pub struct Simulation<W: Workload> {
    pub(super) world: World<W>,
    pub(super) hosts: Vec<Host<W>>,
    next_moment: Duration,
    /// Number of stores lost before the first epoch was opened.
    pub(super) losses: u32,
    learners_came: bool,
    /// True once an operator has asked for a change of the voters.
    pub(super) is_changing: bool,
    /// Time at which a network that was split on purpose heals.
    pub(super) heals_at: Option<Duration>,
    pub(super) staged: Option<StagedFault>,
    pub(super) faults: Vec<Armed<W>>,
}

/// Counters of a finished run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Report {
    /// Committed entries.
    pub commits: u64,
    /// Commands whose clients received their output.
    pub acknowledged: u64,
    /// Executed reads.
    pub reads: u64,
    /// Snapshots that replicas installed.
    pub restored: u64,
    /// Opened epochs.
    pub epochs: u64,
    /// Sent messages.
    pub messages: u64,
    /// Simulated duration of the run.
    pub simulated: Duration,
    /// Time from the end of the faults until all replicas agreed.
    pub converged_after: Duration,
    /// Events that occurred in the network.
    pub network: Observed,
}

impl<W: Workload> Simulation<W> {
    /// Starts a group with these parameters.
    pub fn new(parameters: Parameters, workload: W) -> Self {
        Self::build(parameters, workload, Trace::default())
    }

    /// Starts a group with these parameters and passes each line of its trace to `reader`. Each
    /// line begins with the simulated time in milliseconds.
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
        let faults = armed(parameters.seed);
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
            staged: None,
            faults,
        }
    }

    /// Runs the simulation to its end.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
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
        checked.map_err(|what| Violation(format!("the clients received wrong answers: {what}")))?;
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

    /// Advances the simulated time by one step and lets every replica take its turn.
    pub(super) fn step(&mut self) -> Checked {
        let by = self.world.random.up_to(self.world.parameters.step_max);
        self.world.network.advance(by + Duration::from_micros(1));
        let now = self.world.now();
        while !self.world.is_calm && now >= self.next_moment {
            self.next_moment += MOMENT;
            if !self.world.is_disaster && self.staged.is_none() {
                self.fail_something()?;
            }
        }
        if self.heals_at.is_some_and(|at| now >= at) {
            self.heals_at = None;
            self.world.network.heal();
        }
        self.advance_staged_fault()?;
        self.world.in_staged_fault = self.staged.is_some();
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
                self.heal_staged_fault(at);
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

    /// Returns true if stores survive their processes.
    pub(super) fn keeps_store(&self) -> bool {
        !self.world.parameters.in_memory
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

    /// Returns true if all machines are in one ring and list all running processes. Some may still
    /// list dead ones as well.
    pub(super) fn is_one_group(&self) -> bool {
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

    pub(super) fn alive(
        &self,
    ) -> impl Iterator<Item = (ReplicaId, &crate::engine::Engine<super::checker::ProposalId>)> {
        self.hosts
            .iter()
            .filter(|host| self.world.is_newest(host.cluster()))
            .filter_map(|host| host.process.as_ref().map(|p| (host.replica, &p.engine)))
    }

    /// Describes the state of every replica, for error messages and traces.
    pub(super) fn who_is_where(&self) -> String {
        let committed = self.world.checker.committed();
        let mut text = format!("{} ms, committed {committed}", self.world.now().as_millis());
        for host in &self.hosts {
            text += &match &host.process {
                None => format!("\n{} is dead", host.replica),
                Some(process) => {
                    let status = process.engine.status();
                    format!(
                        "\n{} {:?} epoch {} promised {} last {} committed {} applied {}; {}",
                        host.replica,
                        status.role,
                        status.epoch.map_or_else(|| "none".into(), |epoch| epoch.to_string()),
                        status.promised,
                        status.last,
                        status.committed,
                        status.applied,
                        status.waiting.unwrap_or_else(|| "not waiting".into())
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
