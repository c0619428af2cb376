use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::home::Home;
use super::log::{Line, Log};
use super::program::LOOK;
use super::switch::Switch;
use super::{Builder, Error, Membership, Node, Result};

/// A cluster of Corosync daemons on this machine, each in a [`Node`] of its own. It ends
/// when it is dropped, with all that runs in it.
///
/// Any thread may use it.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    switch: Arc<Switch>,
    /// None once it has done its work.
    guard: Option<Guard>,
    /// After the guard, which removes what is locked in here.
    home: Home,
    log: Arc<Log>,
}

impl Cluster {
    /// What a new cluster will be like: three nodes in plain text, unless told otherwise.
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

    /// A node, by its number from 1.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn node(&self, id: u32) -> &Node {
        let node = self.nodes.iter().find(|node| node.id() == id);
        let Some(node) = node else { panic!("there is no node {id}") };
        node
    }

    /// All nodes, by their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its directory, which goes with it.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The process that removes the cluster when this one dies.
    pub fn guard_id(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::id)
    }

    /// Divides the network: each part hears only itself. A node in no part hears nobody.
    /// Replaces what cuts and partitions there were, but not what nodes drop and lose.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system refuses.
    ///
    /// # Panics
    ///
    /// If there is no such node, or it is in two parts.
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

    /// Drops all that two nodes send to each other. Others may still hear both.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system refuses.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    #[track_caller]
    pub fn cut_between(&self, one: u32, other: u32) -> Result<()> {
        self.node(one).drop_from(other)?;
        self.node(other).drop_from(one)
    }

    /// Ends all faults of the network. What is paused, stopped or killed stays so.
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

    /// Waits until the daemons of exactly these nodes are in one ring, by what each of them
    /// says.
    ///
    /// A daemon tells the last ring that was completed, even while it forms another. So after
    /// a fault first wait for what it does, and only after it is healed for the whole ring.
    ///
    /// # Errors
    ///
    /// [`Error::Late`], with what each of them said last.
    ///
    /// # Panics
    ///
    /// If there is no such node, or none was named.
    #[track_caller]
    pub fn wait_for_ring(&self, nodes: &[u32], within: Duration) -> Result<Membership> {
        let mut wanted = nodes.to_vec();
        wanted.sort_unstable();
        let nodes: Vec<&Node> = wanted.iter().map(|id| self.node(*id)).collect();
        assert!(!nodes.is_empty(), "a ring of no nodes");
        let began = Instant::now();
        let mut before = None;
        loop {
            let said: Vec<_> = nodes.iter().map(|node| node.ask()).collect();
            let mut answers = said.iter().flatten();
            let first = answers.next().filter(|first| first.members == wanted);
            let all = answers.filter(|next| Some(*next) == first).count() == nodes.len() - 1;
            let ring = first.filter(|_| all).cloned();
            // One answer may be half old.
            if ring == before
                && let Some(ring) = ring
            {
                self.log.note(format!("{ring} after {:?}", began.elapsed()));
                return Ok(ring);
            }
            before = ring;
            if began.elapsed() >= within {
                let say = |(node, said): (&&Node, &Result<Membership>)| match said {
                    Ok(membership) => format!("node {}: {membership}", node.id()),
                    Err(error) => format!("node {}: {error}", node.id()),
                };
                let last = nodes.iter().zip(&said).map(say).collect::<Vec<_>>().join("; ");
                let what = format!("a ring of {wanted:?}");
                return Err(self.log.trouble(Error::Late { what, within, last }));
            }
            thread::sleep(LOOK);
        }
    }

    /// Whatever was said in the cluster so far, merged by the time of arrival: by its daemons
    /// and programs, and by the rig of what it did.
    pub fn logs(&self) -> Vec<Line> {
        self.log.lines()
    }

    /// A place in the log: lines that arrive from now on have this number or a higher one.
    pub fn mark(&self) -> u64 {
        self.log.mark()
    }

    /// Adds a line to the log, which will be kept: the test is about to fail without a panic.
    pub fn keep(&self, why: &str) {
        self.log.keep(why);
    }

    /// Adds a line to the log, for example what the test is about to do.
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
            // A test must not pass that leaves something behind.
            assert!(thread::panicking(), "{error}");
            eprintln!("{error}");
        }
    }
}
