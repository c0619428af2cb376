//! The core of raft-rs alone: three nodes in one thread that passes their messages, without
//! network, encoding of messages, other threads or waiting callers.

use std::collections::VecDeque;

use raft::eraftpb::{EntryType, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use super::{Map, Put, Watch};
use crate::peer::Result;

struct Node {
    raft: RawNode<MemStorage>,
    map: Map,
    applied: u64,
}

pub fn run(callers: usize) -> Result<f64> {
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
        let config = Config {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_msgs: 256,
            max_size_per_msg: 64 << 10,
            ..Config::default()
        };
        let raft = RawNode::new(&config, storage, &logger)?;
        nodes.push(Node { raft, map: Map::default(), applied: 0 });
    }
    let mut on_their_way = VecDeque::new();
    nodes[0].raft.campaign()?;
    while nodes[0].raft.raft.state != StateRole::Leader {
        turn(&mut nodes, &mut on_their_way)?;
    }
    let (mut watch, mut key, mut under_way) = (Watch::new(), 0, 0);
    while !watch.is_over() {
        while under_way < callers {
            key += 1;
            nodes[0].raft.propose(vec![], Put::of(key).to_bytes())?;
            under_way += 1;
        }
        let answered = turn(&mut nodes, &mut on_their_way)?;
        under_way -= answered;
        watch.answered(answered as u64);
    }
    Ok(watch.rate())
}

/// Runs every node once and returns the number of commands that the first has applied.
fn turn(nodes: &mut [Node], on_their_way: &mut VecDeque<Message>) -> Result<usize> {
    let mut applied = 0;
    for (at, node) in nodes.iter_mut().enumerate() {
        if !node.raft.has_ready() {
            continue;
        }
        let mut ready = node.raft.ready();
        on_their_way.extend(ready.take_messages());
        let mut count = node.apply(ready.take_committed_entries())?;
        if !ready.entries().is_empty() {
            node.raft.mut_store().wl().append(ready.entries())?;
        }
        if let Some(hard_state) = ready.hs() {
            node.raft.mut_store().wl().set_hardstate(hard_state.clone());
        }
        on_their_way.extend(ready.take_persisted_messages());
        let mut light = node.raft.advance(ready);
        if let Some(commit) = light.commit_index() {
            node.raft.mut_store().wl().mut_hard_state().set_commit(commit);
        }
        on_their_way.extend(light.take_messages());
        count += node.apply(light.take_committed_entries())?;
        node.raft.advance_apply();
        if node.applied > 100_000 {
            let compacted = node.applied - 50_000;
            let first = raft::Storage::first_index(node.raft.store())?;
            if compacted > first + 50_000 {
                node.raft.mut_store().wl().compact(compacted)?;
            }
        }
        if at == 0 {
            applied = count;
        }
    }
    while let Some(message) = on_their_way.pop_front() {
        let to = message.to as usize - 1;
        nodes[to].raft.step(message)?;
    }
    Ok(applied)
}

impl Node {
    fn apply(&mut self, entries: Vec<raft::eraftpb::Entry>) -> Result<usize> {
        let mut count = 0;
        for entry in entries {
            self.applied = entry.index;
            if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                self.map.apply(Put::from_bytes(&entry.data).ok_or("not a command")?);
                count += 1;
            }
        }
        Ok(count)
    }
}
