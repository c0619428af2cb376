use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::Token;
use crate::GroupName;
use crate::embedded::socket::KEPT_BYTES_MAX;
use crate::embedded::socket::wire::{Entry, EntryContent, Held, Participant, ProtocolError};

/// The next step of a recovery.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Clients to ask for their entries, with the first and the last sequence.
    pub(super) fetch: Vec<(Token, u64, u64)>,
    /// Clients to disconnect: no other client has the entries that they lack.
    pub(super) lost: Vec<Token>,
    /// Set once all entries are there: call `Recovery::finish`.
    pub(super) is_done: bool,
}

/// A group on which its surviving members agree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecoveredGroup {
    pub(super) group: GroupName,
    /// Greatest sequence at any survivor, and the members at that point.
    pub(super) last: u64,
    pub(super) members: Vec<Participant>,
    /// The survivors, each with the entries that it lacks.
    pub(super) survivors: Vec<(Token, Participant, Vec<Bytes>)>,
}

/// The entries of one group while a new hub collects them.
#[derive(Default)]
pub(super) struct Assembly {
    reports: BTreeMap<Token, (Participant, Held)>,
    /// The entries after `base`, without gaps, each with the members after it.
    entries: Vec<(Bytes, Members)>,
    base: u64,
    /// The members at `base`, once determined.
    base_members: Option<Members>,
    asked: Option<Asked>,
}

type Members = Arc<[Participant]>;

/// A client that was asked for its entries up to a sequence.
#[derive(Clone, Copy)]
struct Asked {
    token: Token,
    to: u64,
    /// Bytes that it has sent so far.
    bytes: usize,
}

impl Assembly {
    /// Adds a report. Only possible while no client is being asked.
    pub(super) fn report(&mut self, token: Token, who: Participant, held: Held) {
        self.reports.insert(token, (who, held));
        self.restart();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    pub(super) fn asked(&self) -> Option<Token> {
        self.asked.map(|asked| asked.token)
    }

    pub(super) fn is_asked(&self, token: Token) -> bool {
        self.asked() == Some(token)
    }

    /// Adds an entry of the client that was asked. Rejects an entry that cannot follow the previous
    /// one, so that nothing is passed on that would end the connections of its receivers.
    pub(super) fn entry(&mut self, entry: &Entry, frame: Bytes) -> Result<(), ProtocolError> {
        let next = self.end() + 1;
        let members = self.members();
        let Some(asked) = &mut self.asked else { return Ok(()) };
        if entry.sequence != next || entry.sequence > asked.to {
            return Err(ProtocolError("an entry that was not requested"));
        }
        asked.bytes += frame.len();
        if asked.bytes > KEPT_BYTES_MAX {
            return Err(ProtocolError("more entries than a client keeps"));
        }
        let members = members_after(members, &entry.what)?;
        self.entries.push((frame, members));
        Ok(())
    }

    /// Handles the end of the entries of the client that was asked.
    pub(super) fn fetch_end(&mut self) -> Result<(), ProtocolError> {
        let Some(asked) = self.asked else { return Ok(()) };
        if self.end() != asked.to {
            return Err(ProtocolError("fewer entries than were reported"));
        }
        let reported = self.reports.get(&asked.token).map(|(_, held)| &held.members);
        if !reported.is_some_and(|reported| is_same(reported, &self.members())) {
            return Err(ProtocolError("a member list that does not match its entries"));
        }
        self.asked = None;
        Ok(())
    }

    /// Starts over. Only while no client is being asked, because its late answer would look
    /// invalid.
    fn restart(&mut self) {
        self.entries.clear();
        self.base = self.reports.values().map(|(_, held)| held.last).min().unwrap_or(0);
        self.base_members = None;
    }

    /// Determines the members at `base`: the list that most clients at that sequence report.
    fn settle(&mut self) {
        if self.base_members.is_some() {
            return;
        }
        self.restart();
        let lists = || {
            let there = self.reports.values().filter(|(_, held)| held.last == self.base);
            there.map(|(_, held)| &held.members)
        };
        let mut best: (usize, &[Participant]) = (0, &[]);
        for list in lists() {
            let count = lists().filter(|other| *other == list).count();
            if count > best.0 {
                best = (count, list);
            }
        }
        self.base_members = Some(best.1.into());
    }

    /// Continues without a client that had reported. Entries that other clients are sending stay
    /// valid, and so do its own as far as another client has them, too.
    pub(super) fn disconnected(&mut self, token: Token) {
        if self.reports.remove(&token).is_none() {
            return;
        }
        self.asked = self.asked.filter(|asked| asked.token != token);
        let known = self.greatest().saturating_sub(self.base);
        self.entries.truncate(usize::try_from(known).unwrap_or(usize::MAX));
    }

    /// Returns the sequence of the last collected entry.
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// Returns the members after the last collected entry.
    fn members(&self) -> Members {
        let last = self.entries.last().map(|(_, members)| members);
        last.or(self.base_members.as_ref()).cloned().unwrap_or_default()
    }

    fn greatest(&self) -> u64 {
        self.reports.values().map(|(_, held)| held.last).max().unwrap_or(0)
    }

    pub(super) fn is_done(&self) -> bool {
        self.asked.is_none() && self.end() == self.greatest()
    }

    pub(super) fn step(&mut self, step: &mut Step) {
        self.settle();
        while self.asked.is_none() && !self.is_done() {
            let next = self.end() + 1;
            let source = self
                .reports
                .iter()
                .filter(|(_, (_, held))| held.first <= next && next <= held.last)
                .max_by_key(|(_, (_, held))| held.last);
            if let Some((token, (_, held))) = source {
                self.asked = Some(Asked { token: *token, to: held.last, bytes: 0 });
                step.fetch.push((*token, next, held.last));
            } else {
                // No client has kept the entries that the clients furthest behind lack.
                let behind = self.reports.iter().filter(|(_, (_, held))| held.last < next);
                step.lost.extend(behind.map(|(token, _)| *token));
                self.reports.retain(|_, (_, held)| held.last >= next);
                self.restart();
                self.settle();
            }
        }
    }

    pub(super) fn finish(mut self, group: GroupName) -> Option<RecoveredGroup> {
        if self.reports.is_empty() {
            return None;
        }
        self.settle();
        let (last, members) = (self.end(), self.members().to_vec());
        let entries: Vec<_> =
            mem::take(&mut self.entries).into_iter().map(|entry| entry.0).collect();
        let survivors = self
            .reports
            .iter()
            .map(|(token, (who, held))| {
                let has = held.last.saturating_sub(self.base);
                let has = usize::try_from(has).unwrap_or(usize::MAX);
                (*token, *who, entries.iter().skip(has).cloned().collect())
            })
            .collect();
        Some(RecoveredGroup { group, last, members, survivors })
    }
}

/// Returns the members after an entry, or an error if the entry cannot follow these members.
fn members_after(before: Members, what: &EntryContent) -> Result<Members, ProtocolError> {
    let (members, joined, left) = match what {
        EntryContent::Message { from, .. } if before.contains(from) => return Ok(before),
        EntryContent::Message { .. } => {
            return Err(ProtocolError("a message from a client that is not a member"));
        }
        EntryContent::Ring { .. } => return Ok(before),
        EntryContent::Change { members, joined, left } => (members, joined, left),
    };
    let mut after = before.to_vec();
    for gone in left {
        let place = after.iter().position(|who| *who == gone.who);
        after.remove(place.ok_or(ProtocolError("a client leaves that is not a member"))?);
    }
    for came in joined {
        if after.iter().any(|who| who.id == came.who.id) {
            return Err(ProtocolError("a client joins that is already a member"));
        }
        after.push(came.who);
    }
    if !is_same(&after, members) {
        return Err(ProtocolError("a member list that does not match the change"));
    }
    Ok(members.as_slice().into())
}

fn is_same(some: &[Participant], others: &[Participant]) -> bool {
    some.len() == others.len() && some.iter().all(|who| others.contains(who))
}
