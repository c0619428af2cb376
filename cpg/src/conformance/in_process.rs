use super::{Cluster, Local, Member};
use crate::embedded::{LocalRing, Node};
use crate::{Options, Transport};

/// The embedded transport within this process.
#[derive(Debug)]
pub struct InProcess {
    nodes: Vec<Node>,
}

impl InProcess {
    /// A ring of its own, with three nodes.
    pub fn new() -> Self {
        let ring = LocalRing::new();
        Self { nodes: (0..3).map(|_| ring.node()).collect() }
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster for InProcess {
    fn transport(&self) -> Transport {
        self.nodes[0].clone().into()
    }

    fn member(&self, node: usize, options: Options) -> Box<dyn Member> {
        Box::new(Local(self.nodes[node].connect(options).unwrap()))
    }

    fn stop(&self, node: usize) -> bool {
        self.nodes[node].stop();
        true
    }
}
