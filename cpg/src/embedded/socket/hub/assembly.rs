use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::Token;
use crate::GroupName;
use crate::embedded::socket::KEPT_BYTES_MAX;
use crate::embedded::socket::wire::{Entry, Held, Nonsense, Participant, What};

/// The next step of a recovery.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Ask these clients for their entries from the first to the second sequence.
    pub(super) fetch: Vec<(Token, u64, u64)>,
    /// Cut these off: what they lack, nobody has any more.
    pub(super) lost: Vec<Token>,
    /// All is there: take it by `Recovery::finish`.
    pub(super) is_done: bool,
}

/// A group as its surviving members agree on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecoveredGroup {
    pub(super) group: GroupName,
    /// The greatest sequence that a survivor has, and the members there.
    pub(super) last: u64,
    pub(super) members: Vec<Participant>,
    /// The survivors, and the entries that each still has to get.
    pub(super) survivors: Vec<(Token, Participant, Vec<Bytes>)>,
}

/// The entries of one group while a new hub gathers them.
#[derive(Default)]
pub(super) struct Assembly {
    reports: BTreeMap<Token, (Participant, Held)>,
    /// The entries after `base` without a gap, each with the members after it.
    entries: Vec<(Bytes, Members)>,
    base: u64,
    /// The members at `base`, once it is settled.
    base_members: Option<Members>,
    asked: Option<Asked>,
}

type Members = Arc<[Participant]>;

/// A client that is asked for its entries up to a sequence.
#[derive(Clone, Copy)]
struct Asked {
    token: Token,
    to: u64,
    /// Bytes that it has sent.
    bytes: usize,
}

impl Assembly {
    /// Takes a report, which is only possible while nobody is asked.
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

    /// Takes an entry of the client that is asked, if it can follow the entry before it. So
    /// nothing is passed on that would end the connections of those who get it.
    pub(super) fn entry(&mut self, entry: &Entry, frame: Bytes) -> Result<(), Nonsense> {
        let next = self.end() + 1;
        let members = self.members();
        let Some(asked) = &mut self.asked else { return Ok(()) };
        if entry.sequence != next || entry.sequence > asked.to {
            return Err(Nonsense("an entry that was not asked for"));
        }
        asked.bytes += frame.len();
        if asked.bytes > KEPT_BYTES_MAX {
            return Err(Nonsense("more entries than a client keeps"));
        }
        let members = members_after(members, &entry.what)?;
        self.entries.push((frame, members));
        Ok(())
    }

    /// Takes that the client that is asked has sent all its entries.
    pub(super) fn fetch_end(&mut self) -> Result<(), Nonsense> {
        let Some(asked) = self.asked else { return Ok(()) };
        if self.end() != asked.to {
            return Err(Nonsense("fewer entries than were reported"));
        }
        let reported = self.reports.get(&asked.token).map(|(_, held)| &held.members);
        if !reported.is_some_and(|reported| is_same(reported, &self.members())) {
            return Err(Nonsense("other members than those that its entries lead to"));
        }
        self.asked = None;
        Ok(())
    }

    /// Begins anew. Only while nobody is asked, or a late answer would look like nonsense.
    fn restart(&mut self) {
        self.entries.clear();
        self.base = self.reports.values().map(|(_, held)| held.last).min().unwrap_or(0);
        self.base_members = None;
    }

    /// Settles the members at `base`: as most of those report them that are there.
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

    /// Goes on without one of those who reported. What others are sending stays good, and
    /// what it has sent as far as another one has it, too.
    pub(super) fn disconnected(&mut self, token: Token) {
        if self.reports.remove(&token).is_none() {
            return;
        }
        self.asked = self.asked.filter(|asked| asked.token != token);
        let known = self.greatest().saturating_sub(self.base);
        self.entries.truncate(usize::try_from(known).unwrap_or(usize::MAX));
    }

    /// The sequence of the last entry there is.
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// The members after the last entry there is.
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
                // Nobody has kept what the hindmost lack.
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

/// Returns the members after an entry, or why it cannot come after these members.
fn members_after(before: Members, what: &What) -> Result<Members, Nonsense> {
    let (members, joined, left) = match what {
        What::Message { from, .. } if before.contains(from) => return Ok(before),
        What::Message { .. } => return Err(Nonsense("a message of one that is no member")),
        What::Ring { .. } => return Ok(before),
        What::Change { members, joined, left } => (members, joined, left),
    };
    let mut after = before.to_vec();
    for gone in left {
        let place = after.iter().position(|who| *who == gone.who);
        after.remove(place.ok_or(Nonsense("one leaves that is no member"))?);
    }
    for came in joined {
        if after.iter().any(|who| who.id == came.who.id) {
            return Err(Nonsense("one joins that is a member"));
        }
        after.push(came.who);
    }
    if !is_same(&after, members) {
        return Err(Nonsense("other members than those that came and did not leave"));
    }
    Ok(members.as_slice().into())
}

fn is_same(some: &[Participant], others: &[Participant]) -> bool {
    some.len() == others.len() && some.iter().all(|who| others.contains(who))
}
