use plainsong::Incarnation;
use plainsong::engine::{Batch, EntryPayload, MembersChanged};
use plainsong::message::{Fetch, Missing, Offer, Offered, Open};
use plainsong::{Ballot, Voter, Voters};

/// Formats a list as `1 2 3`, or as `none`.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".into() } else { items.join(" ") }
}

/// Formats a ballot without the nonce.
pub(super) fn ballot(ballot: Ballot) -> String {
    format!("{}/{}", ballot.counter, ballot.replica)
}

/// Formats the voters: replica 3 with its first store is `3`, with its second store `3'`.
fn voters(voters: &Voters) -> String {
    let ticks = |voter: &Voter| "'".repeat((voter.store.0 % 100) as usize);
    let name = |voter: &Voter| format!("{}{}", voter.replica, ticks(voter));
    let of = |set: &[Voter]| list(set.iter().map(name));
    let now = of(&voters.now);
    if voters.now == voters.previous {
        format!("voters {now}")
    } else {
        format!("voters {now} (before: {})", of(&voters.previous))
    }
}

pub(super) fn open(open: &Open) -> String {
    format!(
        "opens epoch {} with base [{}], sequencer {}, {}",
        ballot(open.ballot),
        open.base.index,
        open.sequencer.replica,
        voters(&open.voters)
    )
}

pub(super) fn entry(epoch: Ballot, payload: &EntryPayload) -> String {
    match payload {
        EntryPayload::EpochStart(set) => {
            format!("start of epoch {}, {}", ballot(epoch), voters(set))
        }
        EntryPayload::Batch(batch) => {
            let commands = commands(batch);
            // Operators' commands are binary.
            if commands.iter().any(|command| command.contains(char::is_control)) {
                return format!("an operator's request of {}", batch.origin.replica);
            }
            let quoted = commands.into_iter().map(|command| format!("'{command}'"));
            format!("{} of {}", list(quoted), batch.origin.replica)
        }
        EntryPayload::Notice(MembersChanged { joined, left }) => {
            let of = |runs: &[Incarnation]| list(runs.iter().map(|run| run.replica));
            match (joined.is_empty(), left.is_empty()) {
                (false, true) => format!("notice: joined {}", of(joined)),
                (true, false) => format!("notice: left {}", of(left)),
                _ => format!("notice: joined {}, left {}", of(joined), of(left)),
            }
        }
        EntryPayload::Time => "time".into(),
    }
}

/// Returns the commands of a batch. Each is preceded by its length.
pub(super) fn commands(batch: &Batch) -> Vec<String> {
    let mut rest = &batch.commands[..];
    let mut commands = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (command, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        commands.push(String::from_utf8_lossy(command).into_owned());
        rest = behind;
    }
    commands
}

pub(super) fn fetch(fetch: &Fetch) -> String {
    match fetch.missing {
        Missing::Open => format!("asks for the Open of epoch {}", ballot(fetch.epoch)),
        Missing::Entries { after, .. } => format!("asks for the entries after [{}]", after.index),
    }
}

pub(super) fn offer(offer: &Offer) -> String {
    let laggards = list(offer.laggards.iter().map(|laggard| laggard.replica));
    let what = match offer.what {
        Offered::Entries => "entries".into(),
        Offered::Snapshot(name) => format!("the snapshot at [{}]", name.index()),
    };
    format!("offers {laggards} {what} from {}", offer.donor.replica)
}

/// Shortens a line of the network's trace: removes details that depend on the number of token
/// rotations.
pub(super) fn network(line: &str) -> String {
    let line = line.trim_start().split_once(' ').map_or(line, |(_, line)| line);
    let Some((_, what)) = line.strip_prefix("ring ").and_then(|line| line.split_once(": ")) else {
        return line.into();
    };
    let origins: Option<Vec<_>> =
        what.split(", ").map(|part| Some(part.split_once(" from ")?.0)).collect();
    match origins {
        Some(nodes) if nodes.iter().all(|nodes| !nodes.contains(|c: char| c.is_alphabetic())) => {
            format!("a new ring: {}", nodes.join(" and "))
        }
        _ => format!("in the ring {what}"),
    }
}

/// Merges equal lines of several nodes into one. The line of a node begins with its number and a
/// colon.
pub(super) fn together(lines: Vec<String>) -> Vec<String> {
    let mut merged: Vec<(Vec<String>, String)> = Vec::new();
    for line in lines {
        let node = line
            .split_once(": ")
            .filter(|(node, _)| node.bytes().all(|byte| byte.is_ascii_digit()));
        let Some((node, text)) = node else {
            merged.push((Vec::new(), line));
            continue;
        };
        let same = merged.iter_mut().rev().find(|(nodes, other)| {
            other == text && !nodes.is_empty() && !nodes.iter().any(|known| known == node)
        });
        match same {
            Some((nodes, _)) => nodes.push(node.into()),
            None => merged.push((vec![node.into()], text.into())),
        }
    }
    merged
        .into_iter()
        .map(|(mut nodes, text)| {
            nodes.sort();
            if nodes.is_empty() { text } else { format!("{}: {text}", nodes.join(" ")) }
        })
        .collect()
}
