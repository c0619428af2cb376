use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::commands::Commands;
use super::service::Service;
use super::{Options, RECOVERY_MAX, Result, TOKEN_MS, hostile, open, wrong};
use crate::client::{Info, NodeClient, Reply};
use crate::rig::{self, Cluster, Line, Node, Program};

/// Polling interval for conditions without an event.
const LOOK: Duration = Duration::from_millis(100);
/// Maximum time of an orderly shutdown of a replica.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Limits of a replica's descriptors and memory after the faults of a round have ended.
const DESCRIPTORS_MAX: usize = 100;
const MEMORY_KIB_MAX: u64 = 384 << 10;
/// Size of the disk of each node.
const DISK: &str = "512M";
/// Library of the package faketime, which gives a program its own wall clock. The loader finds it.
const CLOCK: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// An operation that is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// Syncs to disk.
    Syncs,
    /// Applying commands: calls of futex by the apply thread are delayed.
    Apply,
}

/// Daemons and replicas: one replica of each service on every node. Can be shared by threads.
pub(super) struct Group {
    /// Replicas, by node and service.
    replicas: Vec<[Mutex<Option<Program>>; Service::ALL.len()]>,
    /// Programs that cause faults while they run.
    fault_programs: Mutex<Vec<Program>>,
    /// Replicas whose disk was full. They may have stopped.
    out_of_space: Mutex<BTreeSet<u32>>,
    /// Replicas that were removed from the voters, with `true` if the removal was confirmed. An
    /// unconfirmed removal may still take effect later.
    removed: Mutex<BTreeMap<(Service, u32), bool>>,
    /// Line up to which the log was searched for panics.
    read: Mutex<u64>,
    voters: String,
    /// The cluster's authentication key.
    key: Vec<u8>,
    pub(super) commands: Commands,
    cluster: Cluster,
}

impl Group {
    pub(super) fn start(options: &Options) -> Result<Self> {
        let cluster = Cluster::builder()
            .name(&format!("torture-{}", options.seed))
            .nodes(options.nodes)
            .encrypted(true)
            .token_ms(TOKEN_MS)
            .start()?;
        let ids: Vec<u32> = (1..=options.nodes).collect();
        cluster.wait_for_ring(&ids, RECOVERY_MAX)?;
        let voters: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let key = read(&cluster.node(1).etc().join("authkey"))?;
        let group = Self {
            replicas: ids.iter().map(|_| Default::default()).collect(),
            fault_programs: Mutex::default(),
            out_of_space: Mutex::default(),
            removed: Mutex::default(),
            read: Mutex::new(0),
            voters: voters.join(","),
            key,
            commands: Commands::new(&cluster)?,
            cluster,
        };
        for id in group.ids() {
            group.set_clock(id, 0)?;
            hostile::prepare(group.node(id))?;
            let disk = group.disk(id);
            group.in_node(
                id,
                &format!(
                    "mkdir {0} && truncate -s {DISK} {0}.img && mkfs.ext4 -q -F -m 0 {0}.img && \
                     mount -o loop {0}.img {0}",
                    disk.display()
                ),
            )?;
        }
        group.heal()?;
        group.wait_until_healthy()?;
        Ok(group)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.replicas.len() as u32
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn node(&self, id: u32) -> &Node {
        self.cluster.node(id)
    }

    pub(super) fn note(&self, text: &str) {
        self.cluster.note(text);
    }

    fn slot(&self, service: Service, id: u32) -> MutexGuard<'_, Option<Program>> {
        open(&self.replicas[id as usize - 1][service as usize])
    }

    /// Returns the mount point of the disk with all data of a node's replicas.
    fn disk(&self, id: u32) -> PathBuf {
        self.node(id).directory().join("disk")
    }

    fn folder(&self, service: Service, id: u32) -> PathBuf {
        self.disk(id).join(service.name())
    }

    /// Runs a shell command in a node.
    fn in_node(&self, id: u32, line: &str) -> Result<()> {
        self.node(id).run("sh", &["-c", line]).map(drop).map_err(Into::into)
    }

    /// Starts a replica unless it is running.
    fn start_replica(&self, service: Service, id: u32) -> Result<()> {
        let mut slot = self.slot(service, id);
        if slot.as_ref().is_some_and(|replica| replica.status().is_none()) {
            return Ok(());
        }
        let mut command = self.node(id).command(service.program()?);
        command.env("LD_PRELOAD", CLOCK).env("FAKETIME_TIMESTAMP_FILE", self.clock(id));
        command.envs([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_CACHE_DURATION", "1")]);
        service.arguments(&mut command, id, &self.voters, &self.folder(service, id));
        if service == Service::Election {
            command.arg("--").args(self.commands.endless("election", id, "ELECTION_TOKEN"));
        }
        *slot = Some(self.node(id).spawn(service.name(), command)?);
        Ok(())
    }

    /// Calls `act` on a replica if it is running or paused.
    pub(super) fn replica(
        &self,
        service: Service,
        id: u32,
        act: impl FnOnce(&Program) -> rig::Result<()>,
    ) -> Result<()> {
        let slot = self.slot(service, id);
        let Some(replica) = slot.as_ref().filter(|replica| replica.status().is_none()) else {
            return Ok(());
        };
        match act(replica) {
            // The replica ended meanwhile; some do so when their disk is full.
            Err(_) if replica.status().is_some() => Ok(()),
            acted => acted.map_err(Into::into),
        }
    }

    /// Kills all replicas of a node.
    pub(super) fn kill_replicas(&self, id: u32) -> Result<()> {
        Service::ALL.iter().try_for_each(|service| self.replica(*service, id, Program::kill))
    }

    /// Deletes the store of a replica, which must not be running.
    pub(super) fn wipe(&self, service: Service, id: u32) -> Result<()> {
        self.note(&format!("wipe the store of {} at node {id}", service.name()));
        self.in_node(id, &format!("rm -rf {}", self.folder(service, id).display()))
    }

    /// Shuts a replica down in order and starts it again.
    pub(super) fn restart(&self, service: Service, id: u32) -> Result<()> {
        self.replica(service, id, |replica| {
            replica.terminate()?;
            replica.wait_exit(STOP_WITHIN).map(drop)
        })?;
        self.start_replica(service, id)
    }

    /// Fills the disk of a node, until all faults are healed.
    pub(super) fn fill_disk(&self, id: u32) -> Result<()> {
        self.note(&format!("fill the disk of node {id}"));
        open(&self.out_of_space).insert(id);
        let disk = self.disk(id);
        let most = "fallocate -l $(df --output=avail -B1 . | tail -n 1) ballast";
        let rest = "dd if=/dev/zero of=ballast.rest bs=4k";
        self.in_node(id, &format!("cd {} && ({most}; {rest}; true)", disk.display()))
    }

    fn clock(&self, id: u32) -> PathBuf {
        self.node(id).directory().join("clock")
    }

    /// Shifts the wall clock of a node's replicas by this many seconds. It takes effect within a
    /// second.
    pub(super) fn set_clock(&self, id: u32, seconds: i64) -> Result<()> {
        self.note(&format!("the clock of node {id} is shifted by {seconds} s"));
        let path = self.clock(id);
        fs::write(&path, format!("{seconds:+}\n"))
            .map_err(|error| wrong(format!("{}: {error}", path.display())))
    }

    /// Restarts a daemon with a key that differs from all others.
    pub(super) fn lose_key(&self, id: u32) -> Result<()> {
        self.node(id).kill_daemon()?;
        let other: Vec<u8> = self.key.iter().map(|byte| !byte).collect();
        write(&self.node(id).etc().join("authkey"), &other)?;
        Ok(self.node(id).start_daemon()?)
    }

    fn restore_key(&self, id: u32) -> Result<()> {
        let path = self.node(id).etc().join("authkey");
        if read(&path)? != self.key {
            self.node(id).kill_daemon()?;
            write(&path, &self.key)?;
        }
        Ok(())
    }

    /// Slows a replica down, until all faults are healed.
    pub(super) fn delay(&self, service: Service, id: u32, what: Delay, by: Duration) -> Result<()> {
        let Some(process) = self.slot(service, id).as_ref().map(Program::id) else { return Ok(()) };
        let (calls, target) = match what {
            Delay::Syncs => ("fsync,fdatasync,sync_file_range", process),
            Delay::Apply => match thread_of(process, "-apply") {
                Some(thread) => ("futex", thread),
                // The replica has ended.
                None => return Ok(()),
            },
        };
        let mut strace = self.node(id).command("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:delay_enter={}", by.as_micros())]);
        // All threads of the process, or one thread.
        strace.args(if what == Delay::Syncs { &["-f", "-p"][..] } else { &["-p"] });
        strace.arg(target.to_string());
        let name = format!("{what:?} of {} delayed", service.name());
        open(&self.fault_programs).push(self.node(id).spawn(&name, strace)?);
        Ok(())
    }

    /// Removes a replica from the voters, until all faults are healed. Returns false if the removal
    /// was not confirmed.
    pub(super) fn remove(&self, service: Service, id: u32) -> Result<bool> {
        let Some(mut client) = self.connect(service, id)? else { return Ok(false) };
        let asked = client.set_patience(RECOVERY_MAX);
        let command = format!("MEMBERS REMOVE {id}");
        let node = self.node(id);
        let reply = asked.and_then(|()| client.ask_as_operator(node, &command, RECOVERY_MAX));
        self.note(&format!("removing replica {id} of {}: {reply:?}", service.name()));
        let known = matches!(reply, Ok(Reply::Text(_)));
        open(&self.removed).insert((service, id), known);
        Ok(known)
    }

    /// Ends all faults: heals the network and starts all daemons and replicas.
    pub(super) fn heal(&self) -> Result<()> {
        self.cluster.heal_all()?;
        for program in std::mem::take(&mut *open(&self.fault_programs)) {
            program.terminate()?;
            program.wait_exit(STOP_WITHIN)?;
        }
        for id in self.ids() {
            self.set_clock(id, 0)?;
            self.in_node(id, &format!("rm -f {}/ballast*", self.disk(id).display()))?;
            self.restore_key(id)?;
            let daemon = self.node(id).daemon()?;
            if daemon.status().is_some() {
                self.node(id).start_daemon()?;
            } else {
                daemon.resume()?;
            }
            for service in Service::ALL {
                self.replica(service, id, |replica| {
                    replica.limit_memory(None)?;
                    replica.resume()
                })?;
                self.start_replica(service, id)?;
            }
        }
        Ok(())
    }

    /// Waits until every replica votes and answers. Replicas that ended are started again, as a
    /// service manager does: a replica ends if its daemon is not running yet.
    pub(super) fn wait_until_healthy(&self) -> Result<()> {
        let deadline = Instant::now() + RECOVERY_MAX;
        let mut unhealthy: Vec<(Service, u32)> =
            self.ids().flat_map(|id| Service::ALL.map(|service| (service, id))).collect();
        loop {
            let mut infos = Vec::new();
            for (service, id) in std::mem::take(&mut unhealthy) {
                self.start_replica(service, id)?;
                let info = self.info(service, id)?;
                if !self.is_healthy(service, id, &info)? {
                    unhealthy.push((service, id));
                    let status = info.0.replace("\r\n", ", ");
                    infos.push(format!("replica {id} of {}: {status}", service.name()));
                }
            }
            if unhealthy.is_empty() {
                open(&self.out_of_space).clear();
                open(&self.removed).retain(|_, known| !*known);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(wrong(format!(
                    "the group is not healthy within {RECOVERY_MAX:?} after the last fault: {}",
                    infos.join("; ")
                )));
            }
            thread::sleep(LOOK);
        }
    }

    /// Returns true if the replica votes and answers. Otherwise does what an operator would do for
    /// it.
    fn is_healthy(&self, service: Service, id: u32, info: &Info) -> Result<bool> {
        let votes = info.field("voters").split(',').any(|voter| voter == id.to_string());
        match info.role() {
            "stopped" if open(&self.out_of_space).contains(&id) => {
                self.restart(service, id)?;
                Ok(false)
            }
            "stopped" => {
                let why = info.field("obstacle");
                Err(wrong(format!("replica {id} of {} has stopped: {why}", service.name())))
            }
            // A sequencer that has lost its vote remains sequencer until the next epoch.
            "learner" | "sequencer"
                if !votes && open(&self.removed).contains_key(&(service, id)) =>
            {
                if let Some(mut client) = self.connect(service, id)? {
                    // The next check shows whether this was successful.
                    let asked = client.set_patience(RECOVERY_MAX);
                    let command = format!("MEMBERS ADD {id}");
                    let node = self.node(id);
                    let _ =
                        asked.and_then(|()| client.ask_as_operator(node, &command, RECOVERY_MAX));
                }
                Ok(false)
            }
            "voter" | "sequencer" if votes => {
                Ok(info.field("obstacle").is_empty() && self.answers(service, id)?)
            }
            _ => Ok(false),
        }
    }

    fn answers(&self, service: Service, id: u32) -> Result<bool> {
        let Some(mut client) = self.connect(service, id)? else { return Ok(false) };
        let asked = client.set_patience(RECOVERY_MAX).and_then(|()| client.ask(service.question()));
        Ok(asked.is_ok_and(|reply| service.is_healthy_answer(&reply)))
    }

    pub(super) fn connect(&self, service: Service, id: u32) -> rig::Result<Option<NodeClient>> {
        NodeClient::connect(self.node(id), service.port())
    }

    fn info(&self, service: Service, id: u32) -> rig::Result<Info> {
        let connected = self.connect(service, id)?;
        let info = connected.and_then(|mut client| {
            client.set_patience(Duration::from_secs(2)).ok()?;
            client.info().ok()
        });
        Ok(info.unwrap_or_default())
    }

    /// Returns the sequencer, according to the first replica that knows one.
    pub(super) fn sequencer(&self, service: Service) -> Result<Option<u32>> {
        for id in self.ids() {
            if let Ok(sequencer) = self.info(service, id)?.field("sequencer").parse() {
                return Ok(Some(sequencer));
            }
        }
        Ok(None)
    }

    /// Fails if a replica has panicked since the last call, or exceeds its limits. Returns the
    /// highest numbers of descriptors and KiB of memory of one replica.
    pub(super) fn check_processes(&self) -> Result<(usize, u64)> {
        let mut read = open(&self.read);
        let from = std::mem::replace(&mut *read, self.cluster.mark());
        let panicked = |line: &&Line| line.number >= from && line.text.contains("panicked at");
        if let Some(line) = self.cluster.logs().iter().find(panicked) {
            return Err(wrong(format!("{}: {}", line.source, line.text)));
        }
        let deadline = Instant::now() + RECOVERY_MAX;
        loop {
            let (mut descriptors, mut memory_kib) = (0, 0);
            for slot in self.replicas.iter().flatten() {
                let Some(replica) = &*open(slot) else { continue };
                let holds = holdings(replica.id());
                descriptors = descriptors.max(holds.0);
                memory_kib = memory_kib.max(holds.1);
            }
            if descriptors <= DESCRIPTORS_MAX && memory_kib <= MEMORY_KIB_MAX {
                return Ok((descriptors, memory_kib));
            }
            // Closed connections are released with a delay.
            if Instant::now() > deadline {
                let holds = format!("{descriptors} descriptors or {memory_kib} KiB");
                return Err(wrong(format!("a replica still holds {holds}")));
            }
            thread::sleep(LOOK);
        }
    }

    /// Returns the number of the next line of the log.
    pub(super) fn mark(&self) -> u64 {
        self.cluster.mark()
    }

    /// Returns true if the log has a line with `words`, from line `from` on.
    pub(super) fn has_logged(&self, from: u64, words: &str) -> bool {
        self.cluster.logs().iter().any(|line| line.number >= from && line.text.contains(words))
    }

    /// Writes the reason into the log, and keeps the log.
    pub(super) fn keep(&self, why: &str) {
        self.cluster.keep(why);
    }
}

/// Returns the id of a thread whose name ends with `end`.
fn thread_of(process: u32, end: &str) -> Option<u32> {
    fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten().find_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        name.trim_end().ends_with(end).then(|| task.file_name().to_str()?.parse().ok())?
    })
}

/// Returns the number of open descriptors, and the resident memory in KiB.
fn holdings(process: u32) -> (usize, u64) {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    (descriptors, memory.unwrap_or_default())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| wrong(format!("{}: {error}", path.display())))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    // The file's mode lets nobody write it, but root may.
    fs::write(path, bytes).map_err(|error| wrong(format!("{}: {error}", path.display())))
}
