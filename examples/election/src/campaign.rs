use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plainsong::{Consistency, Incarnation, ProposeError, Replica, StopReason, Watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{Command, Election, ElectionMachine, Output, Token};

/// How long a question to the group may take before it is asked again.
const ASK_BOUND: Duration = Duration::from_secs(2);
/// How long to wait where nothing has changed, or the replica is busy.
const PAUSE: Duration = Duration::from_millis(500);
const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// What a successor waits beyond the lease and the time to stop: for a busy host.
const MARGIN: Duration = Duration::from_millis(500);
/// What a leader may be silent beyond the lease: for a busy host, and for the log's time, which
/// may jump by a second when another replica gives it.
const SILENCE_MARGIN: Duration = Duration::from_secs(2);

/// How a member stands, and what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Among those who stand when there is no leader, the highest leads.
    pub priority: i32,
    /// A leader that has not heard for so long that it still leads has lost its place. The
    /// longer, the longer nobody works when a leader's host dies; too short, and a busy host
    /// loses its place for nothing.
    pub lease: Duration,
    /// The work stops within that time after [`Term::lost`] has returned.
    pub stop_within: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        let [lease, stop_within] = [3, 5].map(Duration::from_secs);
        Self { priority: 0, lease, stop_within }
    }
}

impl Terms {
    /// How long a successor waits, from when it hears of its election, for work that it hears
    /// nothing of.
    pub fn linger(&self) -> Duration {
        self.lease + self.stop_within + MARGIN
    }

    /// How long a leader of which nothing is heard keeps its place, in log time, though it is in
    /// the group still: it stands still.
    pub fn patience(&self) -> Duration {
        self.lease + SILENCE_MARGIN
    }
}

/// A member that wants to lead.
///
/// # Why no two work at once
///
/// A leader works only while it has heard, less than a lease ago by its own clock and counted
/// from when it asked, that it leads: by a linearizable read. So it cannot have been replaced
/// before it asked, and stops no later than a lease and the time to stop after it was. A
/// successor begins that long after it has heard of its election, by its own clock, or when the
/// former leader has said that its work has stopped. Only the rates of the two clocks count,
/// and that the work does stop in its time: where a whole host stands still, it does not, and
/// the token has to fence it off.
#[derive(Debug)]
pub struct Campaign {
    member: Member,
    changes: Option<Watcher<()>>,
    /// When it was first heard that this member leads, with that token.
    elected: Option<(Token, Instant)>,
    /// The last term that was given out.
    served: Token,
}

/// The replica, and how it stands.
#[derive(Clone, Debug)]
struct Member {
    replica: Arc<Replica<ElectionMachine>>,
    me: Incarnation,
    terms: Terms,
}

/// The replica has stopped: this member leads no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica has stopped: {0}")]
pub struct ReplicaStopped(pub StopReason);

impl Campaign {
    /// A member that wants to lead, by this replica.
    pub fn new(replica: Arc<Replica<ElectionMachine>>, terms: Terms) -> Self {
        let me = replica.status().incarnation;
        let member = Member { replica, me, terms };
        Self { member, changes: None, elected: None, served: 0 }
    }

    /// Stands until this member leads, and all work of leaders before it has stopped. Work may
    /// begin at once. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// The replica has stopped.
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

    /// The term, or when to look again where nothing changes.
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

    /// Wants to lead no more. Waits until the group has heard it, for a bound. All work must
    /// have stopped, and [`Term::over`] been called.
    pub async fn withdraw(self) {
        self.member.propose(Command::Withdraw).await;
    }
}

/// A time in which this member leads.
#[derive(Debug)]
#[must_use = "work begins now, and ends with `lost` and `over`"]
pub struct Term {
    member: Member,
    token: Token,
    /// A lease after it was asked whether this member leads, and it did.
    until: watch::Sender<Instant>,
    /// When to renew the place next.
    renew_at: Instant,
    changes: Option<Watcher<()>>,
}

/// Why work has to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Another leads, or will: an operator wants so, or the group has gone on without this
    /// member.
    Replaced,
    /// The group was not heard for a lease: it may go on without this member.
    CutOff(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("the group has gone on to another leader"),
            Self::CutOff(why) => write!(f, "the group was not heard in time: {why}"),
        }
    }
}

impl Term {
    /// The fencing token. What the work writes to should refuse a lower one than it has seen.
    pub fn token(&self) -> Token {
        self.token
    }

    /// When the work has to stop, as far as is known now; [`lost`](Self::lost) puts it off. For
    /// something beside this process that stops the work when this process stands still.
    pub fn until(&self) -> watch::Receiver<Instant> {
        self.until.subscribe()
    }

    fn work_ends_at(&self) -> Instant {
        *self.until.borrow()
    }

    /// Waits until the work has to stop, and says why. May be dropped and called again; but
    /// nobody else sees to it meanwhile that the work stops.
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

    /// Twice a lease, tells the group that this member is well. Does not wait for the disks: who
    /// can read may work.
    fn renew(&mut self) {
        let now = Instant::now();
        if now >= self.renew_at
            && self.member.replica.try_propose(Command::Renew { token: self.token }).is_ok()
        {
            self.renew_at = now + self.member.terms.lease / 2;
        }
    }

    /// The work has stopped. Tells the group, in the background and however long it takes, so
    /// that a successor need not wait; to be called in a runtime.
    pub fn over(self) {
        tokio::spawn(self.tell_over());
    }

    /// The same, and waits until the group has heard it or the replica has stopped.
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

/// The state at a moment, and what changes behind it.
struct Seen {
    election: Election,
    changes: Watcher<()>,
}

impl Member {
    /// The state as it is now, if it is to be known.
    async fn look(&self) -> Option<Seen> {
        let look = |machine: &ElectionMachine| Seen {
            election: machine.election().clone(),
            changes: machine.watch(),
        };
        let pending = self.replica.try_read(Consistency::Linearizable, look).ok()?;
        timeout(ASK_BOUND, pending.into_future()).await.ok()?.ok()
    }

    /// The outcome of a command, if it is to be known. Each may be proposed again.
    async fn propose(&self, command: Command) -> Option<Output> {
        let pending = self.replica.try_propose(command).ok()?;
        let outcome: Result<Result<Output, ProposeError>, _> =
            timeout(ASK_BOUND, pending.into_future()).await;
        outcome.ok()?.ok()
    }

    fn blocker(&self) -> String {
        let status = self.replica.status();
        let stopped = status.stopped.map(|reason| reason.to_string());
        stopped.or(status.waiting).unwrap_or_else(|| "the group is slower than the lease".into())
    }
}

/// Waits for a change, until then at most.
async fn wait_for(changes: &mut Option<Watcher<()>>, until: Instant) {
    match changes {
        Some(watcher) => {
            let _ = timeout_at(until, watcher.next()).await;
        }
        None => sleep(until.saturating_duration_since(Instant::now())).await,
    }
}
