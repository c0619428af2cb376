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

/// How often to look at what cannot be waited for.
const LOOK: Duration = Duration::from_millis(100);
/// How long a replica may take to stop in order.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// What a replica may hold at most, after all that was done to it has ended.
const DESCRIPTORS_MAX: usize = 100;
const MEMORY_KIB_MAX: u64 = 384 << 10;
/// Of the disk of a node.
const DISK: &str = "512M";
/// Lets a program have another time of day than its host: a library of the package faketime,
/// found by the loader.
const CLOCK: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// What a replica is slow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// To make things durable.
    Syncs,
    /// To apply commands: its thread sleeps long, and wakes others late.
    Apply,
}

/// Daemons and replicas, of each program one on every node. Any thread may use it.
pub(super) struct Group {
    /// By node, from 1, and by service.
    replicas: Vec<[Mutex<Option<Program>>; Service::ALL.len()]>,
    /// Programs that are a fault as long as they run.
    meddlers: Mutex<Vec<Program>>,
    /// Replicas whose disk was full, and who may have stopped.
    out_of_space: Mutex<BTreeSet<u32>>,
    /// Replicas that were taken from the voters, and whether it is known that they were: what
    /// is not may still come into force when all is well.
    removed: Mutex<BTreeMap<(Service, u32), bool>>,
    /// Up to where the log was looked through.
    read: Mutex<u64>,
    voters: String,
    /// The key of the cluster.
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
            meddlers: Mutex::default(),
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
        group.wait_until_well()?;
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

    /// Where the replicas of a node keep all they have, as seen from within.
    fn disk(&self, id: u32) -> PathBuf {
        self.node(id).directory().join("disk")
    }

    fn folder(&self, service: Service, id: u32) -> PathBuf {
        self.disk(id).join(service.name())
    }

    /// Carries out a line of the shell in a node.
    fn in_node(&self, id: u32, line: &str) -> Result<()> {
        self.node(id).run("sh", &["-c", line]).map(drop).map_err(Into::into)
    }

    /// Starts a replica unless it runs.
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

    /// Does something with a replica that runs, or is paused.
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
            // It ended meanwhile: some do when their disk is full.
            Err(_) if replica.status().is_some() => Ok(()),
            acted => acted.map_err(Into::into),
        }
    }

    /// Kills all replicas of a node.
    pub(super) fn kill_replicas(&self, id: u32) -> Result<()> {
        Service::ALL.iter().try_for_each(|service| self.replica(*service, id, Program::kill))
    }

    /// Takes away the store of a replica that does not run.
    pub(super) fn wipe(&self, service: Service, id: u32) -> Result<()> {
        self.note(&format!("wipe the store of {} at node {id}", service.name()));
        self.in_node(id, &format!("rm -rf {}", self.folder(service, id).display()))
    }

    /// Stops a replica in order and starts it again.
    pub(super) fn restart(&self, service: Service, id: u32) -> Result<()> {
        self.replica(service, id, |replica| {
            replica.terminate()?;
            replica.wait_exit(STOP_WITHIN).map(drop)
        })?;
        self.start_replica(service, id)
    }

    /// Leaves no room on the disk of a node, until all is healed.
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

    /// Has the replicas of a node believe that it is so many seconds later, within a second.
    pub(super) fn set_clock(&self, id: u32, seconds: i64) -> Result<()> {
        self.note(&format!("the clock of node {id} goes {seconds} s wrong"));
        let path = self.clock(id);
        fs::write(&path, format!("{seconds:+}\n"))
            .map_err(|error| wrong(format!("{}: {error}", path.display())))
    }

    /// A daemon that has another key than all others.
    pub(super) fn lose_key(&self, id: u32) -> Result<()> {
        self.node(id).kill_daemon()?;
        let other: Vec<u8> = self.key.iter().map(|byte| !byte).collect();
        write(&self.node(id).etc().join("authkey"), &other)?;
        Ok(self.node(id).start_daemon()?)
    }

    fn find_key(&self, id: u32) -> Result<()> {
        let path = self.node(id).etc().join("authkey");
        if read(&path)? != self.key {
            self.node(id).kill_daemon()?;
            write(&path, &self.key)?;
        }
        Ok(())
    }

    /// Slows a replica down, until all is healed.
    pub(super) fn delay(&self, service: Service, id: u32, what: Delay, by: Duration) -> Result<()> {
        let Some(process) = self.slot(service, id).as_ref().map(Program::id) else { return Ok(()) };
        let (calls, target) = match what {
            Delay::Syncs => ("fsync,fdatasync,sync_file_range", process),
            Delay::Apply => match thread_of(process, "-apply") {
                Some(thread) => ("futex", thread),
                // It has ended.
                None => return Ok(()),
            },
        };
        let mut strace = self.node(id).command("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:delay_enter={}", by.as_micros())]);
        // All its threads, or one.
        strace.args(if what == Delay::Syncs { &["-f", "-p"][..] } else { &["-p"] });
        strace.arg(target.to_string());
        let name = format!("{what:?} of {} delayed", service.name());
        open(&self.meddlers).push(self.node(id).spawn(&name, strace)?);
        Ok(())
    }

    /// Takes a replica from the voters, until all is healed; false if the group does not.
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

    /// Ends all faults: networks are whole, daemons and replicas run.
    pub(super) fn heal(&self) -> Result<()> {
        self.cluster.heal_all()?;
        for program in std::mem::take(&mut *open(&self.meddlers)) {
            program.terminate()?;
            program.wait_exit(STOP_WITHIN)?;
        }
        for id in self.ids() {
            self.set_clock(id, 0)?;
            self.in_node(id, &format!("rm -f {}/ballast*", self.disk(id).display()))?;
            self.find_key(id)?;
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
    /// service manager does: one that starts before its daemon is there ends.
    pub(super) fn wait_until_well(&self) -> Result<()> {
        let deadline = Instant::now() + RECOVERY_MAX;
        let mut ill: Vec<(Service, u32)> =
            self.ids().flat_map(|id| Service::ALL.map(|service| (service, id))).collect();
        loop {
            let mut infos = Vec::new();
            for (service, id) in std::mem::take(&mut ill) {
                self.start_replica(service, id)?;
                let info = self.info(service, id)?;
                if !self.is_well(service, id, &info)? {
                    ill.push((service, id));
                    let told = info.0.replace("\r\n", ", ");
                    infos.push(format!("replica {id} of {}: {told}", service.name()));
                }
            }
            if ill.is_empty() {
                open(&self.out_of_space).clear();
                open(&self.removed).retain(|_, known| !*known);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(wrong(format!(
                    "not well within {RECOVERY_MAX:?} after the last fault: {}",
                    infos.join("; ")
                )));
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether it votes and answers. What an operator would do for it is done.
    fn is_well(&self, service: Service, id: u32, info: &Info) -> Result<bool> {
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
            // Who sequences goes on when it votes no more, until there is another epoch.
            "learner" | "sequencer"
                if !votes && open(&self.removed).contains_key(&(service, id)) =>
            {
                if let Some(mut client) = self.connect(service, id)? {
                    // It is looked at again, whatever the answer is.
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
        Ok(asked.is_ok_and(|reply| service.is_content(&reply)))
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

    /// The replica that sequences, by the first that knows.
    pub(super) fn sequencer(&self, service: Service) -> Result<Option<u32>> {
        for id in self.ids() {
            if let Ok(sequencer) = self.info(service, id)?.field("sequencer").parse() {
                return Ok(Some(sequencer));
            }
        }
        Ok(None)
    }

    /// Whether any replica panicked since the last time, and the most descriptors and memory
    /// that one of them holds.
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
            // Connections end when they are looked at.
            if Instant::now() > deadline {
                let holds = format!("{descriptors} descriptors or {memory_kib} KiB");
                return Err(wrong(format!("a replica still holds {holds}")));
            }
            thread::sleep(LOOK);
        }
    }

    /// The number of the next line of the log.
    pub(super) fn mark(&self) -> u64 {
        self.cluster.mark()
    }

    /// Whether anybody said so from a line of the log on.
    pub(super) fn was_told(&self, from: u64, words: &str) -> bool {
        self.cluster.logs().iter().any(|line| line.number >= from && line.text.contains(words))
    }

    /// Writes why the log is to be kept, and keeps it.
    pub(super) fn keep(&self, why: &str) {
        self.cluster.keep(why);
    }
}

/// The thread of a process whose name ends so.
fn thread_of(process: u32, end: &str) -> Option<u32> {
    fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten().find_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        name.trim_end().ends_with(end).then(|| task.file_name().to_str()?.parse().ok())?
    })
}

/// Descriptors, and memory in KiB.
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
    // Its owner alone may read the file, and nobody write it; who is root may.
    fs::write(path, bytes).map_err(|error| wrong(format!("{}: {error}", path.display())))
}
