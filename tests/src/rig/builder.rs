use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use super::config::Config;
use super::guard::Guard;
use super::home::Home;
use super::host::available;
use super::log::Log;
use super::switch::Switch;
use super::{Cluster, Error, Node, Result, output};

/// Maximum number of nodes of a cluster.
const NODES_MAX: u32 = 16;

/// Options of a new [`Cluster`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    name: Option<String>,
    config: Config,
    encrypted: bool,
    uids: Vec<u32>,
}

impl Builder {
    pub(super) fn new() -> Self {
        let new = Self { name: None, config: Config::new(), encrypted: false, uids: Vec::new() };
        new.token_ms(500)
    }

    /// Sets the name of its directories. Default: the name of the test.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Sets the number of nodes, 1 to 16. Nodes are numbered from 1. Default: 3.
    pub fn nodes(mut self, nodes: u32) -> Self {
        self.config.set_nodes(nodes);
        self
    }

    /// Sets the token timeout in milliseconds: the ring breaks after this time without the token,
    /// and Corosync then takes 1.2 times as long to form another. If it is too low, a busy machine
    /// breaks rings by itself; if it is too high, tests of faults take longer. Default: 500.
    pub fn token_ms(self, token_ms: u32) -> Self {
        self.setting("totem", "token", &token_ms.to_string())
    }

    /// Makes the daemons encrypt and authenticate their messages (AES-256, SHA-256), with a new key
    /// in each node's `authkey`. Default: false.
    pub fn encrypted(mut self, encrypted: bool) -> Self {
        self.encrypted = encrypted;
        let (cipher, hash) = if encrypted { ("aes256", "sha256") } else { ("none", "none") };
        self.setting("totem", "crypto_cipher", cipher).setting("totem", "crypto_hash", hash)
    }

    /// Permits programs of this user to use the daemons. By default only programs of root may.
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// Adds a setting to `corosync.conf`, for example `("logging", "debug", "on")`. It replaces the
    /// rig's own value.
    pub fn setting(mut self, section: &str, key: &str, value: &str) -> Self {
        self.config.set(section, key, value);
        self
    }

    /// Creates the nodes and starts their daemons. Does not wait until they form a ring; see
    /// [`Cluster::wait_for_ring`].
    ///
    /// Also removes leftovers of clusters whose test processes are dead.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if clusters cannot run on this machine, [`Error::Invalid`] for an
    /// invalid number of nodes, others if a system call or a program fails.
    pub fn start(self) -> Result<Cluster> {
        available().map_err(Error::Unavailable)?;
        let nodes = self.config.nodes();
        if !(1..=NODES_MAX).contains(&nodes) {
            return Err(Error::Invalid(format!(
                "{nodes} nodes; the number must be 1 to {NODES_MAX}"
            )));
        }
        let name = self.name.clone().unwrap_or_else(test_name);
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c), "-");
        let log = Arc::new(Log::new(&out(&name))?);
        self.build(&name, &log).map_err(|error| {
            let error = log.trouble(error);
            log.finish();
            error
        })
    }

    fn build(&self, name: &str, log: &Arc<Log>) -> Result<Cluster> {
        let home = Home::new(name)?;
        let guard = Guard::over(home.path())?;
        let nodes = self.config.nodes();
        // One bridge for each possible part of the network.
        let switch = Arc::new(Switch::new(home.path(), nodes)?);
        let nodes: Result<Vec<Node>> =
            (1..=nodes).map(|id| Node::new(id, home.path(), &switch, log)).collect();
        let cluster = Cluster::new(nodes?, switch, guard, home, log.clone());
        let key = self.key(cluster.directory())?;
        for node in cluster.nodes() {
            self.configure(&node.etc(), key.as_deref())?;
        }
        for node in cluster.nodes() {
            node.start_daemon()?;
        }
        Ok(cluster)
    }

    /// Creates a new key if messages are encrypted.
    fn key(&self, directory: &Path) -> Result<Option<Vec<u8>>> {
        if !self.encrypted {
            return Ok(None);
        }
        let path = directory.join("authkey");
        output::of(Command::new("corosync-keygen").arg("-l").arg("-k").arg(&path), "")?;
        fs::read(&path).map(Some).map_err(Error::system(format!("read {}", path.display())))
    }

    /// Writes the files in a node's `/etc/corosync`.
    fn configure(&self, etc: &Path, key: Option<&[u8]>) -> Result<()> {
        let write = |name: &str, mode: u32, content: &[u8]| {
            let path = etc.join(name);
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(mode).open(&path);
            file.and_then(|mut file| file.write_all(content))
                .map_err(Error::system(format!("write {}", path.display())))
        };
        write("corosync.conf", 0o644, self.config.text().as_bytes())?;
        if let Some(key) = key {
            write("authkey", 0o400, key)?;
        }
        for uid in &self.uids {
            let text = format!("uidgid {{\n    uid: {uid}\n}}\n");
            write(&format!("uidgid.d/{uid}"), 0o644, text.as_bytes())?;
        }
        Ok(())
    }
}

/// Returns the name of this thread's test, after the name of its file.
fn test_name() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let file = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Cargo adds a hash.
    let file = file.rsplit_once('-').map_or(file.as_str(), |(name, _)| name);
    let thread = std::thread::current();
    match thread.name() {
        Some(test) if test != "main" => format!("{file}-{}", test.replace("::", "-")),
        _ => file.to_owned(),
    }
}

/// Returns the directory of a cluster's log. If a name is used again in this process, a number is
/// appended.
fn out(name: &str) -> PathBuf {
    static TAKEN: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let count = taken.entry(name.to_owned()).or_default();
    *count += 1;
    let number = if *count == 1 { String::new() } else { format!("-{count}") };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("out").join(format!("{name}{number}"))
}
