use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plainsong::{Consistency, Incarnation, ProposeError, Replica, StopReason, Watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{Command, Election, ElectionMachine, Output, Token};

/// Timeout of one read or proposal; it is repeated after that.
const ASK_BOUND: Duration = Duration::from_secs(2);
/// Longest pause between two looks at the election when no change is reported.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause before a read or proposal that failed is repeated.
const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// Extra time that a successor waits, beyond the lease and the stop time, in case the former
/// leader's host is busy.
const MARGIN: Duration = Duration::from_millis(500);
/// Extra time, beyond the lease, before a silent leader is replaced. It covers a busy host, and a
/// jump of log time by up to a second when another replica becomes the sequencer.
const SILENCE_MARGIN: Duration = Duration::from_secs(2);

/// A candidate's priority and the times it commits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Priority of the candidate. If there is no leader, the candidate with the highest priority is
    /// elected.
    pub priority: i32,
    /// A leader stops its work when it has not been able to confirm for this long that it still
    /// leads. Too long, and no work is done for that time after a leader's host dies; too short,
    /// and a leader on a busy host is replaced without need.
    pub lease: Duration,
    /// Longest time that the work takes to stop after [`Term::lost`] has returned.
    pub stop_within: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        let [lease, stop_within] = [3, 5].map(Duration::from_secs);
        Self { priority: 0, lease, stop_within }
    }
}

impl Terms {
    /// Returns how long a successor waits, from when it learns of its election, for the former
    /// leader's work to stop if that leader does not report it.
    pub fn linger(&self) -> Duration {
        self.lease + self.stop_within + MARGIN
    }

    /// Returns how long a leader that is still a group member but renews nothing (its process is
    /// frozen) keeps its place, in log time.
    pub fn patience(&self) -> Duration {
        self.lease + SILENCE_MARGIN
    }
}

/// A member that is a candidate for leader.
///
/// # Why no two members work at once
///
/// A leader works only while its last successful linearizable read of the election, which showed
/// it as the leader, *began* less than a lease ago by its own clock. So it had not been replaced
/// when that read began, and its work stops at most one lease plus the stop time after it is
/// replaced. A successor waits that long, by its own clock, after it learns of its election, unless
/// the former leader reports earlier that its work has stopped. This relies on the two clocks
/// running at about the same rate, not on their values, and on the work stopping in time. If a
/// whole host is suspended, its work does not stop in time, and only the token protects the data.
#[derive(Debug)]
pub struct Campaign {
    member: Member,
    changes: Option<Watcher<()>>,
    /// The token of this member's latest election, and when this member learned of it.
    elected: Option<(Token, Instant)>,
    /// Token of the last [`Term`] that was returned.
    served: Token,
}

/// A replica and the terms of its candidacy.
#[derive(Clone, Debug)]
struct Member {
    replica: Arc<Replica<ElectionMachine>>,
    me: Incarnation,
    terms: Terms,
}

/// The replica has stopped, so this member cannot lead any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped: {0}")]
pub struct ReplicaStopped(pub StopReason);

impl Campaign {
    /// Creates a candidate that uses this replica. It becomes a candidate in the group at the first
    /// call of [`elected`](Self::elected).
    pub fn new(replica: Arc<Replica<ElectionMachine>>, terms: Terms) -> Self {
        let me = replica.status().incarnation;
        let member = Member { replica, me, terms };
        Self { member, changes: None, elected: None, served: 0 }
    }

    /// Waits until this member is the leader and the work of all former leaders has stopped. The
    /// work may begin as soon as this returns.
    ///
    /// Cancel-safe: the future may be dropped, and the method called again.
    ///
    /// # Errors
    ///
    /// Fails if the replica has stopped.
    pub async fn elected(&mut self) -> Result<Term, ReplicaStopped> {
        loop {
            if let Some(reason) = self.member.replica.status().stopped {
                return Err(ReplicaStopped(reason));
            }
            let next_look = match self.member.look().await {
                Some(seen) => {
                    self.changes = Some(seen.changes);
                    match self.judge(&seen.election).await {
                        Ok(term) => return Ok(term),
                        Err(next_look) => next_look,
                    }
                }
                None => Instant::now() + SHORT_PAUSE,
            };
            wait_for(&mut self.changes, next_look.min(Instant::now() + PAUSE)).await;
        }
    }

    /// Returns the new term, or the time to look again if the election does not change before.
    async fn judge(&mut self, election: &Election) -> Result<Term, Instant> {
        let now = Instant::now();
        let Member { me, terms, .. } = self.member;
        if !election.candidates().contains_key(&me) {
            let [patience_ms, linger_ms] = [terms.patience(), terms.linger()]
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let stand = Command::Stand { priority: terms.priority, patience_ms, linger_ms };
            self.member.propose(stand).await;
            return Err(Instant::now());
        }
        let leads = election.leader().filter(|leader| leader.run == me);
        let Some(token) = leads.map(|leader| leader.token).filter(|token| *token > self.served)
        else {
            return Err(now + PAUSE);
        };
        let since = match self.elected {
            Some((known, since)) if known == token => since,
            _ => now,
        };
        self.elected = Some((token, since));
        if let Some(unstopped) = election.unstopped() {
            let begins = since + Duration::from_millis(unstopped.linger_ms);
            if now < begins {
                return Err(begins);
            }
        }
        let asked = Instant::now();
        match self.member.propose(Command::Begin { token }).await {
            Some(Output::Done) => {
                self.served = token;
                let until = watch::Sender::new(asked + terms.lease);
                let (member, renew_at) = (self.member.clone(), asked + terms.lease / 2);
                Ok(Term { member, token, until, renew_at, changes: None })
            }
            _ => Err(Instant::now()),
        }
    }

    /// Ends the candidacy. Waits until the group knows, for 2 s at most. Call it only after the
    /// work has stopped and [`Term::over`] has been called.
    pub async fn withdraw(self) {
        self.member.propose(Command::Withdraw).await;
    }
}

/// A period in which this member is the leader.
#[derive(Debug)]
#[must_use = "the work may begin now; wait for `lost`, stop the work, then call `over`"]
pub struct Term {
    member: Member,
    token: Token,
    /// Start of the last read that showed this member as the leader, plus one lease.
    until: watch::Sender<Instant>,
    /// Time of the next [`Command::Renew`].
    renew_at: Instant,
    changes: Option<Watcher<()>>,
}

/// The reason why the work has to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Another member is or will be the leader, because an operator asked for it or because the
    /// group continued without this member.
    Replaced,
    /// This member could not confirm its leadership for a whole lease: the group may have continued
    /// without it. The string says why.
    CutOff(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("the group has replaced this leader"),
            Self::CutOff(why) => write!(f, "no answer from the group within the lease: {why}"),
        }
    }
}

impl Term {
    /// Returns the fencing token. Storage that the work writes to should reject a token lower than
    /// the highest it has seen.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Returns a receiver of the time by which the work has to stop. [`lost`](Self::lost) moves it
    /// forward while this member leads. Meant for a watchdog outside of this process that stops the
    /// work when this process is frozen.
    pub fn until(&self) -> watch::Receiver<Instant> {
        self.until.subscribe()
    }

    fn work_ends_at(&self) -> Instant {
        *self.until.borrow()
    }

    /// Waits until the work has to stop, and returns the reason.
    ///
    /// Cancel-safe: the future may be dropped, and the method called again. While no such future is
    /// polled, the lease is neither extended nor watched.
    pub async fn lost(&mut self) -> Lost {
        loop {
            let asked = Instant::now();
            match timeout_at(self.work_ends_at(), self.member.look()).await {
                Ok(Some(seen)) => {
                    self.changes = Some(seen.changes);
                    let leader = seen.election.leader();
                    if !leader.is_some_and(|l| l.run == self.member.me && l.token == self.token) {
                        return Lost::Replaced;
                    }
                    self.until.send_replace(asked + self.member.terms.lease);
                    self.renew();
                }
                Ok(None) => sleep(SHORT_PAUSE).await,
                Err(_) => {}
            }
            if Instant::now() >= self.work_ends_at() {
                return Lost::CutOff(self.member.blocker());
            }
            let pause = self.member.terms.lease / 4;
            wait_for(&mut self.changes, asked + pause).await;
        }
    }

    /// Proposes a [`Command::Renew`] twice per lease. Does not wait for its outcome: a member that
    /// can read from the group may work, even if its disks are slow.
    fn renew(&mut self) {
        let now = Instant::now();
        if now >= self.renew_at
            && self.member.replica.try_propose(Command::Renew { token: self.token }).is_ok()
        {
            self.renew_at = now + self.member.terms.lease / 2;
        }
    }

    /// Reports to the group that the work has stopped, so that a successor need not wait. Runs in
    /// the background, and retries until it succeeds or the replica stops.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn over(self) {
        tokio::spawn(self.tell_over());
    }

    /// Reports to the group that the work has stopped, and waits until the group has that report or
    /// the replica has stopped.
    pub async fn tell_over(self) {
        let stopped = Command::Stopped { token: self.token };
        while self.member.propose(stopped).await.is_none() {
            if self.member.replica.status().stopped.is_some() {
                return;
            }
            sleep(SHORT_PAUSE).await;
        }
    }
}

/// The election at one moment, and a watcher of the changes after it.
struct Seen {
    election: Election,
    changes: Watcher<()>,
}

impl Member {
    /// Returns the current election by a linearizable read, or `None` if the read fails or takes
    /// longer than [`ASK_BOUND`].
    async fn look(&self) -> Option<Seen> {
        let look = |machine: &ElectionMachine| Seen {
            election: machine.election().clone(),
            changes: machine.watch(),
        };
        let pending = self.replica.try_read(Consistency::Linearizable, look).ok()?;
        timeout(ASK_BOUND, pending.into_future()).await.ok()?.ok()
    }

    /// Proposes a command and returns its output, or `None` if it is not known in time. Every
    /// command may be proposed again.
    async fn propose(&self, command: Command) -> Option<Output> {
        let pending = self.replica.try_propose(command).ok()?;
        let outcome: Result<Result<Output, ProposeError>, _> =
            timeout(ASK_BOUND, pending.into_future()).await;
        outcome.ok()?.ok()
    }

    fn blocker(&self) -> String {
        let status = self.replica.status();
        let stopped = status.stopped.map(|reason| reason.to_string());
        stopped
            .or(status.waiting)
            .unwrap_or_else(|| "the group did not respond within the lease".into())
    }
}

/// Waits for a change, but not longer than `until`.
async fn wait_for(changes: &mut Option<Watcher<()>>, until: Instant) {
    match changes {
        Some(watcher) => {
            let _ = timeout_at(until, watcher.next()).await;
        }
        None => sleep(until.saturating_duration_since(Instant::now())).await,
    }
}
