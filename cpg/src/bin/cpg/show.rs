//! What is printed, for people.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use cpg::{Change, Event, GroupEntry, Member, NodeId, Ring};

/// One line a group: its name and its members.
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

/// One line a member.
pub(crate) fn members(members: &[Member]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    members.iter().try_for_each(|member| writeln!(out, "{member}"))
}

/// One line an event.
pub(crate) fn event(event: &Event, me: Member) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match event {
        Event::Deliver { sender, message } => {
            writeln!(out, "message from {}: {}", name(*sender, me), text(message))?;
        }
        Event::Configuration(change) => {
            let signs = [("came", &change.joined), ("went", &change.left)];
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

/// The ring, one property a line.
pub(crate) fn ring(ring: &Ring, local: NodeId, quorate: Option<bool>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ring    {}", ring.id)?;
    writeln!(out, "nodes   {}", list(&ring.nodes))?;
    writeln!(out, "here    {local}")?;
    let quorum = match quorate {
        Some(true) => "yes",
        Some(false) => "no: these nodes do not have the votes",
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

/// A message as text, or escaped where it is none that a terminal should get.
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
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(text(b"la la"), "la la");
        assert_eq!(text("grün".as_bytes()), "grün");
        assert_eq!(text(b"\x1b[2J"), r"\x1b[2J");
        assert_eq!(text(b"\xff\n"), r"\xff\n");
    }
}
