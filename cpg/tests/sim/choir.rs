//! Members of a simulated group, and what each has heard, in words.

use std::time::Duration;

use bytes::Bytes;
use cpg::sim::{ClientId, Faults, Sim};
use cpg::{Configuration, Error, Event, Member, NodeId, Pid};

pub(crate) fn node(id: u32) -> NodeId {
    NodeId(id)
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) struct Singer {
    pub(crate) id: ClientId,
    pub(crate) heard: Vec<Event>,
    pub(crate) failed: Option<Error>,
}

/// One member on each node, with the node's number as its pid; more may join.
pub(crate) struct Choir {
    pub(crate) sim: Sim,
    pub(crate) singers: Vec<Singer>,
}

impl Choir {
    pub(crate) fn new(nodes: u32) -> Self {
        Self::with(0, nodes, Faults::default())
    }

    /// All have joined before faults begin.
    pub(crate) fn with(seed: u64, nodes: u32, faults: Faults) -> Self {
        let sim = Sim::new(seed, (1..=nodes).map(NodeId), Faults::default());
        let mut choir = Self { sim, singers: Vec::new() };
        for id in 1..=nodes {
            choir.join(id, id);
        }
        choir.sim.set_faults(faults);
        choir.singers.iter_mut().for_each(|singer| singer.heard.clear());
        choir
    }

    /// Joins, however often it takes, and hears of it.
    pub(crate) fn join(&mut self, id: u32, pid: u32) -> usize {
        let client = loop {
            match self.sim.join(node(id), Pid(pid)) {
                Ok(client) => break client,
                Err(Error::TryAgain) => self.run(1),
                Err(error) => panic!("{error}"),
            }
        };
        self.singers.push(Singer { id: client, heard: Vec::new(), failed: None });
        self.run(1);
        self.singers.len() - 1
    }

    /// Lets that many milliseconds pass, all listening.
    pub(crate) fn run(&mut self, for_ms: u64) {
        for _ in 0..for_ms {
            self.sim.advance(ms(1));
            self.listen();
        }
    }

    pub(crate) fn listen(&mut self) {
        for singer in self.singers.iter_mut().filter(|singer| singer.failed.is_none()) {
            loop {
                match self.sim.poll(singer.id) {
                    Ok(Some(event)) => singer.heard.push(event),
                    Ok(None) => break,
                    Err(error) => {
                        singer.failed = Some(error);
                        break;
                    }
                }
            }
        }
    }

    /// Until nothing more happens by itself.
    pub(crate) fn settle(&mut self) {
        self.run_until("nothing more happens", |choir| choir.sim.is_settled());
    }

    /// Until a new ring is agreeing on its members at the node of that singer.
    pub(crate) fn run_into_sync(&mut self, singer: usize) {
        self.run_until("a sync", |choir| choir.try_send(singer, "") == Err(Error::TryAgain));
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

    pub(crate) fn send(&mut self, singer: usize, text: &str) {
        self.try_send(singer, text).unwrap();
    }

    pub(crate) fn try_send(&mut self, singer: usize, text: &str) -> cpg::Result<()> {
        self.sim.multicast(self.singers[singer].id, Bytes::copy_from_slice(text.as_bytes()))
    }

    /// What a singer has heard since it was last asked, in words.
    pub(crate) fn story(&mut self, singer: usize) -> Vec<String> {
        self.singers[singer].heard.drain(..).map(|event| words(&event)).collect()
    }

    /// The same, without rings.
    pub(crate) fn song(&mut self, singer: usize) -> Vec<String> {
        let mut story = self.story(singer);
        story.retain(|line| !line.starts_with("ring"));
        story
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
