use std::collections::BTreeMap;
use std::mem;

use bytes::{Bytes, BytesMut};

use crate::embedded::membership::Membership;
use crate::embedded::socket::ClientId;
use crate::embedded::socket::wire::{self, Entry, EntryContent, MemberChange, Participant};
use crate::{GroupEntry, GroupName, Iteration, Reason, Result};

use super::Token;

/// Size in bytes above which a batch is output before the end of the turn.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The groups of the ring, with the next sequence of each.
///
/// [`Order::take`] returns the output for each connection. This type knows no sockets. Entries are
/// collected in batches, and all members of a group share the memory of a batch.
#[derive(Default)]
pub(super) struct Order {
    groups: BTreeMap<GroupName, Group>,
    output: Vec<(Token, Bytes)>,
}

#[derive(Default)]
struct Group {
    last: u64,
    membership: Membership<Route>,
    /// Entries not yet output to the members.
    batch: BytesMut,
}

#[derive(Clone, Copy)]
struct Route {
    id: ClientId,
    /// The member's connection; `None` for a member that did not report to this hub.
    token: Option<Token>,
}

/// A member of a group according to the clients of an earlier hub.
pub(super) struct Known {
    pub(super) who: Participant,
    pub(super) token: Option<Token>,
}

impl Order {
    /// Restores a group as it was under the last hub.
    pub(super) fn restore(&mut self, name: GroupName, last: u64, members: &[Known]) {
        if members.is_empty() {
            return;
        }
        let group = self.groups.entry(name).or_default();
        group.last = last;
        for known in members {
            let route = Route { id: known.who.id, token: known.token };
            // A client may report a duplicate or too many members. Those are ignored.
            let _ = group.membership.join(known.who.member(), route);
        }
    }

    /// Ends the membership of every client that did not report, each in its own configuration, and
    /// then announces the new ring.
    pub(super) fn settle(&mut self, ring: u64) {
        for name in self.groups.keys().cloned().collect::<Vec<_>>() {
            let gone: Vec<_> = self.groups.get(&name).map_or_else(Vec::new, |group| {
                let seats = group.membership.seats().iter();
                seats.filter(|seat| seat.keep.token.is_none()).map(|seat| seat.keep.id).collect()
            });
            for id in gone {
                self.remove(&name, id, Reason::ProcessDown);
            }
        }
        for group in self.groups.values_mut() {
            group.put(EntryContent::Ring { ring });
        }
    }

    pub(super) fn join(&mut self, name: &GroupName, who: Participant, token: Token) -> Result<()> {
        let group = self.groups.entry(name.clone()).or_default();
        // A new member must not receive earlier entries.
        group.flush(&mut self.output);
        group.membership.join(who.member(), Route { id: who.id, token: Some(token) })?;
        let joined = vec![MemberChange { who, reason: Reason::Join }];
        group.put(EntryContent::Change { members: group.members(), joined, left: Vec::new() });
        Ok(())
    }

    /// Ends a membership. A member that leaves also receives the configuration.
    pub(super) fn remove(&mut self, name: &GroupName, id: ClientId, reason: Reason) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.flush(&mut self.output);
        let Some((_, gone)) = group.membership.remove(reason, |seat| seat.keep.id == id) else {
            return;
        };
        let left = gone.iter().map(|seat| MemberChange {
            who: Participant { id: seat.keep.id, pid: seat.member.pid },
            reason,
        });
        group.put(EntryContent::Change {
            members: group.members(),
            joined: Vec::new(),
            left: left.collect(),
        });
        if reason == Reason::Leave {
            let entry = Bytes::copy_from_slice(&group.batch);
            let tokens = gone.iter().filter_map(|seat| seat.keep.token);
            self.output.extend(tokens.map(|token| (token, entry.clone())));
        }
        if group.membership.is_empty() {
            self.groups.remove(name);
        }
    }

    pub(super) fn multicast(
        &mut self,
        name: &GroupName,
        from: Participant,
        op: u64,
        message: &[u8],
    ) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.last += 1;
        wire::put_message(&mut group.batch, group.last, from, op, message);
        if group.batch.len() >= BATCH_BYTES_MAX {
            group.flush(&mut self.output);
        }
    }

    pub(super) fn rows(&self, iteration: &Iteration) -> Vec<GroupEntry> {
        let rows = |(name, group): (&GroupName, &Group)| -> Vec<GroupEntry> {
            let members = group.membership.members().into_iter();
            members.map(|member| GroupEntry { group: name.clone(), member: Some(member) }).collect()
        };
        match iteration {
            Iteration::NamesOnly => self
                .groups
                .keys()
                .map(|name| GroupEntry { group: name.clone(), member: None })
                .collect(),
            Iteration::OneGroup(wanted) => {
                self.groups.get_key_value(wanted).map(rows).unwrap_or_default()
            }
            Iteration::All => self.groups.iter().flat_map(rows).collect(),
        }
    }

    /// Returns the output for the connections, in order.
    pub(super) fn take(&mut self) -> Vec<(Token, Bytes)> {
        for group in self.groups.values_mut() {
            group.flush(&mut self.output);
        }
        mem::take(&mut self.output)
    }
}

impl Group {
    fn put(&mut self, what: EntryContent) {
        self.last += 1;
        Entry { sequence: self.last, what }.put(&mut self.batch);
    }

    fn members(&self) -> Vec<Participant> {
        let seats = self.membership.seats().iter();
        seats.map(|seat| Participant { id: seat.keep.id, pid: seat.member.pid }).collect()
    }

    fn flush(&mut self, output: &mut Vec<(Token, Bytes)>) {
        if self.batch.is_empty() {
            return;
        }
        let entries = self.batch.split().freeze();
        let tokens = self.membership.seats().iter().filter_map(|seat| seat.keep.token);
        output.extend(tokens.map(|token| (token, entries.clone())));
    }
}
