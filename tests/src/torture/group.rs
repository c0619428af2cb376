use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Options, RECOVERY_MAX, Result, TOKEN_MS, wrong};
use crate::kv_client::{Info, KvClient, Reply};
use crate::rig::{self, Cluster, Line, Node, Program};

/// How often to look at what cannot be waited for.
const LOOK: Duration = Duration::from_millis(100);
/// How long a replica may take to stop in order.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// What a replica may hold at most.
const DESCRIPTORS_MAX: usize = 400;
const MEMORY_KIB_MAX: u64 = 1 << 20;

/// Daemons and replicas, one of each on every node. Any thread may use it.
pub(super) struct Group {
    /// By node, from 1.
    replicas: Vec<Mutex<Option<Program>>>,
    /// Up to where the log was looked through.
    read: Mutex<u64>,
    voters: String,
    program: PathBuf,
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
        let program = std::env::current_exe()
            .map_err(|error| wrong(format!("where this program is: {error}")))?
            .with_file_name("kv_under_test");
        let voters: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let group = Self {
            replicas: ids.iter().map(|_| Mutex::new(None)).collect(),
            read: Mutex::new(0),
            voters: voters.join(","),
            program,
            cluster,
        };
        group.heal()?;
        group.wait_until_well()?;
        Ok(group)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
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

    fn slot(&self, id: u32) -> MutexGuard<'_, Option<Program>> {
        self.replicas[id as usize - 1].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, id: u32) -> PathBuf {
        self.node(id).directory().join("kv")
    }

    /// Starts a replica unless it runs.
    fn start_replica(&self, id: u32) -> Result<()> {
        let mut slot = self.slot(id);
        if slot.as_ref().is_some_and(|replica| replica.status().is_none()) {
            return Ok(());
        }
        let mut command = self.node(id).command(&self.program);
        command.args(["serve", "--engine", "corosync", "--voters", &self.voters]);
        command.args(["--id", &id.to_string(), "--timeout", "3", "--data"]).arg(self.folder(id));
        *slot = Some(self.node(id).spawn("kv", command)?);
        Ok(())
    }

    /// Does something with a replica that was started.
    pub(super) fn replica(
        &self,
        id: u32,
        act: impl FnOnce(&Program) -> rig::Result<()>,
    ) -> Result<()> {
        self.slot(id).as_ref().map_or(Ok(()), act).map_err(Into::into)
    }

    /// Takes away the store of a replica that does not run.
    pub(super) fn wipe(&self, id: u32) -> Result<()> {
        self.note(&format!("wipe the store of replica {id}"));
        fs::remove_dir_all(self.folder(id)).map_err(|error| wrong(format!("wipe: {error}")))
    }

    /// Stops a replica in order and starts it again.
    pub(super) fn restart(&self, id: u32) -> Result<()> {
        self.replica(id, |replica| {
            replica.terminate()?;
            replica.wait_exit(STOP_WITHIN).map(drop)
        })?;
        self.start_replica(id)
    }

    /// Ends all faults: networks are whole, daemons and replicas run.
    pub(super) fn heal(&self) -> Result<()> {
        self.cluster.heal_all()?;
        for id in self.ids() {
            let daemon = self.node(id).daemon()?;
            if daemon.status().is_some() {
                self.node(id).start_daemon()?;
            } else {
                daemon.resume()?;
            }
            self.replica(id, |replica| match replica.status() {
                None => replica.resume(),
                Some(_) => Ok(()),
            })?;
            self.start_replica(id)?;
        }
        Ok(())
    }

    /// Waits until every replica votes and answers. Replicas that ended are started again, as a
    /// service manager does: one that starts before its daemon is there ends.
    pub(super) fn wait_until_well(&self) -> Result<()> {
        let deadline = Instant::now() + RECOVERY_MAX;
        let mut ill: Vec<u32> = self.ids().collect();
        loop {
            let mut infos = Vec::new();
            for id in std::mem::take(&mut ill) {
                self.start_replica(id)?;
                let info = self.info(id)?;
                let votes = ["voter", "sequencer"].contains(&info.field("role"));
                if !(votes && info.field("obstacle").is_empty() && self.answers(id)?) {
                    ill.push(id);
                    infos.push(format!("replica {id}: {}", info.0.replace("\r\n", ", ")));
                }
            }
            if ill.is_empty() {
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

    fn answers(&self, id: u32) -> Result<bool> {
        let Some(mut kv) = self.connect(id)? else { return Ok(false) };
        let asked = kv.set_patience(RECOVERY_MAX).and_then(|()| kv.ask("GET well"));
        Ok(matches!(asked, Ok(Reply::Nil)))
    }

    pub(super) fn connect(&self, id: u32) -> rig::Result<Option<KvClient>> {
        KvClient::connect(self.node(id))
    }

    fn info(&self, id: u32) -> rig::Result<Info> {
        let connected = self.connect(id)?;
        let info = connected.and_then(|mut kv| {
            kv.set_patience(Duration::from_secs(2)).ok()?;
            kv.info().ok()
        });
        Ok(info.unwrap_or_default())
    }

    /// The replica that sequences, by the first that knows.
    pub(super) fn sequencer(&self) -> Result<Option<u32>> {
        for id in self.ids() {
            if let Ok(sequencer) = self.info(id)?.field("sequencer").parse() {
                return Ok(Some(sequencer));
            }
        }
        Ok(None)
    }

    /// Whether any replica panicked since the last time, and the most descriptors and memory
    /// that one of them holds.
    pub(super) fn check_processes(&self) -> Result<(usize, u64)> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let from = std::mem::replace(&mut *read, self.cluster.mark());
        let panicked = |line: &&Line| line.number >= from && line.text.contains("panicked at");
        if let Some(line) = self.cluster.logs().iter().find(panicked) {
            return Err(wrong(format!("{}: {}", line.source, line.text)));
        }
        let (mut descriptors_max, mut memory_max) = (0, 0);
        for id in self.ids() {
            let Some(process) = self.slot(id).as_ref().map(Program::id) else { continue };
            let descriptors =
                fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let memory = status.lines().find_map(|line| {
                line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()
            });
            let memory: u64 = memory.unwrap_or_default();
            if descriptors > DESCRIPTORS_MAX || memory > MEMORY_KIB_MAX {
                return Err(wrong(format!(
                    "replica {id} holds {descriptors} descriptors and {memory} KiB"
                )));
            }
            descriptors_max = descriptors_max.max(descriptors);
            memory_max = memory_max.max(memory);
        }
        Ok((descriptors_max, memory_max))
    }

    /// Writes why the log is to be kept, and keeps it.
    pub(super) fn keep(&self, why: &str) {
        self.cluster.keep(why);
    }
}
