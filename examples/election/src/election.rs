use std::cmp::Reverse;
use std::collections::BTreeMap;

use plainsong::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

/// A fencing token. Each leader gets a higher token than all leaders before it.
///
/// A token is the larger of the last token plus one and the log time in milliseconds. So tokens
/// keep growing even if a group loses its state or is restored from an older one.
pub type Token = u64;

/// The replicated state: the candidates, the leader, and work that may not have stopped yet.
///
/// There is a leader whenever there is a candidate. The candidate with the highest priority is
/// elected, and among equals the one that has been a candidate for longest. A leader is not
/// replaced because a better candidate appears.
///
/// A leader may work once its [`Command::Begin`] is applied. If it loses its place after that, its
/// work is *unstopped* until it reports that the work has stopped, or until its successor has
/// waited for long enough by its own clock and begins.
///
/// A leader that has not renewed its place within its patience, in log time, loses it. Apart from
/// the tokens, nothing else here depends on time, so no error of a clock can make work overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    candidates: BTreeMap<Incarnation, Candidate>,
    leader: Option<Leader>,
    unstopped: Option<Unstopped>,
    last_token: Token,
    /// Number of [`Command::Stand`] applied so far; gives candidates their order.
    stood: u64,
}

/// A member that may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Candidates with a higher priority are elected first.
    pub priority: i32,
    /// Longest time between two renewals while it leads, in milliseconds of log time.
    pub patience_ms: u64,
    /// Longest time that its work may continue after it has lost its place, in milliseconds.
    pub linger_ms: u64,
    /// Position in the order in which members became candidates.
    pub stood: u64,
    /// True if it was the last leader and gave up its place: all others are elected before it.
    pub sits_out: bool,
}

/// The current leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The replica and its incarnation.
    pub run: Incarnation,
    /// The token of its term.
    pub token: Token,
    /// True once its [`Command::Begin`] is applied: its work may be running.
    pub begun: bool,
    /// Log time of its election.
    pub since: Timestamp,
    /// Log time at which it loses its place unless it begins or renews before.
    pub until: Timestamp,
    /// Copied from its [`Candidate`], as is `linger_ms`.
    patience_ms: u64,
    linger_ms: u64,
}

/// Work of a former leader that may not have stopped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstopped {
    /// Token of the former leader.
    pub token: Token,
    /// Time, in milliseconds, that a successor waits if the former leader does not report the end.
    pub linger_ms: u64,
}

/// A command of the log. A member proposes each of these about itself, except
/// [`Resign`](Self::Resign), which an operator sends through any member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Becomes a candidate, or changes the values of one.
    Stand {
        /// Candidates with a higher priority are elected first.
        priority: i32,
        /// Longest time between two renewals while it leads, in milliseconds of log time.
        patience_ms: u64,
        /// Longest time that its work may continue after it has lost its place, in milliseconds.
        linger_ms: u64,
    },
    /// The leader begins its work, because all earlier work has stopped.
    Begin {
        /// Token of its term.
        token: Token,
    },
    /// The leader is alive and keeps its place.
    Renew {
        /// Token of its term.
        token: Token,
    },
    /// The work of a term has stopped. If the proposer is still the leader, it gives up its place.
    Stopped {
        /// Token of that term.
        token: Token,
    },
    /// The member stops being a candidate. Its work has stopped.
    Withdraw,
    /// An operator asks for another leader.
    Resign,
}

/// The output of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// The command took effect.
    Done,
    /// The command does not apply to the current state, and changed nothing.
    Void,
}

impl Output {
    fn of(done: bool) -> Self {
        if done { Self::Done } else { Self::Void }
    }
}

impl Election {
    /// Returns the leader, or `None` if there are no candidates.
    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    /// Returns the work of a former leader that may not have stopped yet.
    pub fn unstopped(&self) -> Option<&Unstopped> {
        self.unstopped.as_ref()
    }

    /// Returns all candidates, including the leader.
    pub fn candidates(&self) -> &BTreeMap<Incarnation, Candidate> {
        &self.candidates
    }

    /// Applies a command that `member` proposed. `now` is the log time.
    pub fn execute(&mut self, now: Timestamp, member: Incarnation, command: Command) -> Output {
        let output = match command {
            Command::Stand { priority, patience_ms, linger_ms } => {
                self.stand(member, priority, patience_ms, linger_ms)
            }
            Command::Begin { token } => self.begin(now, member, token),
            Command::Renew { token } => self.renew(now, member, token),
            Command::Stopped { token } => self.stopped(member, token),
            Command::Withdraw => {
                let token = self.led_by(member).map(|leader| leader.token);
                token.map(|token| self.stopped(member, token));
                Output::of(self.candidates.remove(&member).is_some())
            }
            Command::Resign => {
                let Some(leader) = self.leader else { return Output::Void };
                self.sit_out(leader.run);
                self.depose();
                Output::Done
            }
        };
        self.elect(now);
        output
    }

    /// Removes a member that has left the group, perhaps without knowing it.
    pub fn dismiss(&mut self, now: Timestamp, member: Incarnation) {
        self.candidates.remove(&member);
        if self.led_by(member).is_some() {
            self.depose();
        }
        self.elect(now);
    }

    /// Returns the log time at which [`expire`](Self::expire) has to be called next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.leader.map(|leader| leader.until)
    }

    /// Replaces a leader that has not renewed its place in time, because its process or its host is
    /// frozen. It also stops being a candidate, since it could not lead if it were elected again.
    /// If it is alive after all, it becomes a candidate again by itself.
    pub fn expire(&mut self, now: Timestamp) {
        let Some(run) = self.leader.filter(|leader| leader.until <= now).map(|leader| leader.run)
        else {
            return;
        };
        self.candidates.remove(&run);
        self.depose();
        self.elect(now);
    }

    fn led_by(&mut self, member: Incarnation) -> Option<&mut Leader> {
        self.leader.as_mut().filter(|leader| leader.run == member)
    }

    fn stand(
        &mut self,
        member: Incarnation,
        priority: i32,
        patience_ms: u64,
        linger_ms: u64,
    ) -> Output {
        self.stood += 1;
        let known = self.candidates.get(&member);
        let (stood, sits_out) =
            known.map_or((self.stood, false), |known| (known.stood, known.sits_out));
        let candidate = Candidate { priority, patience_ms, linger_ms, stood, sits_out };
        self.candidates.insert(member, candidate);
        Output::Done
    }

    fn begin(&mut self, now: Timestamp, member: Incarnation, token: Token) -> Output {
        let output = self.renew(now, member, token);
        if let (Output::Done, Some(leader)) = (output, &mut self.leader) {
            leader.begun = true;
            self.unstopped = None;
        }
        output
    }

    fn renew(&mut self, now: Timestamp, member: Incarnation, token: Token) -> Output {
        let Some(leader) = self.led_by(member).filter(|leader| leader.token == token) else {
            return Output::Void;
        };
        leader.until = Timestamp(now.0.saturating_add(leader.patience_ms));
        Output::Done
    }

    fn stopped(&mut self, member: Incarnation, token: Token) -> Output {
        if self.led_by(member).is_some_and(|leader| leader.token == token) {
            self.leader = None;
            self.sit_out(member);
            return Output::Done;
        }
        let unstopped = self.unstopped.take_if(|unstopped| unstopped.token == token);
        Output::of(unstopped.is_some())
    }

    fn sit_out(&mut self, member: Incarnation) {
        if let Some(candidate) = self.candidates.get_mut(&member) {
            candidate.sits_out = true;
        }
    }

    /// Takes the leader's place away. Work that it had begun becomes unstopped. If it had not
    /// begun, the work of an earlier leader, if any, remains unstopped.
    fn depose(&mut self) {
        if let Some(Leader { token, linger_ms, begun: true, .. }) = self.leader.take() {
            self.unstopped = Some(Unstopped { token, linger_ms });
        }
    }

    fn elect(&mut self, now: Timestamp) {
        if self.leader.is_some() {
            return;
        }
        let rank = |candidate: &Candidate| {
            (!candidate.sits_out, candidate.priority, Reverse(candidate.stood))
        };
        let best = self.candidates.iter().max_by_key(|(_, candidate)| rank(candidate));
        let Some((&run, &Candidate { patience_ms, linger_ms, .. })) = best else { return };
        self.last_token = self.last_token.saturating_add(1).max(now.0);
        let token = self.last_token;
        // A new leader does not renew before it begins, and it may have to wait before that.
        let waits_ms = self.unstopped.map_or(0, |unstopped| unstopped.linger_ms);
        let until = Timestamp(now.0.saturating_add(patience_ms).saturating_add(waits_ms));
        let (begun, since) = (false, now);
        self.leader = Some(Leader { run, token, begun, since, until, patience_ms, linger_ms });
        for candidate in self.candidates.values_mut() {
            candidate.sits_out = false;
        }
    }

    /// Checks the invariants of the state. For tests.
    ///
    /// # Errors
    ///
    /// Returns a description of the first invariant that does not hold.
    pub fn check(&self) -> Result<(), String> {
        match &self.leader {
            None if !self.candidates.is_empty() => Err("there is a candidate but no leader".into()),
            Some(leader) if !self.candidates.contains_key(&leader.run) => {
                Err("the leader is not a candidate".into())
            }
            Some(leader) if leader.begun && self.unstopped.is_some() => {
                Err("the leader has begun while earlier work is unstopped".into())
            }
            Some(leader) if leader.token != self.last_token => {
                Err("the leader's token is not the last token given out".into())
            }
            _ => match &self.unstopped {
                Some(unstopped) if unstopped.token > self.last_token => {
                    Err("the token of unstopped work was never given out".into())
                }
                _ => Ok(()),
            },
        }
    }
}
