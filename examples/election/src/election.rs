use std::cmp::Reverse;
use std::collections::BTreeMap;

use plainsong::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

/// A fencing token: each leader has a higher one than all before it.
///
/// It is one more than the last, or the log's time in milliseconds where that is more. So it
/// grows also where a group has lost its state, or goes on from an older one.
pub type Token = u64;

/// The state: who stands, who leads, and whose work may not have stopped yet.
///
/// There is a leader whenever somebody stands. The first is whoever stood first among those of
/// the highest priority; nobody who leads is replaced because somebody better comes.
///
/// A leader begins to work when it has said so ([`Command::Begin`]). If it loses its place
/// behind that, its work is *unstopped*, until it says that it has stopped, or its successor
/// has waited for long enough, by a clock of its own, and begins.
///
/// A leader that has not renewed its place for as long as it said, in log time, has lost it. That
/// is all that time decides here, besides tokens: work may overlap by no clock's fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    candidates: BTreeMap<Incarnation, Candidate>,
    leader: Option<Leader>,
    unstopped: Option<Unstopped>,
    last_token: Token,
    /// How often somebody has come to stand.
    stood: u64,
}

/// Who would lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The higher, the sooner it leads.
    pub priority: i32,
    /// How long it may lead without renewing its place, in milliseconds of log time.
    pub patience_ms: u64,
    /// How long its work may go on, in milliseconds, after it has lost its place.
    pub linger_ms: u64,
    /// Grows with each that comes to stand.
    pub stood: u64,
    /// It has led last, and gave its place up: others come first.
    pub sits_out: bool,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Which run of which replica.
    pub run: Incarnation,
    /// The token of its term.
    pub token: Token,
    /// It works, or may.
    pub begun: bool,
    /// When it was elected.
    pub since: Timestamp,
    /// When it loses its place, if it does not begin or renew before.
    pub until: Timestamp,
    /// As its candidacy says.
    patience_ms: u64,
    linger_ms: u64,
}

/// Work of a former leader that may not have stopped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstopped {
    /// Under which token.
    pub token: Token,
    /// How long to wait for its end, in milliseconds, if nothing is heard of it.
    pub linger_ms: u64,
}

/// What is proposed to the group, each by a member about itself but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Wants to lead.
    Stand {
        /// The higher, the sooner.
        priority: i32,
        /// How long it may lead without renewing its place, in milliseconds of log time.
        patience_ms: u64,
        /// How long its work may go on after it has lost its place, in milliseconds.
        linger_ms: u64,
    },
    /// The leader begins to work: all work before it has stopped.
    Begin {
        /// Of its term.
        token: Token,
    },
    /// The leader is well.
    Renew {
        /// Of its term.
        token: Token,
    },
    /// The work of that term has stopped. If it was the leader, it is none any more.
    Stopped {
        /// Of the term.
        token: Token,
    },
    /// Does not want to lead any more. Its work has stopped.
    Withdraw,
    /// An operator wants another leader.
    Resign,
}

/// What a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// It was carried out.
    Done,
    /// There was nothing to be done: that is not so, or not any more.
    Void,
}

impl Output {
    fn of(done: bool) -> Self {
        if done { Self::Done } else { Self::Void }
    }
}

impl Election {
    /// Who leads.
    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    /// Whose work may not have stopped yet.
    pub fn unstopped(&self) -> Option<&Unstopped> {
        self.unstopped.as_ref()
    }

    /// Who would lead, the leader too.
    pub fn candidates(&self) -> &BTreeMap<Incarnation, Candidate> {
        &self.candidates
    }

    /// Carries out what a member proposes at a moment of log time.
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

    /// A member has left the group, and may not know it.
    pub fn dismiss(&mut self, now: Timestamp, member: Incarnation) {
        self.candidates.remove(&member);
        if self.led_by(member).is_some() {
            self.depose();
        }
        self.elect(now);
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.leader.map(|leader| leader.until)
    }

    /// The leader has not renewed its place in time: it stands still, with its process or its
    /// host. It stands no more, as it would not lead either if it were elected again; who is
    /// well after all comes to stand anew.
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

    /// The leader leads no more. What it had not begun needs not stop; what others had not
    /// stopped before is unstopped still.
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
        // It renews nothing before it begins, for which it may have to wait.
        let waits_ms = self.unstopped.map_or(0, |unstopped| unstopped.linger_ms);
        let until = Timestamp(now.0.saturating_add(patience_ms).saturating_add(waits_ms));
        let (begun, since) = (false, now);
        self.leader = Some(Leader { run, token, begun, since, until, patience_ms, linger_ms });
        for candidate in self.candidates.values_mut() {
            candidate.sits_out = false;
        }
    }

    /// Whether the state is one that can be. For tests.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        match &self.leader {
            None if !self.candidates.is_empty() => Err("somebody stands, and nobody leads".into()),
            Some(leader) if !self.candidates.contains_key(&leader.run) => {
                Err("somebody leads who does not stand".into())
            }
            Some(leader) if leader.begun && self.unstopped.is_some() => {
                Err("work was begun while other work had not stopped".into())
            }
            Some(leader) if leader.token != self.last_token => {
                Err("the leader's token is not the last".into())
            }
            _ => match &self.unstopped {
                Some(unstopped) if unstopped.token > self.last_token => {
                    Err("work under a token that nobody was given".into())
                }
                _ => Ok(()),
            },
        }
    }
}
