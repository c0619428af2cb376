use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Token;
use super::assembly::{Assembly, RecoveredGroup, Step};
use crate::embedded::socket::ClientId;
use crate::embedded::socket::wire::{Entry, Held, Participant, ProtocolError};
use crate::{GroupName, Pid};

/// The work of a new hub before it continues where the last one stopped.
///
/// First it waits for the reports of all clients of the last hub, except those that are known to be
/// dead or do not report in time. Then, for each group, it fetches the entries that some clients
/// have and others lack, so that in the end all clients that reported have received the same.
///
/// Knows no sockets and no clock. Events come in through the other methods, and [`Recovery::step`]
/// returns what to do next.
pub(super) struct Recovery {
    waiting: BTreeMap<ClientId, Pid>,
    groups: BTreeMap<GroupName, Assembly>,
    /// Set once no more reports are awaited.
    is_complete: bool,
}

impl Recovery {
    /// Starts with the clients that were connected to the last hub.
    pub(super) fn new(clients: BTreeMap<ClientId, Pid>) -> Self {
        Self { is_complete: clients.is_empty(), waiting: clients, groups: BTreeMap::new() }
    }

    /// Returns the clients that have not reported yet.
    pub(super) fn waiting(&self) -> &BTreeMap<ClientId, Pid> {
        &self.waiting
    }

    /// Handles a report. Returns false for a client with entries that is not, or no longer,
    /// awaited.
    #[must_use]
    pub(super) fn report(&mut self, token: Token, who: Participant, held: Option<Held>) -> bool {
        if self.waiting.get(&who.id) != Some(&who.pid) {
            // A new client has no entries to complete; any other client is too late.
            return held.is_none();
        }
        self.waiting.remove(&who.id);
        if let Some(held) = held {
            let group = self.groups.entry(held.group.clone()).or_default();
            group.report(token, who, held);
        }
        true
    }

    /// Stops waiting for a client: its process is dead, or the time limit has passed.
    pub(super) fn forget(&mut self, id: ClientId) {
        self.waiting.remove(&id);
    }

    /// Handles the loss of a connection, and of the entries that only this client had.
    pub(super) fn disconnected(&mut self, token: Token) {
        for group in self.groups.values_mut() {
            group.disconnected(token);
        }
        self.groups.retain(|_, group| !group.is_empty());
    }

    /// Returns the clients that were asked for entries and have not sent them all.
    pub(super) fn asked(&self) -> BTreeSet<Token> {
        self.groups.values().filter_map(Assembly::asked).collect()
    }

    /// Handles a requested entry, with the frame in which it was received.
    pub(super) fn entry(
        &mut self,
        token: Token,
        entry: &Entry,
        frame: Bytes,
    ) -> Result<(), ProtocolError> {
        match self.groups.values_mut().find(|group| group.is_asked(token)) {
            Some(group) => group.entry(entry, frame),
            // The request has been dropped meanwhile.
            None => Ok(()),
        }
    }

    /// Handles the end of the requested entries.
    pub(super) fn fetch_end(&mut self, token: Token) -> Result<(), ProtocolError> {
        match self.groups.values_mut().find(|group| group.is_asked(token)) {
            Some(group) => group.fetch_end(),
            None => Ok(()),
        }
    }

    /// Returns what to do next. Called after every change.
    pub(super) fn step(&mut self) -> Step {
        self.is_complete |= self.waiting.is_empty();
        let mut step = Step::default();
        if !self.is_complete {
            return step;
        }
        for group in self.groups.values_mut() {
            group.step(&mut step);
        }
        self.groups.retain(|_, group| !group.is_empty());
        step.is_done = self.groups.values().all(Assembly::is_done);
        step
    }

    /// Returns the recovered groups, once [`Step::is_done`] is set.
    pub(super) fn finish(self) -> Vec<RecoveredGroup> {
        self.groups.into_iter().filter_map(|(name, group)| group.finish(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;
    use crate::embedded::socket::KEPT_BYTES_MAX;
    use crate::embedded::socket::wire::{EntryContent, MemberChange, ToClient};

    fn who(id: u64) -> Participant {
        Participant { id: ClientId(id), pid: Pid(u32::try_from(id).unwrap()) }
    }

    fn name() -> GroupName {
        GroupName::new("group").unwrap()
    }

    fn held(first: u64, last: u64) -> Option<Held> {
        Some(Held { group: name(), first, last, members: (1..=last).map(who).collect() })
    }

    fn recovery(clients: u64) -> Recovery {
        Recovery::new((1..=clients).map(|id| (ClientId(id), who(id).pid)).collect())
    }

    /// The entry with sequence N in which client N joins.
    fn entry(sequence: u64) -> Entry {
        let joined = vec![MemberChange { who: who(sequence), reason: Reason::Join }];
        let members = (1..=sequence).map(who).collect();
        Entry { sequence, what: EntryContent::Change { members, joined, left: vec![] } }
    }

    fn frame(sequence: u64) -> Bytes {
        ToClient::Entry(entry(sequence)).encode()
    }

    fn send(recovery: &mut Recovery, token: Token, entry: &Entry) -> Result<(), ProtocolError> {
        recovery.entry(token, entry, ToClient::Entry(entry.clone()).encode())
    }

    /// Sends all requested entries of a client.
    fn answer(recovery: &mut Recovery, token: Token, from: u64, to: u64) {
        for sequence in from..=to {
            send(recovery, token, &entry(sequence)).unwrap();
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
    fn all_clients_report_and_then_receive_the_entries_that_they_lack() {
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
    fn entries_are_fetched_from_several_clients_in_turn() {
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
    fn a_client_too_far_behind_is_disconnected() {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(4, 9)));
        let step = Step { lost: vec![Token(11)], is_done: true, ..Step::default() };
        assert_eq!(recovery.step(), step);
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.survivors, [(Token(12), who(2), vec![])]);
    }

    #[test]
    fn another_client_replaces_a_source_that_dies() {
        let mut recovery = recovery(3);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 9)));
        assert!(recovery.report(Token(13), who(3), held(1, 4)));
        assert_eq!(recovery.step(), fetch(12, 3, 9));
        send(&mut recovery, Token(12), &entry(3)).unwrap();
        recovery.disconnected(Token(12));
        assert_eq!(recovery.step(), fetch(13, 4, 4), "the entries that it sent are valid");
        answer(&mut recovery, Token(13), 4, 4);
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.last, 4, "no survivor has received more");
        assert_eq!(recovered.survivors[0].2, [frame(3), frame(4)]);
    }

    #[test]
    fn the_death_of_another_client_does_not_affect_the_source() {
        let mut recovery = recovery(3);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 4)));
        assert!(recovery.report(Token(13), who(3), held(1, 1)));
        assert_eq!(recovery.step(), fetch(12, 2, 4));
        send(&mut recovery, Token(12), &entry(2)).unwrap();
        recovery.disconnected(Token(13));
        assert_eq!(recovery.step(), Step::default(), "it is still being asked");
        answer(&mut recovery, Token(12), 3, 4);
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.survivors[0].2, [frame(3), frame(4)]);
    }

    #[test]
    fn entries_of_dead_clients_only_are_dropped() {
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
    fn unexpected_entries_are_rejected() {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 9)));
        assert_eq!(recovery.step(), fetch(12, 3, 9));
        assert!(send(&mut recovery, Token(12), &entry(4)).is_err());
        assert!(recovery.fetch_end(Token(12)).is_err());
    }

    /// Returns a recovery with two clients, the second of which was asked for entries 3 and 4.
    fn asked() -> Recovery {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        assert!(recovery.report(Token(12), who(2), held(1, 4)));
        assert_eq!(recovery.step(), fetch(12, 3, 4));
        recovery
    }

    #[test]
    fn entries_that_cannot_follow_are_rejected() {
        let change = |joined: &[u64], left: &[u64], members: &[u64]| {
            let gone = |id: &u64| MemberChange { who: who(*id), reason: Reason::ProcessDown };
            let joined = joined.iter().map(gone).collect();
            let left = left.iter().map(gone).collect();
            EntryContent::Change {
                members: members.iter().copied().map(who).collect(),
                joined,
                left,
            }
        };
        let message = |from| EntryContent::Message { from, op: 1, message: Bytes::new() };
        let stranger = Participant { id: ClientId(1), pid: Pid(99) };
        let nonsense = [
            message(who(3)),
            message(stranger),
            change(&[3], &[], &[1, 2]),
            change(&[2], &[], &[1, 2]),
            change(&[], &[3], &[1, 2]),
            change(&[], &[1], &[1, 2]),
            change(&[], &[], &[1]),
            change(&[3], &[], &[1, 3]),
            change(&[3], &[], &[1, 2, 3, 3]),
        ];
        for what in nonsense {
            let entry = Entry { sequence: 3, what };
            assert!(send(&mut asked(), Token(12), &entry).is_err(), "{entry:?}");
        }
        let right = [
            message(who(2)),
            EntryContent::Ring { ring: 8 },
            change(&[3], &[], &[1, 2, 3]),
            change(&[], &[1], &[2]),
            change(&[3], &[1, 2], &[3]),
        ];
        for what in right {
            let entry = Entry { sequence: 3, what };
            assert_eq!(send(&mut asked(), Token(12), &entry), Ok(()), "{entry:?}");
        }
    }

    #[test]
    fn entries_must_lead_to_the_members_that_were_reported() {
        let mut recovery = asked();
        for sequence in [3, 4] {
            let entry = Entry { sequence, what: EntryContent::Ring { ring: 8 } };
            send(&mut recovery, Token(12), &entry).unwrap();
        }
        assert!(recovery.fetch_end(Token(12)).is_err());
        recovery.disconnected(Token(12));
        assert_eq!(recovery.step(), done(), "it continues without that client");
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!((recovered.last, recovered.members.len()), (2, 2));
        assert!(recovered.survivors[0].2.is_empty(), "and passes nothing on");
    }

    #[test]
    fn the_member_list_of_the_majority_is_used() {
        let mut recovery = recovery(4);
        let mut lie = held(1, 2).unwrap();
        lie.members = vec![who(1)];
        assert!(recovery.report(Token(11), who(1), Some(lie)));
        assert!(recovery.report(Token(12), who(2), held(1, 2)));
        assert!(recovery.report(Token(13), who(3), held(1, 2)));
        recovery.forget(ClientId(4));
        assert_eq!(recovery.step(), done());
        let [recovered] = recovery.finish().try_into().unwrap();
        assert_eq!(recovered.members, [who(1), who(2)]);
    }

    #[test]
    fn a_client_may_send_only_as_much_as_clients_keep() {
        let mut recovery = recovery(2);
        assert!(recovery.report(Token(11), who(1), held(1, 2)));
        let mut claim = held(1, 2).unwrap();
        claim.last = u64::MAX / 2;
        assert!(recovery.report(Token(12), who(2), Some(claim)));
        assert_eq!(recovery.step(), fetch(12, 3, u64::MAX / 2));
        let message = Bytes::from(vec![0; 1_000_000]);
        let sent = (3..).take_while(|sequence| {
            let what =
                EntryContent::Message { from: who(2), op: *sequence, message: message.clone() };
            send(&mut recovery, Token(12), &Entry { sequence: *sequence, what }).is_ok()
        });
        assert_eq!(sent.count(), KEPT_BYTES_MAX / 1_000_000);
    }

    #[test]
    fn late_reports_are_rejected_and_new_clients_are_not() {
        let mut recovery = recovery(1);
        assert!(!recovery.report(Token(12), who(2), held(1, 9)));
        assert!(recovery.report(Token(12), who(2), None));
        recovery.forget(ClientId(1));
        assert!(!recovery.report(Token(11), who(1), held(1, 2)));
        assert_eq!(recovery.step(), done());
        assert!(recovery.finish().is_empty());
    }
}
