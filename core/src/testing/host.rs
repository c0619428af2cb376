use std::collections::btree_map::Entry;
use std::time::Duration;

use super::checker::{Checked, ProposalId, Violation, check};
use super::clock::Clock;
use super::disk::Store;
use super::process::Process;
use super::watched::Watched;
use super::world::World;
use super::{ClientNumber, Workload};
use crate::engine::{Config, Engine, Input, StopReason, VoterChange};
use crate::machine::Applier;
use crate::replica::encode_command;
use crate::wire::types::{ClusterId, Incarnation, Nonce, ReplicaId, StoreId};
use crate::{Consistency, StateMachine};

/// A replica in the simulated world: its machine, its current process if one runs, and its clients.
pub(super) struct Host<W: Workload> {
    pub(super) replica: ReplicaId,
    node: cpg::NodeId,
    /// Replicas listed for the bootstrap of the group; empty at a learner.
    pub(super) bootstrap: Vec<ReplicaId>,
    pub(super) clock: Clock,
    pub(super) process: Option<Process<W::Machine>>,
    /// Time at which a dead process is started again; `None` if it never is.
    pub(super) restart_at: Option<Duration>,
    clients: Vec<Client>,
    pid: Option<cpg::Pid>,
}

struct Client {
    number: ClientNumber,
    /// The command or read in progress, and the time at which it began.
    waiting: Option<(ProposalId, Duration)>,
    thinks_until: Duration,
}

/// A way in which a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// The process is killed; unsynced writes may be lost.
    Kill,
    /// The process shuts down in order.
    Stop,
    /// The process is killed and its stores are lost.
    Wipe,
    /// The process is killed, and a bit flips in its stores.
    Flip,
}

impl<W: Workload> Host<W> {
    pub(super) fn new(
        replica: ReplicaId,
        node: cpg::NodeId,
        bootstrap: Vec<ReplicaId>,
        world: &mut World<W>,
    ) -> Self {
        let clients = (0..world.parameters.clients).map(|_| Client {
            number: world.new_client(),
            waiting: None,
            thinks_until: Duration::ZERO,
        });
        let clients = clients.collect();
        let clock = Clock::drawn(&world.parameters, &mut world.random);
        // Learners start once the group exists.
        let restart_at = (!bootstrap.is_empty()).then_some(Duration::ZERO);
        Self { replica, node, bootstrap, clock, process: None, restart_at, clients, pid: None }
    }

    pub(super) fn turn(&mut self, world: &mut World<W>) -> Checked {
        world.act_as(self.cluster());
        let now = world.now();
        if self.process.is_none() && self.restart_at.is_some_and(|at| now >= at) {
            self.start(world)?;
        }
        self.propose(world)?;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.turn(world, &self.clock)?;
        if process.stopped {
            return self.stopped(world);
        }
        Ok(())
    }

    /// Handles a process whose engine has stopped: it must report a reason, and it stays for
    /// inspection until it is started again.
    fn stopped(&mut self, world: &mut World<W>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let reason = process.engine.status().stopped;
        check(reason.is_some(), || format!("{} has stopped without a reason", self.replica))?;
        if let Some(connection) = process.disconnect() {
            world.network.close(connection);
        }
        if world.now() < process.buried_at && !world.is_calm {
            return Ok(());
        }
        let is_lost =
            world.parameters.in_memory || matches!(reason, Some(StopReason::SnapshotFailed(_)));
        self.die(world, if is_lost { Death::Wipe } else { Death::Kill })
    }

    fn start(&mut self, world: &mut World<W>) -> Checked {
        let incarnation =
            Incarnation { replica: self.replica, nonce: Nonce(world.random.number()) };
        let now = self.clock.now(world.now());
        let id = StoreId(world.random.number());
        let store = match world.stores.entry(self.replica) {
            Entry::Occupied(store) => store.into_mut(),
            Entry::Vacant(place) => place.insert(Store::new(id)?),
        };
        let recovered = match (store.recover(), store.damage.take()) {
            (Ok(recovered), None) => recovered,
            // The damage is in log entries that a snapshot has replaced since, or in a snapshot
            // that has not been read yet.
            (Ok(recovered), Some(damage)) => {
                store.damage = Some(damage);
                recovered
            }
            (Err(error), None) => return Err(error),
            // The damage was detected: the start fails, and an operator gives the replica an empty
            // store.
            (Err(Violation(error)), Some(damage)) => {
                world.trace.note(world.network.now(), || {
                    format!("{} does not start: {error}", self.replica)
                });
                check(error.contains(&damage), || {
                    format!("{damage} is damaged, but the start failed with: {error}")
                })?;
                *store = Store::new(id)?;
                store.recover()?
            }
        };
        let (id, log) = (store.id, store.digests.clone());
        let mut config = Config::new(incarnation, id, self.bootstrap.clone());
        config.application = Watched::<W::Machine>::application();
        let p = &world.parameters;
        config.election_timeout = p.election_timeout;
        config.resend_timeout = p.resend_timeout;
        config.read_timeout = p.read_timeout;
        config.batches_in_flight_max = p.batches_in_flight_max;
        config.batch_bytes_max = p.batch_bytes_max;
        config.applying_max = p.applying_max;
        config.kept_entries_max = p.kept_entries_max;
        (config.log_bytes_max, config.kept_bytes_max) = (p.log_bytes_max, p.log_bytes_max / 2);
        (config.stored_bytes_max, config.cached_bytes_max) = (p.log_bytes_max, p.cached_bytes_max);
        config.writing_bytes_max = p.writing_bytes_max;
        (config.snapshot_entries, config.snapshot_bytes) = (p.snapshot_entries, p.snapshot_bytes);
        config.volatile = p.in_memory;
        world.note(|| format!("{} starts as {incarnation}, store {id}", self.replica));
        let has_entries = !recovered.entries.is_empty();
        let engine = Engine::restart(config, now, recovered)
            .map_err(|error| Violation(format!("{} cannot restart: {error}", self.replica)))?;
        check(!has_entries || engine.cluster().is_some(), || {
            format!("V4: {} has entries of an unknown cluster", self.replica)
        })?;
        let applier = Applier::new(Watched::new(world.workload.machine()));
        let pid = world.new_pid(self.pid);
        self.pid = Some(pid);
        let (node, begins) = (self.node, world.now());
        self.process = Some(Process::new(incarnation, node, pid, engine, log, applier, begins));
        Ok(())
    }

    /// Ends the process. Its clients never learn the outcome of their pending commands.
    pub(super) fn die(&mut self, world: &mut World<W>, death: Death) -> Checked {
        world.act_as(self.cluster());
        let Some(mut process) = self.process.take() else { return Ok(()) };
        world.note(|| format!("{} dies: {death:?}", self.replica));
        if death == Death::Stop && !process.stopped {
            process.stop(world)?;
        }
        if let Some(connection) = process.disconnect() {
            let leaves = death == Death::Stop && world.network.leave(connection).is_ok();
            let span = world.random.up_to(Duration::from_millis(100));
            if leaves {
                world.leaving.push((world.now() + span, connection));
            } else {
                world.network.close(connection);
            }
        }
        for client in &mut self.clients {
            if let Some((id, _)) = client.waiting {
                world.forget(id);
            }
        }
        world.requests.retain(|_, at| *at != self.replica);
        let number = StoreId(world.random.number());
        let roll = world.random.number();
        let Some(store) = world.stores.get_mut(&self.replica) else { return Ok(()) };
        if death == Death::Wipe {
            *store = Store::new(number)?;
        } else {
            store.crash((roll % (store.unsynced() as u64 + 1)) as usize)?;
        }
        if death == Death::Flip {
            store.flip(roll);
            let damage = store.damage.clone();
            world.note(|| format!("a bit of {} flips in {damage:?}", self.replica));
        }
        self.restart_at = Some(world.now() + world.random.up_to(world.parameters.restart_max));
        Ok(())
    }

    /// An operator asks this replica to change the voters.
    pub(super) fn ask(&mut self, world: &mut World<W>, change: VoterChange) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let ticket = world.new_request(self.replica);
        world.note(|| format!("request {ticket} at {}: {change:?}", self.replica));
        process.input(world, &self.clock, Input::ChangeVoters { ticket, change })
    }

    /// Starts a linearizable read at this replica, for no client. Only the checker examines the
    /// result.
    pub(super) fn read(&mut self, world: &mut World<W>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        world.act_as(process.engine.cluster());
        let id = world.new_id();
        process.read(world, &self.clock, id, Consistency::Linearizable)?;
        process.drain(world, &self.clock)
    }

    /// Returns the cluster of the running process, if it belongs to one.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.process.as_ref()?.engine.cluster()
    }

    /// An operator forces a new cluster at this replica (rule V4).
    pub(super) fn force(&mut self, world: &mut World<W>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let ticket = world.new_request(self.replica);
        world.note(|| format!("request {ticket} at {}: a new cluster", self.replica));
        process.force(world, &self.clock, ticket)?;
        process.drain(world, &self.clock)
    }

    /// Makes the disk full for a random time: every write fails, including the next.
    pub(super) fn fail_disk(&mut self, world: &mut World<W>) {
        let span = world.random.up_to(world.parameters.restart_max * 2);
        // A replica with stores in memory loses them when it is restarted.
        let lost = world.parameters.in_memory;
        let until = if lost { Duration::MAX } else { world.now() + span };
        world.note(|| format!("the disk of {} is full for {span:?}", self.replica));
        if let Some(store) = world.stores.get_mut(&self.replica) {
            store.full_until = until;
        }
    }

    pub(super) fn hang(&mut self, world: &mut World<W>) {
        let span = world.random.up_to(world.parameters.hang_max);
        world.note(|| format!("{} hangs for {span:?}", self.replica));
        if let Some(process) = &mut self.process {
            process.runs_at = world.now() + span;
        }
    }

    /// Ends all faults of this replica: its disk works, a dead process is started at once unless it
    /// is to stay dead, and a process that hangs or stalls resumes. Wall clocks stay wrong.
    pub(super) fn calm(&mut self, world: &mut World<W>) {
        let now = world.now();
        if let Some(store) = world.stores.get_mut(&self.replica) {
            store.full_until = Duration::ZERO;
        }
        self.restart_at = self.restart_at.map(|_| now);
        if let Some(process) = &mut self.process {
            process.runs_at = now;
            process.resume_machine(now + world.parameters.apply_max);
        }
    }

    /// Returns the machine that the replica runs on.
    pub(super) fn node(&self) -> cpg::NodeId {
        self.node
    }

    /// Returns true, once, after the process has opened an epoch.
    pub(super) fn has_opened(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.opened))
    }

    /// Returns true, once, if a fault is to kill the process.
    pub(super) fn is_to_die(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.dies))
    }

    /// Returns true, once, if the network is to split.
    pub(super) fn is_to_split(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.splits))
    }

    /// Replaces the stores by empty ones, while no process runs.
    pub(super) fn lose_store(&mut self, world: &mut World<W>) -> Checked {
        let id = StoreId(world.random.number());
        world.stores.insert(self.replica, Store::new(id)?);
        Ok(())
    }

    /// Returns true, once, if the network is to heal.
    pub(super) fn is_to_heal(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.heals))
    }

    /// Returns the number of messages that the current process has sent.
    pub(super) fn sent(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.sent)
    }

    /// Returns true if the replica is dead and is not to be started again.
    pub(super) fn is_gone(&self) -> bool {
        self.process.is_none() && self.restart_at.is_none()
    }

    /// Returns true if a client of this replica waits for an answer.
    pub(super) fn is_waited_for(&self, world: &World<W>) -> bool {
        let waits =
            |client: &Client| client.waiting.is_some_and(|(id, _)| world.callers.contains_key(&id));
        self.clients.iter().any(waits)
    }

    /// Lets each client take its next step: propose, read, wait, or give up.
    fn propose(&mut self, world: &mut World<W>) -> Checked {
        let now = world.now();
        let mut proposed = false;
        for client in &mut self.clients {
            if let Some((id, since)) = client.waiting {
                let is_impatient = now.saturating_sub(since) > world.parameters.patience;
                if is_impatient && !world.is_calm {
                    world.forget(id);
                }
                if world.callers.contains_key(&id) {
                    continue;
                }
                client.waiting = None;
                client.thinks_until = now + world.random.up_to(world.parameters.think_max);
                if world.lost_clients.remove(&client.number) {
                    client.number = world.new_client();
                }
                continue;
            }
            let runs = |process: &&mut Process<W::Machine>| {
                now >= process.runs_at && (process.stopped || process.engine.has_room())
            };
            let Some(process) = self.process.as_mut().filter(runs) else { continue };
            if !world.is_busy || now < client.thinks_until {
                continue;
            }
            proposed = true;
            let read = world.workload.reads(client.number, &mut world.random);
            let id = world.new_proposal(client.number);
            client.waiting = Some((id, now));
            if let Some(consistency) = read {
                process.read(world, &self.clock, id, consistency)?;
                continue;
            }
            let command = world.workload.command(client.number, &mut world.random);
            world.note(|| format!("client {} proposes {id} at {}", client.number.0, self.replica));
            let bytes = encode_command(&(id, command))
                .map_err(|error| Violation(format!("a command cannot be proposed: {error}")))?;
            process.propose(world, &self.clock, id, bytes)?;
        }
        if let Some(process) = self.process.as_mut().filter(|_| proposed) {
            process.drain(world, &self.clock)?;
        }
        Ok(())
    }
}
