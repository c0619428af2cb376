use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::home::Home;
use super::log::{Line, Log};
use super::program::POLL;
use super::switch::Switch;
use super::{Builder, Error, Membership, Node, Result};

/// A cluster of Corosync daemons on this machine, each in a [`Node`] of its own. Dropping it ends
/// all of its processes. Can be shared by threads.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    switch: Arc<Switch>,
    /// `None` once the cluster has been removed.
    guard: Option<Guard>,
    /// Dropped after the guard, which removes this directory while it is locked.
    home: Home,
    log: Arc<Log>,
}

impl Cluster {
    /// Returns the options of a new cluster. Default: three nodes, not encrypted.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) fn new(
        nodes: Vec<Node>,
        switch: Arc<Switch>,
        guard: Guard,
        home: Home,
        log: Arc<Log>,
    ) -> Self {
        Self { nodes, switch, guard: Some(guard), home, log }
    }

    /// Returns a node by its number, from 1.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    #[track_caller]
    pub fn node(&self, id: u32) -> &Node {
        let node = self.nodes.iter().find(|node| node.id() == id);
        let Some(node) = node else { panic!("there is no node {id}") };
        node
    }

    /// Returns all nodes in the order of their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the cluster's directory, which is removed with the cluster.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// Returns the id of the guard, the process that removes the cluster when this process dies.
    pub fn guard_id(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::id)
    }

    /// Splits the network into parts without a connection. A node in none of the parts is isolated.
    /// Replaces earlier cuts and partitions, but not the packet filters of nodes.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system refuses.
    ///
    /// # Panics
    ///
    /// If a node does not exist or is in two parts.
    #[track_caller]
    pub fn partition(&self, parts: &[&[u32]]) -> Result<()> {
        let named = parts.concat();
        for (at, id) in named.iter().enumerate() {
            let id = self.node(*id).id();
            assert!(!named[..at].contains(&id), "node {id} is in two parts");
        }
        self.log.note(format!("partition {parts:?}"));
        let place = |node: &Node| {
            let part = parts.iter().position(|part| part.contains(&node.id()));
            (node.id(), part)
        };
        let places: Vec<_> = self.nodes.iter().map(place).collect();
        self.switch.place(&places).map_err(|error| self.log.trouble(error))
    }

    /// Drops all packets between two nodes. Other nodes still reach both.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system refuses.
    ///
    /// # Panics
    ///
    /// If a node does not exist.
    #[track_caller]
    pub fn cut_between(&self, one: u32, other: u32) -> Result<()> {
        self.node(one).drop_from(other)?;
        self.node(other).drop_from(one)
    }

    /// Ends all faults of the network. Paused, stopped and killed processes are not changed.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system refuses.
    pub fn heal_all(&self) -> Result<()> {
        self.log.note("heal all");
        let places: Vec<_> = self.nodes.iter().map(|node| (node.id(), Some(0))).collect();
        self.switch.place(&places).map_err(|error| self.log.trouble(error))?;
        self.nodes.iter().try_for_each(Node::clear_filter)
    }

    /// Waits until the daemons of exactly these nodes report that they form one ring.
    ///
    /// A daemon reports the last completed ring, even while it forms another. So after a fault,
    /// first wait for the effect of the fault; wait for the whole ring only after the fault is
    /// healed.
    ///
    /// # Errors
    ///
    /// [`Error::Late`], with the last answer of each daemon.
    ///
    /// # Panics
    ///
    /// If `nodes` is empty or names a node that does not exist.
    #[track_caller]
    pub fn wait_for_ring(&self, nodes: &[u32], within: Duration) -> Result<Membership> {
        let mut wanted = nodes.to_vec();
        wanted.sort_unstable();
        let nodes: Vec<&Node> = wanted.iter().map(|id| self.node(*id)).collect();
        assert!(!nodes.is_empty(), "a ring needs at least one node");
        let began = Instant::now();
        let mut before = None;
        loop {
            let reports: Vec<_> = nodes.iter().map(|node| node.ask()).collect();
            let mut answers = reports.iter().flatten();
            let first = answers.next().filter(|first| first.members == wanted);
            let all = answers.filter(|next| Some(*next) == first).count() == nodes.len() - 1;
            let ring = first.filter(|_| all).cloned();
            // A single answer may mix old and new values.
            if ring == before
                && let Some(ring) = ring
            {
                self.log.note(format!("{ring} after {:?}", began.elapsed()));
                return Ok(ring);
            }
            before = ring;
            if began.elapsed() >= within {
                let show = |(node, reports): (&&Node, &Result<Membership>)| match reports {
                    Ok(membership) => format!("node {}: {membership}", node.id()),
                    Err(error) => format!("node {}: {error}", node.id()),
                };
                let last = nodes.iter().zip(&reports).map(show).collect::<Vec<_>>().join("; ");
                let what = format!("a ring of {wanted:?}");
                return Err(self.log.trouble(Error::Late { what, within, last }));
            }
            thread::sleep(POLL);
        }
    }

    /// Returns the log of the cluster: the output of its daemons and programs and the actions of
    /// the rig, in the order of arrival.
    pub fn logs(&self) -> Vec<Line> {
        self.log.lines()
    }

    /// Returns a position in the log: later lines have this number or a higher one.
    pub fn mark(&self) -> u64 {
        self.log.mark()
    }

    /// Adds a line to the log and keeps the log. For a test that is about to fail without a panic.
    pub fn keep(&self, why: &str) {
        self.log.keep(why);
    }

    /// Adds a line to the log, for example to announce the next step of a test.
    pub fn note(&self, text: &str) {
        self.log.note(text);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let removed = self.guard.take().map_or(Ok(()), Guard::remove);
        let removed = removed.map_err(|error| self.log.trouble(error));
        self.log.finish();
        if let Err(error) = removed {
            // A test that leaves something behind must not pass.
            assert!(thread::panicking(), "{error}");
            eprintln!("{error}");
        }
    }
}
