//! The core of OmniPaxos alone: three nodes in one thread that passes their messages, without
//! network, encoding, other threads or waiting callers.

use omnipaxos::macros::Entry;
use omnipaxos::messages::Message;
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

use super::{Map, Put, Watch};
use crate::peer::Result;

#[derive(Clone, Debug, Entry)]
struct Command(Put);

struct Node {
    paxos: OmniPaxos<Command, MemoryStorage<Command>>,
    map: Map,
    applied: usize,
}

pub fn run(callers: usize) -> Result<f64> {
    let mut nodes = Vec::new();
    for pid in 1..=3 {
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: vec![1, 2, 3],
                ..ClusterConfig::default()
            },
            server_config: ServerConfig { pid, ..ServerConfig::default() },
        };
        let paxos = config
            .build(MemoryStorage::default())
            .map_err(|error| format!("omnipaxos rejects its configuration: {error:?}"))?;
        nodes.push(Node { paxos, map: Map::default(), applied: 0 });
    }
    let mut on_their_way = Vec::new();
    let leader = loop {
        nodes.iter_mut().for_each(|node| node.paxos.tick());
        turn(&mut nodes, &mut on_their_way, 0)?;
        match nodes[0].paxos.get_current_leader() {
            Some((leader, true)) => break leader as usize - 1,
            _ => {}
        }
    };
    let (mut watch, mut key, mut under_way) = (Watch::new(), 0, 0);
    while !watch.is_over() {
        while under_way < callers {
            key += 1;
            let appended = nodes[leader].paxos.append(Command(Put::of(key)));
            appended.map_err(|error| format!("omnipaxos rejects a command: {error:?}"))?;
            under_way += 1;
        }
        let answered = turn(&mut nodes, &mut on_their_way, leader)?;
        under_way -= answered;
        watch.answered(answered as u64);
    }
    Ok(watch.rate())
}

/// Runs every node once and returns the number of commands that the leader has applied.
fn turn(
    nodes: &mut [Node],
    on_their_way: &mut Vec<Message<Command>>,
    leader: usize,
) -> Result<usize> {
    let mut applied = 0;
    for (at, node) in nodes.iter_mut().enumerate() {
        node.paxos.take_outgoing_messages(on_their_way);
        let decided = node.paxos.read_decided_suffix(node.applied).unwrap_or_default();
        for entry in &decided {
            if let LogEntry::Decided(Command(put)) = entry {
                node.map.apply(*put);
            }
        }
        node.applied += decided.len();
        if at == leader {
            applied = decided.len();
        }
    }
    for message in on_their_way.drain(..) {
        nodes[message.get_receiver() as usize - 1].paxos.handle_incoming(message);
    }
    let decided = nodes.iter().map(|node| node.applied).min().unwrap_or(0);
    let compacted = nodes[leader].paxos.get_compacted_idx();
    if decided > compacted + 100_000 {
        // Rejected while a node lags; retried later.
        let _ = nodes[leader].paxos.trim(Some(decided));
    }
    Ok(applied)
}
