use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::guard::MARK;
use super::log::Log;
use super::namespace::Namespace;
use super::program::Program;
use super::switch::Switch;
use super::{Error, Membership, Result, config, output};

/// Maximum time of an orderly shutdown of a daemon.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Maximum time of a command of [`Node::run`].
const RUN_WITHIN: Duration = Duration::from_secs(10);
/// Maximum time for a daemon to report its membership. A paused daemon never does.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Rate of delayed packets: one of 1,500 bytes takes 3 ms, and at most twenty wait.
const DETOUR: &str = "4mbit";

/// Gives the node its own files where Corosync and its programs look for them. `/run` is mounted
/// last, because the others may be reached through it.
const SETUP: &str = "
    mount --bind \"$1/corosync\" /etc/corosync
    mount --bind \"$1/lib\" /var/lib/corosync
    mount -t tmpfs -o size=256m plainsong-rig /dev/shm
    ip link set lo up
    mount --bind \"$1/run\" /run
";

/// One machine of a [`Cluster`](super::Cluster): a network, a file tree, a daemon, programs.
///
/// Can be shared by threads. Faults last until they are healed; stopped and paused daemons and
/// programs stay so.
#[derive(Debug)]
pub struct Node {
    id: u32,
    home: PathBuf,
    directory: PathBuf,
    namespace: Namespace,
    switch: Arc<Switch>,
    daemon: Mutex<Option<Arc<Program>>>,
    log: Arc<Log>,
}

impl Node {
    /// Creates a node that is connected to the switch, without a daemon.
    pub(super) fn new(id: u32, home: &Path, switch: &Arc<Switch>, log: &Arc<Log>) -> Result<Self> {
        let directory = home.join(format!("node{id}"));
        for part in ["corosync/uidgid.d", "lib", "run", "work"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).map_err(Error::system(format!("make {}", part.display())))?;
        }
        let name = format!("plainsong-rig-node{id}");
        let namespace = Namespace::new(home, &name, SETUP, &[&directory])?;
        switch.connect(id, &namespace)?;
        let address = config::address(id);
        let commands = format!("addr add {address}/24 dev eth0\nlink set eth0 up\n");
        namespace.configure(&["ip", "-batch", "-"], &commands)?;
        Ok(Self {
            id,
            home: home.to_owned(),
            directory,
            namespace,
            switch: switch.clone(),
            daemon: Mutex::new(None),
            log: log.clone(),
        })
    }

    /// Returns its number, from 1, which is also its id in Corosync.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns its address in the cluster's network, which is not connected to any other network.
    pub fn address(&self) -> String {
        config::address(self.id)
    }

    /// Returns the working directory of its programs. The path is the same inside and outside.
    pub fn directory(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Returns the directory that is `/etc/corosync` inside. The daemon reads it when it starts.
    pub fn etc(&self) -> PathBuf {
        self.directory.join("corosync")
    }

    /// Returns the root of its file tree, as seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.namespace.holder()))
    }

    // Programs.

    /// Returns a command that runs in this node as root. Arguments and variables can be added as
    /// usual. Do not clear its environment: the rig finds the processes to kill by a variable in
    /// it.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.enter(Command::new("nsenter"), &[], program.as_ref())
    }

    /// Returns a command that runs in this node with another user and group, without supplementary
    /// groups.
    pub fn command_as(&self, uid: u32, gid: u32, program: impl AsRef<Path>) -> Command {
        let user = [format!("--setuid={uid}"), format!("--setgid={gid}")];
        self.enter(Command::new("nsenter"), &user, program.as_ref())
    }

    /// Completes a command that runs `nsenter`, which executes `env`, which executes the program,
    /// all in one process.
    fn enter(&self, mut command: Command, options: &[String], program: &Path) -> Command {
        command.args(self.namespace.entrance()).args(options).args(["--", "env", "-C"]);
        command.arg(self.directory()).arg(program).env(MARK, &self.home);
        command
    }

    /// Starts a command made by [`Node::command`]. Its output appears in the log as `node ID NAME`.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if no process can be created. If the program does not exist, its output
    /// and status show it.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Program> {
        Program::spawn(&format!("node {} {name}", self.id), command, &self.log)
            .map_err(|error| self.log.trouble(error))
    }

    /// Runs a short program to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it fails, or if it is killed because it takes longer than ten seconds.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.output(program, arguments, RUN_WITHIN)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(self.log.trouble(self.failed(program, arguments, &output)))
    }

    fn output(&self, program: &str, arguments: &[&str], within: Duration) -> Result<Output> {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", &within.as_secs_f64().to_string(), "nsenter"]);
        let mut command = self.enter(command, &[], Path::new(program));
        command.args(arguments);
        command.output().map_err(Error::system(format!("run `{}`", output::shown(&command))))
    }

    fn failed(&self, program: &str, arguments: &[&str], output: &Output) -> Error {
        let command = format!("{program} {} (node {})", arguments.join(" "), self.id);
        let (status, said) = (output.status.to_string(), output::said(output));
        Error::Failed { command, status, said }
    }

    /// Runs `act` in a thread that is in this node's network, for example to open a socket to a
    /// program there. The socket stays in that network wherever it is used.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the network cannot be entered.
    ///
    /// # Panics
    ///
    /// If `act` panics.
    pub fn within_network<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let enter = || {
            let network = fs::File::open(format!("/proc/{}/ns/net", self.namespace.holder()))?;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(())
        };
        thread::scope(|scope| {
            let done = scope.spawn(|| enter().map(|()| act())).join();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .map_err(Error::system(format!("enter the network of node {}", self.id)))
    }

    /// Returns the names of the files in its `/dev/shm`, sorted. Corosync's clients and daemons
    /// communicate through such files, and a killed one may leave some behind.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if they cannot be read.
    pub fn shared_memory(&self) -> Result<Vec<String>> {
        let failed = || Error::system(format!("look at the shared memory of node {}", self.id));
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root().join("dev/shm")).map_err(failed())? {
            names.push(entry.map_err(failed())?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    // The daemon.

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Program>>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the daemon that was started last, whether or not it is running.
    ///
    /// # Errors
    ///
    /// [`Error::Never`] if none was started.
    pub fn daemon(&self) -> Result<Arc<Program>> {
        self.slot().clone().ok_or_else(|| {
            let what = format!("the daemon of node {}", self.id);
            self.log.trouble(Error::Never { what, why: "it was never started".into() })
        })
    }

    /// Starts the daemon. Does not wait until it is in a ring.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is already running.
    pub fn start_daemon(&self) -> Result<()> {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|daemon| daemon.status().is_none()) {
            let invalid = format!("node {} already has a daemon", self.id);
            return Err(self.log.trouble(Error::Invalid(invalid)));
        }
        let mut command = self.command("corosync");
        command.arg("-f");
        *slot = Some(Arc::new(self.spawn("corosync", command)?));
        Ok(())
    }

    /// Shuts the daemon down (SIGTERM) and waits until it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] if it does not end, for example because it is paused.
    pub fn stop_daemon(&self) -> Result<()> {
        let daemon = self.daemon()?;
        daemon.terminate()?;
        daemon.wait_exit(STOP_WITHIN).map(drop)
    }

    /// Kills the daemon (SIGKILL).
    ///
    /// # Errors
    ///
    /// As for [`Program::kill`].
    pub fn kill_daemon(&self) -> Result<()> {
        self.daemon()?.kill()
    }

    /// Pauses the daemon (SIGSTOP). After the token timeout, the other daemons form a ring without
    /// it.
    ///
    /// # Errors
    ///
    /// As for [`Program::pause`].
    pub fn pause_daemon(&self) -> Result<()> {
        self.daemon()?.pause()
    }

    /// Resumes a paused daemon.
    ///
    /// # Errors
    ///
    /// As for [`Program::resume`].
    pub fn resume_daemon(&self) -> Result<()> {
        self.daemon()?.resume()
    }

    /// Returns the daemon's report about its ring.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it does not answer within a second, because it is not running, is still
    /// starting, or is paused.
    pub fn membership(&self) -> Result<Membership> {
        let mut last = self.ask()?;
        loop {
            let next = self.ask()?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
    }

    /// Asks the daemon once. Right after a change, the answer may combine the new ring with the
    /// quorum of the old one.
    pub(super) fn ask(&self) -> Result<Membership> {
        // The exit status depends on the quorum, so a failure is not an error.
        let arguments = ["-s", "-i"];
        let output = self.output("corosync-quorumtool", &arguments, ANSWER_WITHIN)?;
        Membership::read(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| self.failed("corosync-quorumtool", &arguments, &output))
    }

    // The network.

    /// Disconnects the node from the switch: no packets go in or out, and the node gets no
    /// notification.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system refuses.
    pub fn cut(&self) -> Result<()> {
        self.log.note(format!("cut node {}", self.id));
        self.switch.place(&[(self.id, None)]).map_err(|error| self.log.trouble(error))
    }

    /// Connects the node to the switch again, to the part of the network that bridge 0 joins, and
    /// removes all its packet filters.
    ///
    /// # Errors
    ///
    /// As for [`Node::cut`].
    pub fn heal(&self) -> Result<()> {
        self.log.note(format!("heal node {}", self.id));
        self.switch.place(&[(self.id, Some(0))]).map_err(|error| self.log.trouble(error))?;
        self.clear_filter()
    }

    /// Drops all packets that arrive from another node. The other direction stays open.
    ///
    /// # Errors
    ///
    /// As for [`Node::cut`].
    pub fn drop_from(&self, other: u32) -> Result<()> {
        self.log.note(format!("node {} drops packets from node {other}", self.id));
        let from = config::address(other);
        self.filter(&format!("add rule inet rig drops iifname eth0 ip saddr {from} drop\n"))
    }

    /// Drops this percentage of the packets that arrive from any other node, at random. Replaces
    /// the percentage set before; 0 ends it.
    ///
    /// # Errors
    ///
    /// As for [`Node::cut`].
    ///
    /// # Panics
    ///
    /// If it is more than 100.
    pub fn loss_percent(&self, percent: u32) -> Result<()> {
        assert!(percent <= 100, "{percent} is more than 100 %");
        self.log.note(format!("node {} loses {percent} %", self.id));
        let chance = match percent {
            0 => return self.filter("flush chain inet rig losses\n"),
            100 => String::new(),
            _ => format!("numgen random mod 100 < {percent}"),
        };
        self.filter(&format!(
            "flush chain inet rig losses\nadd rule inet rig losses iifname eth0 {chance} drop\n"
        ))
    }

    fn filter(&self, commands: &str) -> Result<()> {
        // Existing tables and chains are not added again, but rules would be.
        let filter = "
            add table inet rig
            add chain inet rig drops { type filter hook input priority 0; }
            add chain inet rig losses { type filter hook input priority 1; }
            add chain inet rig delays { type filter hook postrouting priority 0; }
        ";
        self.namespace
            .configure(&["nft", "-f", "-"], &format!("{filter}\n{commands}"))
            .map_err(|error| self.log.trouble(error))
    }

    /// Limits the bandwidth of packets that it sends, in kilobits per second. Packets that would
    /// wait longer than 0.4 s are dropped.
    ///
    /// # Errors
    ///
    /// As for [`Node::cut`].
    pub fn slow_link(&self, kilobits: u32) -> Result<()> {
        self.log.note(format!("node {} sends {kilobits} kbit/s", self.id));
        let rate = format!("{kilobits}kbit");
        let line = ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate];
        let line = [&line[..], &["burst", "16kb", "latency", "400ms"]].concat();
        self.run("tc", &line).map(drop)
    }

    /// Delays this percentage of the packets that it sends, at random, so that others overtake them
    /// by up to 60 ms.
    ///
    /// # Errors
    ///
    /// As for [`Node::cut`].
    ///
    /// # Panics
    ///
    /// If it is more than 100.
    pub fn reorder(&self, percent: u32) -> Result<()> {
        assert!(percent <= 100, "{percent} is more than 100 %");
        self.log.note(format!("node {} delays {percent} % of its packets", self.id));
        let lines = format!(
            "qdisc replace dev eth0 root handle 1: htb default 1\n\
             class add dev eth0 parent 1: classid 1:1 htb rate 10gbit\n\
             class add dev eth0 parent 1: classid 1:2 htb rate {DETOUR}\n\
             qdisc add dev eth0 parent 1:2 pfifo limit 20\n"
        );
        self.namespace
            .configure(&["tc", "-batch", "-"], &lines)
            .map_err(|error| self.log.trouble(error))?;
        self.filter(&format!(
            "flush chain inet rig delays\nadd rule inet rig delays oifname eth0 \
             numgen random mod 100 < {percent} meta priority set 1:2\n"
        ))
    }

    /// Removes the effects of [`Node::drop_from`], [`Node::loss_percent`], [`Node::slow_link`] and
    /// [`Node::reorder`].
    pub(super) fn clear_filter(&self) -> Result<()> {
        // Usually there is none, and the command fails.
        self.output("tc", &["qdisc", "del", "dev", "eth0", "root"], RUN_WITHIN)?;
        self.namespace
            .configure(&["nft", "-f", "-"], "add table inet rig\ndelete table inet rig\n")
            .map_err(|error| self.log.trouble(error))
    }
}
