//! A simulated group, its members, and a trace in words of what each has received.

use std::time::Duration;

use bytes::Bytes;
use cpg::sim::{ConnectionId, Faults, Sim};
use cpg::{Configuration, Error, Event, Member, NodeId, Pid};

pub(crate) fn node(id: u32) -> NodeId {
    NodeId(id)
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) struct TestMember {
    pub(crate) id: ConnectionId,
    pub(crate) heard: Vec<Event>,
    pub(crate) failed: Option<Error>,
}

/// A simulated group with one member on each node, whose pid is the node's number; more may join.
pub(crate) struct TestGroup {
    pub(crate) sim: Sim,
    pub(crate) members: Vec<TestMember>,
}

impl TestGroup {
    pub(crate) fn new(nodes: u32) -> Self {
        Self::with(0, nodes, Faults::default())
    }

    /// All have joined before faults begin.
    pub(crate) fn with(seed: u64, nodes: u32, faults: Faults) -> Self {
        let sim = Sim::new(seed, (1..=nodes).map(NodeId), Faults::default());
        let mut group = Self { sim, members: Vec::new() };
        for id in 1..=nodes {
            group.join(id, id);
        }
        group.sim.set_faults(faults);
        group.members.iter_mut().for_each(|member| member.heard.clear());
        group
    }

    /// Joins, however often it takes, and hears of it.
    pub(crate) fn join(&mut self, id: u32, pid: u32) -> usize {
        let connection = loop {
            match self.sim.join(node(id), Pid(pid)) {
                Ok(connection) => break connection,
                Err(Error::TryAgain) => self.run(1),
                Err(error) => panic!("{error}"),
            }
        };
        self.members.push(TestMember { id: connection, heard: Vec::new(), failed: None });
        self.run(1);
        self.members.len() - 1
    }

    /// Lets that many milliseconds pass, all listening.
    pub(crate) fn run(&mut self, for_ms: u64) {
        for _ in 0..for_ms {
            self.sim.advance(ms(1));
            self.listen();
        }
    }

    pub(crate) fn listen(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.failed.is_none()) {
            loop {
                match self.sim.poll(member.id) {
                    Ok(Some(event)) => member.heard.push(event),
                    Ok(None) => break,
                    Err(error) => {
                        member.failed = Some(error);
                        break;
                    }
                }
            }
        }
    }

    /// Until nothing more happens by itself.
    pub(crate) fn settle(&mut self) {
        self.run_until("nothing more happens", |group| group.sim.is_settled());
    }

    /// Until a new ring is agreeing on its members at the node of that member.
    pub(crate) fn run_into_sync(&mut self, member: usize) {
        self.run_until("a sync", |group| group.try_send(member, "") == Err(Error::TryAgain));
    }

    fn run_until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        for _ in 0..10_000 {
            self.run(1);
            if is_so(self) {
                return;
            }
        }
        panic!("{what}, in vain: {:?}", self.sim);
    }

    pub(crate) fn send(&mut self, member: usize, text: &str) {
        self.try_send(member, text).unwrap();
    }

    pub(crate) fn try_send(&mut self, member: usize, text: &str) -> cpg::Result<()> {
        self.sim.multicast(self.members[member].id, Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The events that a member has received since the last call, in words.
    pub(crate) fn trace(&mut self, member: usize) -> Vec<String> {
        self.members[member].heard.drain(..).map(|event| words(&event)).collect()
    }

    /// [`trace`](Self::trace) without the rings.
    pub(crate) fn trace_without_rings(&mut self, member: usize) -> Vec<String> {
        let mut trace = self.trace(member);
        trace.retain(|line| !line.starts_with("ring"));
        trace
    }
}

/// `text` of a message, `1:1 2:2 +2:2 join -3:3 node down` of a configuration, `ring 1 2`.
pub(crate) fn words(event: &Event) -> String {
    match event {
        Event::Deliver { message, .. } => String::from_utf8_lossy(message).into_owned(),
        Event::Configuration(configuration) => {
            let Configuration { members, joined, left } = configuration;
            let mut words: Vec<_> = members.iter().map(Member::to_string).collect();
            words.extend(joined.iter().map(|c| format!("+{} {}", c.member, c.reason)));
            words.extend(left.iter().map(|c| format!("-{} {}", c.member, c.reason)));
            words.join(" ")
        }
        Event::Ring(ring) => {
            let nodes: Vec<_> = ring.nodes.iter().map(NodeId::to_string).collect();
            format!("ring {}", nodes.join(" "))
        }
    }
}
