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

/// A replica's place in the world: its machine, the process of the moment, and its clients.
pub(super) struct Host<W: Workload> {
    pub(super) replica: ReplicaId,
    node: cpg::NodeId,
    /// Those who form the group; empty at a learner.
    pub(super) bootstrap: Vec<ReplicaId>,
    pub(super) clock: Clock,
    pub(super) process: Option<Process<W::Machine>>,
    /// When a dead process is started again; never if `None`.
    pub(super) restart_at: Option<Duration>,
    clients: Vec<Client>,
    pid: Option<cpg::Pid>,
}

struct Client {
    number: ClientNumber,
    /// Has a command or a read under way since then.
    waiting: Option<(ProposalId, Duration)>,
    thinks_until: Duration,
}

/// How a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Together with what was not synced.
    Kill,
    /// After a last word.
    Stop,
    /// Together with its disk.
    Wipe,
    /// And a bit of what it had written flips.
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
        // Who does not form the group comes when there is one.
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

    /// A process whose engine has stopped says why, until it is started again.
    fn stopped(&mut self, world: &mut World<W>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let reason = process.engine.status().stopped;
        check(reason.is_some(), || format!("{} has stopped and does not say why", self.replica))?;
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
            // It was in what a snapshot has replaced meanwhile, or is in a state that is not
            // needed yet.
            (Ok(recovered), Some(damage)) => {
                store.damage = Some(damage);
                recovered
            }
            (Err(error), None) => return Err(error),
            // The start is refused, and an operator gives the replica an empty store.
            (Err(Violation(error)), Some(damage)) => {
                world
                    .trace
                    .note(world.network.now(), || format!("{} is refused: {error}", self.replica));
                check(error.contains(&damage), || {
                    format!("{damage} is damaged, and the start is refused with: {error}")
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

    /// The process dies; its clients do not know what became of their commands.
    pub(super) fn die(&mut self, world: &mut World<W>, death: Death) -> Checked {
        world.act_as(self.cluster());
        let Some(mut process) = self.process.take() else { return Ok(()) };
        world.note(|| format!("{} dies: {death:?}", self.replica));
        if death == Death::Stop && !process.stopped {
            process.stop(world)?;
        }
        if let Some(connection) = process.disconnect() {
            let leaves = death == Death::Stop && world.network.leave(connection).is_ok();
            let for_a_while = world.random.up_to(Duration::from_millis(100));
            if leaves {
                world.leaving.push((world.now() + for_a_while, connection));
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
            world.note(|| format!("{} has a flipped bit in {damage:?}", self.replica));
        }
        self.restart_at = Some(world.now() + world.random.up_to(world.parameters.restart_max));
        Ok(())
    }

    /// An operator asks it for other voters.
    pub(super) fn ask(&mut self, world: &mut World<W>, change: VoterChange) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let ticket = world.new_request(self.replica);
        world.note(|| format!("request {ticket} at {}: {change:?}", self.replica));
        process.input(world, &self.clock, Input::ChangeVoters { ticket, change })
    }

    /// Somebody reads here what is committed, and only the checker looks at what comes of it.
    pub(super) fn read(&mut self, world: &mut World<W>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        world.act_as(process.engine.cluster());
        let id = world.new_id();
        process.read(world, &self.clock, id, Consistency::Linearizable)?;
        process.drain(world, &self.clock)
    }

    /// The cluster that it belongs to, if it runs and belongs to one.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.process.as_ref()?.engine.cluster()
    }

    /// An operator forces it to go on alone.
    pub(super) fn force(&mut self, world: &mut World<W>) -> Checked {
        let Some(process) = &mut self.process else { return Ok(()) };
        let ticket = world.new_request(self.replica);
        world.note(|| format!("request {ticket} at {}: a new cluster", self.replica));
        process.force(world, &self.clock, ticket)?;
        process.drain(world, &self.clock)
    }

    /// Its disk refuses all writes for a while: the next at least.
    pub(super) fn fail_disk(&mut self, world: &mut World<W>) {
        let for_a_while = world.random.up_to(world.parameters.restart_max * 2);
        // Whoever has its store in memory has lost it by then.
        let lost = world.parameters.in_memory;
        let until = if lost { Duration::MAX } else { world.now() + for_a_while };
        world.note(|| format!("the disk of {} is full for {for_a_while:?}", self.replica));
        if let Some(store) = world.stores.get_mut(&self.replica) {
            store.full_until = until;
        }
    }

    pub(super) fn hang(&mut self, world: &mut World<W>) {
        let for_a_while = world.random.up_to(world.parameters.hang_max);
        world.note(|| format!("{} hangs for {for_a_while:?}", self.replica));
        if let Some(process) = &mut self.process {
            process.runs_at = world.now() + for_a_while;
        }
    }

    /// Everybody runs, at once and at full speed, whatever their wall clocks show.
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

    /// Its machine.
    pub(super) fn node(&self) -> cpg::NodeId {
        self.node
    }

    /// Its process has opened an epoch just now.
    pub(super) fn has_opened(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.opened))
    }

    /// A fault has struck the process.
    pub(super) fn is_to_die(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.dies))
    }

    /// The network is to fall apart.
    pub(super) fn is_to_split(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.splits))
    }

    /// Its disk is lost, while no process runs with it.
    pub(super) fn lose_store(&mut self, world: &mut World<W>) -> Checked {
        let id = StoreId(world.random.number());
        world.stores.insert(self.replica, Store::new(id)?);
        Ok(())
    }

    /// The network is to be whole again.
    pub(super) fn is_to_heal(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| std::mem::take(&mut process.heals))
    }

    /// How many messages the process of the moment has sent.
    pub(super) fn sent(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.sent)
    }

    /// It never comes back.
    pub(super) fn is_gone(&self) -> bool {
        self.process.is_none() && self.restart_at.is_none()
    }

    /// Whether some client waits for an answer.
    pub(super) fn is_waited_for(&self, world: &World<W>) -> bool {
        let waits =
            |client: &Client| client.waiting.is_some_and(|(id, _)| world.callers.contains_key(&id));
        self.clients.iter().any(waits)
    }

    /// What its clients do.
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
