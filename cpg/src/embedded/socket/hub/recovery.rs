use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Token;
use crate::embedded::socket::ClientId;
use crate::embedded::socket::wire::{Held, Nonsense, Participant};
use crate::{GroupName, Pid};

/// What a new hub does before it goes on where the last one stopped.
///
/// First all clients of the last hub report, except those that are known dead or do not in
/// time. Then, for each group, the entries that some have and others lack are fetched from
/// those who have them, so that in the end all who reported have heard the same.
///
/// Knows no sockets and no clock: facts come in by the first methods, and
/// [`Recovery::step`] says what to do next.
pub(super) struct Recovery {
    waiting: BTreeMap<ClientId, Pid>,
    groups: BTreeMap<GroupName, Assembly>,
    /// Nobody is waited for any more.
    is_complete: bool,
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Ask these clients for their entries from the first to the second sequence.
    pub(super) fetch: Vec<(Token, u64, u64)>,
    /// Cut these off: what they lack, nobody has any more.
    pub(super) lost: Vec<Token>,
    /// All is there: take it by [`Recovery::finish`].
    pub(super) is_done: bool,
}

/// A group as its surviving members agree on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) group: GroupName,
    /// The greatest sequence that a survivor has, and the members there.
    pub(super) last: u64,
    pub(super) members: Vec<Participant>,
    /// The survivors, and the entries that each still has to get.
    pub(super) survivors: Vec<(Token, Participant, Vec<Bytes>)>,
}

/// The entries of one group while they are gathered.
#[derive(Default)]
struct Assembly {
    reports: BTreeMap<Token, (Participant, Held)>,
    /// The entries after `base`, without a gap.
    entries: Vec<Bytes>,
    base: u64,
    /// Who is being asked, and up to which sequence.
    asked: Option<(Token, u64)>,
}

impl Recovery {
    /// Begins, with those who were connected to the last hub.
    pub(super) fn new(clients: BTreeMap<ClientId, Pid>) -> Self {
        Self { is_complete: clients.is_empty(), waiting: clients, groups: BTreeMap::new() }
    }

    /// Those who have not reported yet.
    pub(super) fn waiting(&self) -> &BTreeMap<ClientId, Pid> {
        &self.waiting
    }

    /// Takes a report. `false` for one that is not, or no longer, waited for.
    #[must_use]
    pub(super) fn report(&mut self, token: Token, who: Participant, held: Option<Held>) -> bool {
        if self.waiting.get(&who.id) != Some(&who.pid) {
            // A newcomer has nothing to be completed; anybody else comes too late.
            return held.is_none();
        }
        self.waiting.remove(&who.id);
        if let Some(held) = held {
            let group = self.groups.entry(held.group.clone()).or_default();
            group.reports.insert(token, (who, held));
            group.restart();
        }
        true
    }

    /// A client will not report: its process is dead, or the time is over.
    pub(super) fn forget(&mut self, id: ClientId) {
        self.waiting.remove(&id);
    }

    /// The connection of one that reported is gone, and what it alone had with it.
    pub(super) fn disconnected(&mut self, token: Token) {
        for group in self.groups.values_mut() {
            group.disconnected(token);
        }
        self.groups.retain(|_, group| !group.reports.is_empty());
    }

    /// Those who were asked for entries and have not sent them all.
    pub(super) fn asked(&self) -> BTreeSet<Token> {
        self.groups.values().filter_map(|group| group.asked).map(|(token, _)| token).collect()
    }

    /// Takes an entry that was asked for.
    pub(super) fn entry(
        &mut self,
        token: Token,
        sequence: u64,
        frame: Bytes,
    ) -> Result<(), Nonsense> {
        for group in self.groups.values_mut() {
            match group.asked {
                Some((asked, to)) if asked == token => {
                    if sequence != group.end() + 1 || sequence > to {
                        return Err(Nonsense("an entry that was not asked for"));
                    }
                    group.entries.push(frame);
                    return Ok(());
                }
                _ => {}
            }
        }
        // Of a question that was dropped meanwhile.
        Ok(())
    }

    /// Takes that all entries asked for were sent.
    pub(super) fn fetch_end(&mut self, token: Token) -> Result<(), Nonsense> {
        for group in self.groups.values_mut() {
            match group.asked {
                Some((asked, to)) if asked == token => {
                    if group.end() != to {
                        return Err(Nonsense("fewer entries than were reported"));
                    }
                    group.asked = None;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says what to do next. To be called after any change.
    pub(super) fn step(&mut self) -> Step {
        self.is_complete |= self.waiting.is_empty();
        let mut step = Step::default();
        if !self.is_complete {
            return step;
        }
        for group in self.groups.values_mut() {
            group.step(&mut step);
        }
        self.groups.retain(|_, group| !group.reports.is_empty());
        step.is_done = self.groups.values().all(Assembly::is_done);
        step
    }

    /// What all agree on, when [`Step::is_done`].
    pub(super) fn finish(self) -> Vec<Recovered> {
        self.groups.into_iter().filter_map(|(name, group)| group.finish(name)).collect()
    }
}

impl Assembly {
    /// Begins anew. Only while nobody is asked, or a late answer would look like nonsense.
    fn restart(&mut self) {
        self.entries.clear();
        self.base = self.reports.values().map(|(_, held)| held.last).min().unwrap_or(0);
    }

    /// Goes on without one of those who reported. What others are sending stays good, and
    /// what it has sent as far as another one has it, too.
    fn disconnected(&mut self, token: Token) {
        if self.reports.remove(&token).is_none() {
            return;
        }
        self.asked = self.asked.filter(|(asked, _)| *asked != token);
        let known = self.greatest().saturating_sub(self.base);
        self.entries.truncate(usize::try_from(known).unwrap_or(usize::MAX));
    }

    /// The sequence of the last entry there is.
    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn greatest(&self) -> u64 {
        self.reports.values().map(|(_, held)| held.last).max().unwrap_or(0)
    }

    fn is_done(&self) -> bool {
        self.asked.is_none() && self.end() == self.greatest()
    }

    fn step(&mut self, step: &mut Step) {
        while self.asked.is_none() && !self.is_done() {
            let next = self.end() + 1;
            let source = self
                .reports
                .iter()
                .filter(|(_, (_, held))| held.first <= next && next <= held.last)
                .max_by_key(|(_, (_, held))| held.last);
            if let Some((token, (_, held))) = source {
                self.asked = Some((*token, held.last));
                step.fetch.push((*token, next, held.last));
            } else {
                // Nobody has kept what the hindmost lack.
                let behind = self.reports.iter().filter(|(_, (_, held))| held.last < next);
                step.lost.extend(behind.map(|(token, _)| *token));
                self.reports.retain(|_, (_, held)| held.last >= next);
                self.restart();
            }
        }
    }

    fn finish(self, group: GroupName) -> Option<Recovered> {
        let last = self.greatest();
        let members = self.reports.values().find(|(_, held)| held.last == last)?.1.members.clone();
        let survivors = self
            .reports
            .iter()
            .map(|(token, (who, held))| {
                let has = usize::try_from(held.last - self.base).unwrap_or(usize::MAX);
                (*token, *who, self.entries.iter().skip(has).cloned().collect())
            })
            .collect();
        Some(Recovered { group, last, members, survivors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(id: u64) -> Participant {
        Participant { id: ClientId(id), pid: Pid(u32::try_from(id).unwrap()) }
    }

    fn name() -> GroupName {
        GroupName::new("choir").unwrap()
    }

    fn held(first: u64, last: u64) -> Option<Held> {
        Some(Held { group: name(), first, last, members: (1..=last).map(who).collect() })
    }

    fn recovery(clients: u64) -> Recovery {
        Recovery::new((1..=clients).map(|id| (ClientId(id), who(id).pid)).collect())
    }

    fn frame(sequence: u64) -> Bytes {
        sequence.to_le_bytes().to_vec().into()
    }

    /// Lets a client answer.
    fn answer(recovery: &mut Recovery, token: Token, from: u64, to: u64) {
        for sequence in from..=to {
            recovery.entry(token, sequence, frame(sequence)).unwrap();
        }
        recovery.fetch_end(token).unwrap();
    }

    fn fetch(token: u64, from: u64, to: u64) -> Step {
        Step { fetch: vec![(Token(token), from, to)], ..Step::default() }
    }

    fn done() -> Step {
        Step { is_done: true, ..Step::default() }
    }

    #[test]
    fn all_are_waited_for_and_then_completed_to_the_greatest() {
        let mut recovery = recovery(3);
        assert!(recovery.report(Token(11), who(1), held(1, 5)));
        assert!(recovery.report(Token(12), who(2), held(3, 7)));
        assert_eq!(recovery.step(), Step::default());
        recovery.forget(ClientId(3));
        assert_eq!(recovery.step(), fetch(12, 6, 7));
        assert_eq!(recovery.step(), Step::default(), "asks once");
        answer(&mut recovery, Token(12), 6, 7);
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.last, 7);
        assert_eq!(recovered.members.len(), 7);
        assert_eq!(recovered.survivors[0], (Token(11), who(1), vec![frame(6), frame(7)]));
        assert_eq!(recovered.survivors[1], (Token(12), who(2), vec![]));
    }

    #[test]
    fn a_chain_of_those_who_have_some_is_followed() {
        let mut recovery = recovery(3);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(2, 5)));
        assert!(recovery.report(Token(13), who(3), held(6, 6)));
        assert_eq!(recovery.step(), fetch(12, 3, 5));
        answer(&mut recovery, Token(12), 3, 5);
        assert_eq!(recovery.step(), fetch(13, 6, 6));
        answer(&mut recovery, Token(13), 6, 6);
        assert_eq!(recovery.step(), done());
    }

    #[test]
    fn one_too_far_behind_is_given_up() {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(4, 9)));
        let step = Step { lost: vec![Token(11)], is_done: true, ..Step::default() };
        assert_eq!(recovery.step(), step);
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.survivors, [(Token(12), who(2), vec![])]);
    }

    #[test]
    fn the_death_of_the_source_is_survived() {
        let mut recovery = recovery(3);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 9)));
        assert!(recovery.report(Token(13), who(3), held(1, 4)));
        assert_eq!(recovery.step(), fetch(12, 3, 9));
        recovery.entry(Token(12), 3, frame(3)).unwrap();
        recovery.disconnected(Token(12));
        assert_eq!(recovery.step(), fetch(13, 4, 4), "what it did send is good");
        answer(&mut recovery, Token(13), 4, 4);
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.last, 4, "nobody alive has heard more");
        assert_eq!(recovered.survivors[0].2, [frame(3), frame(4)]);
    }

    #[test]
    fn the_death_of_another_does_not_disturb_the_source() {
        let mut recovery = recovery(3);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 4)));
        assert!(recovery.report(Token(13), who(3), held(1, 1)));
        assert_eq!(recovery.step(), fetch(12, 2, 4));
        recovery.entry(Token(12), 2, frame(2)).unwrap();
        recovery.disconnected(Token(13));
        assert_eq!(recovery.step(), Step::default(), "it is still being asked");
        answer(&mut recovery, Token(12), 3, 4);
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.survivors[0].2, [frame(3), frame(4)]);
    }

    #[test]
    fn what_only_the_dead_had_is_dropped() {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 4)));
        assert_eq!(recovery.step(), fetch(12, 3, 4));
        answer(&mut recovery, Token(12), 3, 4);
        recovery.disconnected(Token(12));
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!((recovered.last, recovered.survivors[0].2.len()), (2, 0));
    }

    #[test]
    fn nonsense_is_told() {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 9)));
        assert_eq!(recovery.step(), fetch(12, 3, 9));
        assert!(recovery.entry(Token(12), 4, frame(4)).is_err());
        assert!(recovery.fetch_end(Token(12)).is_err());
    }

    #[test]
    fn who_comes_late_is_refused_and_newcomers_are_not() {
        let mut recovery = recovery(1);
        assert!(!recovery.report(Token(12), who(2), held(1, 9)));
        assert!(recovery.report(Token(12), who(2), None));
        recovery.forget(ClientId(1));
        assert!(!recovery.report(Token(11), who(1), held(1, 2)));
        assert_eq!(recovery.step(), done());
        assert!(recovery.finish().is_empty());
    }
}
