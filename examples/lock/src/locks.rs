use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use plainsong::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

use crate::command::{
    Command, HolderListed, LockListed, Loss, Mode, Output, Patience, Refusal, SessionEvent,
    SessionId, Terms, Token,
};
use crate::limits::{
    CLAIMS_MAX, CLAIMS_PER_LOCK_MAX, CLAIMS_PER_SESSION_MAX, LISTED_HOLDERS_MAX, LOCKS_MAX,
};
use crate::{Name, Owner};

/// The replicated state: the holders and waiters of each lock, and their deadlines.
///
/// A lock is granted in the order of the requests. Only shared holders hold it together, and no
/// request overtakes a waiter, not even a shared one. All times are log time.
///
/// # Tokens
///
/// The next token is the larger of the last token plus one and the log time in milliseconds. The
/// log index would not do: the commands of one batch share an index, and one command may grant many
/// locks. A counter alone would start again when a group loses its state, or is forced to continue
/// from an older one; the log time is then beyond all tokens given out before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locks {
    locks: BTreeMap<Name, Lock>,
    /// Locks that each session holds or waits for. Always agrees with `locks`.
    sessions: BTreeMap<SessionId, BTreeSet<Name>>,
    /// Deadlines of all claims that have one. Always agrees with `locks`.
    deadlines: BTreeSet<(u64, Name, SessionId)>,
    /// Number of claims in `locks`.
    claims: usize,
    last_token: Token,
}

/// A lock that is held or waited for; other locks are not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    holders: Vec<Claim>,
    queue: VecDeque<Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    session: SessionId,
    mode: Mode,
    owner: Owner,
    lease_ms: Option<u64>,
    /// Linger time as requested. Set to 0 when the lock is lost for good, not only its holder's
    /// server: then it cannot be resumed.
    linger_ms: u64,
    /// Token of the grant; 0 while the claim waits.
    token: Token,
    /// Log time of the grant, or of the request while the claim waits.
    since: u64,
    /// Log time at which the wait, the lease or the lingering ends.
    deadline: Option<u64>,
    /// True if it was taken from its holder and lingers.
    lost: bool,
}

impl Locks {
    /// Applies a command that `server` proposed, at log time `time`. Appends the resulting events
    /// of sessions to `events`.
    pub fn execute(
        &mut self,
        time: Timestamp,
        server: Incarnation,
        command: Command,
        events: &mut Vec<SessionEvent>,
    ) -> Output {
        let now = time.0;
        let session = |number| SessionId { server, number };
        match command {
            Command::Acquire { session: number, name, terms } => {
                self.acquire(now, session(number), name, terms)
            }
            Command::Renew { session: number, name } => {
                Output::Done(u64::from(self.renew(now, session(number), &name)))
            }
            Command::Release { session: number, name } => {
                let found = self.remove(session(number), &name);
                self.promote(now, &name, events);
                Output::Done(u64::from(found))
            }
            Command::End { session: number } => {
                let names = self.names_of(session(number));
                for name in &names {
                    self.remove(session(number), name);
                    self.promote(now, name, events);
                }
                Output::Done(names.len() as u64)
            }
            Command::Abandon { session: number } => {
                let names = self.names_of(session(number));
                for name in &names {
                    self.take_away(now, session(number), name);
                    self.promote(now, name, events);
                }
                Output::Done(names.len() as u64)
            }
            Command::Break { name, at_once } => self.break_lock(now, &name, at_once, events),
            Command::Resume { session: number, name, token } => {
                self.resume(now, session(number), name, token, events)
            }
        }
    }

    /// Takes the locks of all sessions of a server that has left the group.
    pub fn dismiss(
        &mut self,
        time: Timestamp,
        server: Incarnation,
        events: &mut Vec<SessionEvent>,
    ) {
        let [first, last] = [0, u64::MAX].map(|number| SessionId { server, number });
        let sessions: Vec<SessionId> = self.sessions.range(first..=last).map(|(s, _)| *s).collect();
        for session in sessions {
            for name in self.names_of(session) {
                self.take_away(time.0, session, &name);
                self.promote(time.0, &name, events);
            }
        }
        events.push(SessionEvent::Dismissed(server));
    }

    /// Returns the log time at which [`Locks::expire`] has to be called next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, ..)| Timestamp(*deadline))
    }

    /// Ends all waits, leases and lingering claims whose deadline is at or before `time`.
    pub fn expire(&mut self, time: Timestamp, events: &mut Vec<SessionEvent>) {
        let now = time.0;
        while self.deadlines.first().is_some_and(|(deadline, ..)| *deadline <= now) {
            let Some((_, name, session)) = self.deadlines.pop_first() else { return };
            let Some(claim) = self.claim(session, &name) else { continue };
            claim.deadline = None;
            let (waits, lost) = (claim.token == 0, claim.lost);
            if waits {
                self.remove(session, &name);
                events.push(SessionEvent::TimedOut { session, name: name.clone() });
            } else if lost {
                self.remove(session, &name);
            } else {
                self.take_away(now, session, &name);
                self.lose_for_good(session, &name);
                events.push(SessionEvent::Lost {
                    session,
                    name: name.clone(),
                    why: Loss::LeaseOver,
                });
            }
            self.promote(now, &name, events);
        }
    }

    /// Returns at most `count` locks in the order of their names, starting after `after`.
    pub fn list(&self, after: Option<&Name>, count: usize) -> Vec<LockListed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let locks = self.locks.range((from, Bound::Unbounded)).take(count);
        let locks = locks.map(|(name, lock)| LockListed {
            name: name.clone(),
            holders: lock.holders.len() as u64,
            waiters: lock.queue.len() as u64,
            first: lock.holders.iter().take(LISTED_HOLDERS_MAX).map(Claim::listed).collect(),
        });
        locks.collect()
    }

    fn acquire(&mut self, now: u64, session: SessionId, name: Name, terms: Terms) -> Output {
        let mine = self.sessions.get(&session);
        if mine.is_some_and(|names| names.contains(&name)) {
            return Output::Refused(Refusal::Held);
        }
        if mine.is_some_and(|names| names.len() >= CLAIMS_PER_SESSION_MAX) {
            return Output::Refused(Refusal::SessionFull);
        }
        let lock = self.locks.get(&name);
        if self.claims >= CLAIMS_MAX || (lock.is_none() && self.locks.len() >= LOCKS_MAX) {
            return Output::Refused(Refusal::Full);
        }
        if lock.is_some_and(|lock| lock.holders.len() + lock.queue.len() >= CLAIMS_PER_LOCK_MAX) {
            return Output::Refused(Refusal::LockFull);
        }
        let is_free = lock.is_none_or(|lock| lock.queue.is_empty() && lock.admits(terms.mode));
        let deadline = match terms.patience {
            _ if is_free => None,
            Patience::None => return Output::Taken,
            Patience::Ms(ms) => Some(now.saturating_add(ms)),
            Patience::Endless => None,
        };
        let mut claim = Claim {
            session,
            mode: terms.mode,
            owner: terms.owner,
            lease_ms: terms.lease_ms,
            linger_ms: terms.linger_ms,
            token: 0,
            since: now,
            deadline,
            lost: false,
        };
        self.claims += 1;
        self.sessions.entry(session).or_default().insert(name.clone());
        if is_free {
            let token = self.next_token(now);
            claim.grant(now, token);
            self.note_deadline(&claim, &name);
            self.locks.entry(name).or_default().holders.push(claim);
            Output::Granted(token)
        } else {
            self.note_deadline(&claim, &name);
            self.locks.entry(name).or_default().queue.push_back(claim);
            Output::Queued
        }
    }

    fn renew(&mut self, now: u64, session: SessionId, name: &Name) -> bool {
        let Some(claim) = self.claim(session, name) else { return false };
        if claim.token == 0 || claim.lost {
            return false;
        }
        let deadline = claim.lease_ms.map(|ms| now.saturating_add(ms));
        self.set_deadline(session, name, deadline);
        true
    }

    fn break_lock(
        &mut self,
        now: u64,
        name: &Name,
        at_once: bool,
        events: &mut Vec<SessionEvent>,
    ) -> Output {
        let lock = self.locks.get(name);
        let held = lock.into_iter().flat_map(|lock| &lock.holders);
        let held: Vec<_> =
            held.map(|claim| (claim.session, claim.lost, claim.is_lost_for_good())).collect();
        let mut broken = 0;
        for (session, lost, lost_for_good) in held {
            if at_once {
                self.remove(session, name);
            } else if !lost_for_good {
                self.take_away(now, session, name);
                self.lose_for_good(session, name);
            } else {
                continue;
            }
            broken += 1;
            if !lost {
                events.push(SessionEvent::Lost { session, name: name.clone(), why: Loss::Broken });
            }
        }
        self.promote(now, name, events);
        Output::Done(broken)
    }

    /// Moves a claim to another session. It must be held, or linger because its server is gone.
    fn resume(
        &mut self,
        now: u64,
        session: SessionId,
        name: Name,
        token: Token,
        events: &mut Vec<SessionEvent>,
    ) -> Output {
        let lock = self.locks.get(&name);
        let mut holders = lock.into_iter().flat_map(|lock| &lock.holders);
        let Some(claim) = holders.find(|claim| claim.token == token) else { return Output::Taken };
        let before = claim.session;
        if claim.is_lost_for_good() {
            return Output::Taken;
        }
        if before != session {
            let mine = self.sessions.get(&session);
            if mine.is_some_and(|names| names.contains(&name)) {
                return Output::Refused(Refusal::Held);
            }
            if mine.is_some_and(|names| names.len() >= CLAIMS_PER_SESSION_MAX) {
                return Output::Refused(Refusal::SessionFull);
            }
        }
        self.set_deadline(before, &name, None);
        let Some(claim) = self.claim(before, &name) else { return Output::Taken };
        claim.session = session;
        claim.lost = false;
        let deadline = claim.lease_ms.map(|ms| now.saturating_add(ms));
        self.forget_name(before, &name);
        self.sessions.entry(session).or_default().insert(name.clone());
        self.set_deadline(session, &name, deadline);
        if before != session {
            events.push(SessionEvent::Lost { session: before, name, why: Loss::Moved });
        }
        Output::Resumed(token)
    }

    /// Marks a lingering claim as one that cannot be resumed.
    fn lose_for_good(&mut self, session: SessionId, name: &Name) {
        if let Some(claim) = self.claim(session, name).filter(|claim| claim.lost) {
            claim.linger_ms = 0;
        }
    }

    fn forget_name(&mut self, session: SessionId, name: &Name) {
        if let Some(names) = self.sessions.get_mut(&session) {
            names.remove(name);
            if names.is_empty() {
                self.sessions.remove(&session);
            }
        }
    }

    /// Takes a claim from its session. A waiting claim is removed; a held one lingers for its
    /// linger time. A claim that already lingers does not change.
    fn take_away(&mut self, now: u64, session: SessionId, name: &Name) {
        let Some(claim) = self.claim(session, name) else { return };
        if claim.lost {
            return;
        }
        if claim.token == 0 || claim.linger_ms == 0 {
            self.remove(session, name);
            return;
        }
        claim.lost = true;
        let until = now.saturating_add(claim.linger_ms);
        self.set_deadline(session, name, Some(until));
    }

    /// Removes a claim and returns true if there was one. The caller then calls `promote`.
    fn remove(&mut self, session: SessionId, name: &Name) -> bool {
        let Some(lock) = self.locks.get_mut(name) else { return false };
        let is_it = |claim: &Claim| claim.session == session;
        let claim = if let Some(at) = lock.holders.iter().position(is_it) {
            lock.holders.remove(at)
        } else if let Some(claim) =
            lock.queue.iter().position(is_it).and_then(|at| lock.queue.remove(at))
        {
            claim
        } else {
            return false;
        };
        if let Some(deadline) = claim.deadline {
            self.deadlines.remove(&(deadline, name.clone(), session));
        }
        self.forget_name(session, name);
        self.claims -= 1;
        true
    }

    /// Grants the lock to the waiters at the head of its queue that can hold it now.
    fn promote(&mut self, now: u64, name: &Name, events: &mut Vec<SessionEvent>) {
        while let Some(lock) = self.locks.get_mut(name) {
            if lock.holders.is_empty() && lock.queue.is_empty() {
                self.locks.remove(name);
                return;
            }
            let Some(first) = lock.queue.front() else { return };
            if !lock.admits(first.mode) {
                return;
            }
            let Some(mut claim) = lock.queue.pop_front() else { return };
            let session = claim.session;
            if let Some(deadline) = claim.deadline {
                self.deadlines.remove(&(deadline, name.clone(), session));
            }
            let token = self.next_token(now);
            claim.grant(now, token);
            self.note_deadline(&claim, name);
            if let Some(lock) = self.locks.get_mut(name) {
                lock.holders.push(claim);
            }
            events.push(SessionEvent::Granted { session, name: name.clone(), token });
        }
    }

    fn next_token(&mut self, now: u64) -> Token {
        self.last_token = (self.last_token + 1).max(now);
        self.last_token
    }

    fn names_of(&self, session: SessionId) -> Vec<Name> {
        self.sessions.get(&session).into_iter().flatten().cloned().collect()
    }

    fn claim(&mut self, session: SessionId, name: &Name) -> Option<&mut Claim> {
        let lock = self.locks.get_mut(name)?;
        let mut claims = lock.holders.iter_mut().chain(&mut lock.queue);
        claims.find(|claim| claim.session == session)
    }

    fn note_deadline(&mut self, claim: &Claim, name: &Name) {
        if let Some(deadline) = claim.deadline {
            self.deadlines.insert((deadline, name.clone(), claim.session));
        }
    }

    fn set_deadline(&mut self, session: SessionId, name: &Name, deadline: Option<u64>) {
        let Some(claim) = self.claim(session, name) else { return };
        let old = std::mem::replace(&mut claim.deadline, deadline);
        if let Some(old) = old {
            self.deadlines.remove(&(old, name.clone(), session));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, name.clone(), session));
        }
    }

    /// Checks the invariants of the state. For tests.
    ///
    /// # Errors
    ///
    /// Returns a description of the first invariant that does not hold.
    pub fn check(&self) -> Result<(), String> {
        let mut sessions: BTreeMap<SessionId, BTreeSet<Name>> = BTreeMap::new();
        let mut deadlines = BTreeSet::new();
        let mut claims = 0;
        for (name, lock) in &self.locks {
            let shared = lock.holders.iter().all(|claim| claim.mode == Mode::Shared);
            if lock.holders.len() > 1 && !shared {
                return Err(format!("{name} has several holders, and not all of them share it"));
            }
            if lock.queue.front().map_or(lock.holders.is_empty(), |first| lock.admits(first.mode)) {
                return Err(format!("{name} could be granted to a waiter, or has no claims"));
            }
            for claim in lock.holders.iter().chain(&lock.queue) {
                claims += 1;
                if !sessions.entry(claim.session).or_default().insert(name.clone()) {
                    return Err(format!("{name} has two claims of one session"));
                }
                deadlines.extend(claim.deadline.map(|at| (at, name.clone(), claim.session)));
            }
            if lock.holders.iter().any(|c| c.token == 0 || c.token > self.last_token)
                || lock.queue.iter().any(|c| c.token != 0 || c.lost)
            {
                return Err(format!("{name} has a claim with a wrong token"));
            }
        }
        let agrees =
            sessions == self.sessions && deadlines == self.deadlines && claims == self.claims;
        if agrees {
            Ok(())
        } else {
            Err("sessions, deadlines or the number of claims do not match the locks".into())
        }
    }
}

impl Lock {
    /// Returns true if the current holders allow one more holder in this mode.
    fn admits(&self, mode: Mode) -> bool {
        let shared = || self.holders.iter().all(|claim| claim.mode == Mode::Shared);
        self.holders.is_empty() || (mode == Mode::Shared && shared())
    }
}

impl Claim {
    /// Returns true if it lingers for another reason than the loss of its server.
    fn is_lost_for_good(&self) -> bool {
        self.lost && self.linger_ms == 0
    }

    fn grant(&mut self, now: u64, token: Token) {
        self.token = token;
        self.since = now;
        self.deadline = self.lease_ms.map(|ms| now.saturating_add(ms));
    }

    fn listed(&self) -> HolderListed {
        HolderListed {
            token: self.token,
            mode: self.mode,
            since: Timestamp(self.since),
            until: self.deadline.map(Timestamp),
            lost: self.lost,
            session: self.session,
            owner: self.owner.clone(),
        }
    }
}
