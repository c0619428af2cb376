//! Output for people.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use cpg::{Change, Event, GroupEntry, Member, NodeId, Ring};

/// Prints one line per group: its name and its members.
pub(crate) fn groups(rows: impl Iterator<Item = GroupEntry>) -> io::Result<()> {
    let mut groups: BTreeMap<_, Vec<Member>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.group).or_default().extend(row.member);
    }
    let width = groups.keys().map(|group| group.as_str().len()).max().unwrap_or(0);
    let mut out = io::stdout().lock();
    for (group, mut members) in groups {
        members.sort();
        writeln!(out, "{:width$}  {}", group.as_str(), list(&members))?;
    }
    Ok(())
}

/// Prints one line per member.
pub(crate) fn members(members: &[Member]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    members.iter().try_for_each(|member| writeln!(out, "{member}"))
}

/// Prints one event: a line per message, per member that joined or left, and per list of members.
pub(crate) fn event(event: &Event, me: Member) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match event {
        Event::Deliver { sender, message } => {
            writeln!(out, "message from {}: {}", name(*sender, me), text(message))?;
        }
        Event::Configuration(change) => {
            let signs = [("joined", &change.joined), ("left", &change.left)];
            for (sign, changes) in signs {
                for Change { member, reason } in changes {
                    writeln!(out, "{} {sign} ({reason})", name(*member, me))?;
                }
            }
            writeln!(out, "members {}", list(&change.members))?;
        }
        Event::Ring(ring) => writeln!(out, "ring {} of nodes {}", ring.id, list(&ring.nodes))?,
    }
    out.flush()
}

/// Prints the ring, one property per line.
pub(crate) fn ring(ring: &Ring, local: NodeId, quorate: Option<bool>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ring    {}", ring.id)?;
    writeln!(out, "nodes   {}", list(&ring.nodes))?;
    writeln!(out, "here    {local}")?;
    let quorum = match quorate {
        Some(true) => "yes",
        Some(false) => "no: these nodes do not hold enough votes",
        None => "not counted: this transport is one host",
    };
    writeln!(out, "quorum  {quorum}")
}

fn list(things: &[impl ToString]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn name(member: Member, me: Member) -> String {
    if member == me { format!("{member} (this)") } else { member.to_string() }
}

/// Returns a message as text, escaped if it is not UTF-8 or contains control characters.
fn text(message: &[u8]) -> String {
    match std::str::from_utf8(message) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => message.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(text(b"la la"), "la la");
        assert_eq!(text("grün".as_bytes()), "grün");
        assert_eq!(text(b"\x1b[2J"), r"\x1b[2J");
        assert_eq!(text(b"\xff\n"), r"\xff\n");
    }
}
