//! Holding a lock while a command runs, and moving it to another server if need be.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use service_lib::resp::Reply;
use service_lib::{
    Ended, Guarding, Job, Lifeline, ServerConnection, Signals, exit_code, silence_of,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};

use super::arguments::Common;
use super::failure::Failure;
use super::run::{RETRY_PAUSE, is_passing};
use crate::command::Token;

/// Exit status if the lock was lost while the command ran.
const LOST: u8 = 75;

/// Time to find another server after one is lost, before the command is stopped. The lock is not
/// granted to others meanwhile.
pub(super) const RESUME_BOUND: Duration = Duration::from_secs(5);

/// Timeout of one attempt to move the lock to a server.
const ATTEMPT_BOUND: Duration = Duration::from_secs(2);

/// Timeout for the confirmation that the lock is released. The end of the connection releases it
/// too.
const GOODBYE_BOUND: Duration = Duration::from_secs(5);

/// A lock that this process holds.
pub(super) struct Held<'a> {
    common: &'a Common,
    client: ServerConnection,
    /// Index of the server in the list of addresses.
    at: usize,
    token: Token,
    /// Time at which the lock was requested or last renewed, so not after the start of the lease.
    asked: Instant,
}

/// The reason why a connection no longer keeps the lock.
enum Gone {
    /// The lock is lost.
    Lock(String),
    /// The server is gone; other servers may still have the lock.
    Server(String),
    /// The server does not answer, but may still have the lock.
    Silent(String),
}

impl From<io::Error> for Gone {
    fn from(error: io::Error) -> Self {
        Self::Server(format!("the connection to the server was lost ({error})"))
    }
}

impl<'a> Held<'a> {
    pub(super) fn new(
        common: &'a Common,
        client: ServerConnection,
        at: usize,
        token: Token,
        asked: Instant,
    ) -> Self {
        Self { common, client, at, token, asked }
    }

    /// Runs a command while holding the lock, and returns the exit status for this program.
    pub(super) async fn run(mut self, command: &[String]) -> Result<ExitCode, Failure> {
        let mut signals = Signals::listen().map_err(Failure::System)?;
        let (name, lease) = (self.common.name.as_str(), self.common.lease);
        let variables = [("LOCK_NAME", name.to_owned()), ("LOCK_TOKEN", self.token.to_string())];
        let connection = self.client.connection().map_err(Failure::System)?;
        let guarding = Guarding {
            kill_after: self.common.kill_after,
            until: self.lease_ends(),
            connection: Some(connection),
            move_within: RESUME_BOUND,
        };
        let (mut job, lifeline) = match Job::start(command, &variables, guarding).await {
            Ok(started) => started,
            Err(why) if why.kind() == io::ErrorKind::TimedOut => {
                service_lib::print_stderr(format_args!(
                    "lock: lost {name}: the lease expired before the command could start"
                ));
                self.client.end().await;
                return Ok(LOST.into());
            }
            Err(why) => {
                self.give_back().await;
                let command = command.first().cloned().unwrap_or_default();
                return Err(Failure::Command { command, why });
            }
        };
        let why = tokio::select! {
            ended = ended(&mut job, &mut signals, lease.is_some()) => {
                match ended.map_err(Failure::System)? {
                    Ended::Command(_) if self.is_late() => "the lease was not renewed".into(),
                    Ended::Command(status) if job.has_left_some() => {
                        // The remaining processes keep the lock, as with flock(1). The guard stops
                        // them if the lock is lost.
                        self.client.leave();
                        return Ok(exit_code(status).into());
                    }
                    Ended::Command(status) => {
                        job.dismiss().await;
                        self.give_back().await;
                        return Ok(exit_code(status).into());
                    }
                    Ended::Guard => "the guard process of the command was killed".into(),
                }
            }
            why = self.lost(&lifeline) => why,
        };
        service_lib::print_stderr(format_args!("lock: lost {name}: {why}; stopping the command"));
        job.stop(None).await.map_err(Failure::System)?;
        self.client.end().await;
        Ok(LOST.into())
    }

    /// Returns the time at which this client gives up the lease unless it is renewed before: after
    /// two thirds of it.
    fn lease_ends(&self) -> Option<Instant> {
        self.common.lease.map(|lease| self.asked + lease / 3 * 2)
    }

    /// Returns true if the guard may have stopped the command because the lease was not renewed.
    fn is_late(&self) -> bool {
        self.lease_ends().is_some_and(|end| Instant::now() >= end)
    }

    /// Waits until the lock is lost and returns the reason. Meanwhile renews the lease, and moves
    /// the lock to another server if the current one is lost.
    async fn lost(&mut self, lifeline: &Lifeline) -> String {
        let mut is_watched = false;
        loop {
            let gone = match self.common.lease {
                Some(lease) => self.renew(lease, lifeline).await,
                None => self.watch(is_watched).await,
            };
            let bound = Instant::now() + RESUME_BOUND;
            let bound = self.lease_ends().map_or(bound, |end| end.min(bound));
            let (why, is_silent) = match gone {
                Gone::Lock(why) => return why,
                Gone::Server(why) => (why, false),
                Gone::Silent(why) => (why, true),
            };
            match timeout_at(bound, self.resume(is_silent)).await {
                Ok(Some((client, at, asked))) => {
                    let moved = client.connection().and_then(|c| lifeline.move_to(c.as_fd()));
                    let before = std::mem::replace(&mut self.client, client);
                    (self.at, self.asked, is_watched) = (at, asked, false);
                    before.end().await;
                    if moved.is_err() {
                        return "the guard process of the command does not respond".into();
                    }
                    if let Some(end) = self.lease_ends() {
                        lifeline.extend(end);
                    }
                    let address = self.common.at.addresses().ok().and_then(|all| all.get(at));
                    let address = address.map(ToString::to_string).unwrap_or_default();
                    let name = &self.common.name;
                    service_lib::print_stderr(format_args!(
                        "lock: {why}; moved {name} to {address}, the command keeps running"
                    ));
                }
                // The server may only be slow: keep waiting for it.
                Err(_) if is_silent && !self.is_late() => is_watched = true,
                Ok(None) | Err(_) => return why,
            }
        }
    }

    /// Waits until the lock or the server is lost.
    async fn watch(&mut self, is_watched: bool) -> Gone {
        let addresses = self.common.at.addresses().unwrap_or_default();
        let silence = async {
            match addresses.get(self.at) {
                Some(address) if addresses.len() > 1 => silence_of(address).await,
                _ => std::future::pending().await,
            }
        };
        let name = self.common.name.as_str();
        let reply = async {
            if !is_watched {
                self.client.send(&["WATCH", name]).await?;
            }
            self.client.reply().await
        };
        tokio::select! {
            reply = reply => reply.map_or_else(Gone::from, gone_by),
            () = silence => Gone::Silent("the server does not answer".into()),
        }
    }

    /// Waits until the lock or the server is lost, and renews the lease meanwhile.
    async fn renew(&mut self, lease: Duration, lifeline: &Lifeline) -> Gone {
        match self.try_to_renew(lease, lifeline).await {
            Ok(gone) => gone,
            Err(error) => error.into(),
        }
    }

    async fn try_to_renew(&mut self, lease: Duration, lifeline: &Lifeline) -> io::Result<Gone> {
        let name = self.common.name.as_str();
        self.client.send(&["WATCH", name]).await?;
        let period = lease / 3;
        let has_others = self.common.at.addresses().is_ok_and(|all| all.len() > 1);
        let mut ticks = interval_at(self.asked + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                reply = self.client.reply() => return Ok(gone_by(reply?)),
                _ = ticks.tick() => {}
            }
            let asked = Instant::now();
            let renewal = async {
                self.client.send(&["RENEW", name]).await?;
                self.client.send(&["WATCH", name]).await?;
                // `Null` is the reply to the first `WATCH`, which the `RENEW` ends.
                match self.client.reply().await? {
                    Reply::Null => self.client.reply().await,
                    lost => Ok(lost),
                }
            };
            // The rest of the lease is left for attempts at other servers.
            let bound = self.asked + if has_others { period / 2 * 3 } else { period * 2 };
            let late = || Ok(Gone::Server("the lease could not be renewed in time".into()));
            match timeout_at(bound, renewal).await {
                Ok(Ok(Reply::Integer(1))) => {
                    self.asked = asked;
                    lifeline.extend(asked + period * 2);
                }
                Ok(Ok(Reply::Integer(_))) | Err(_) => return late(),
                Ok(Ok(lost)) => return Ok(gone_by(lost)),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Finds a server that moves the lock to a new connection. Tries the servers in turn, starting
    /// with the one after the lost server. Tries the lost server last, because it may be back, but
    /// not if `is_silent`. Returns `None` if the lock is lost. Does not return while no server
    /// answers.
    async fn resume(&self, is_silent: bool) -> Option<(ServerConnection, usize, Instant)> {
        let addresses = self.common.at.addresses().unwrap_or_default();
        let token = self.token.to_string();
        let words = ["RESUME", self.common.name.as_str(), &token];
        loop {
            for step in 1..=addresses.len() {
                let at = (self.at + step) % addresses.len();
                if is_silent && at == self.at {
                    continue;
                }
                let asked = Instant::now();
                let attempt = async {
                    let mut client = ServerConnection::connect(&addresses[at]).await?;
                    let reply = client.call(&words).await?;
                    io::Result::Ok((client, reply))
                };
                // An attempt that times out here may take effect later. That is noticed: the lock
                // has then moved, and this client moves it again.
                match timeout(ATTEMPT_BOUND, attempt).await {
                    Ok(Ok((client, Reply::Integer(_)))) => return Some((client, at, asked)),
                    Ok(Ok((_, Reply::Null))) => return None,
                    Ok(Ok((_, Reply::Error(why)))) if !is_passing(&why) => {
                        service_lib::print_stderr(format_args!(
                            "lock: {} rejects the request: {why}",
                            addresses[at]
                        ));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Releases the lock and waits for the confirmation.
    pub(super) async fn give_back(mut self) {
        let name = self.common.name.as_str();
        let goodbye = async {
            self.client.send(&["UNLOCK", name]).await?;
            // The reply to a `WATCH` that this request ends may come first.
            while !matches!(self.client.reply().await?, Reply::Integer(_) | Reply::Error(_)) {}
            io::Result::Ok(())
        };
        let _ = timeout(GOODBYE_BOUND, goodbye).await;
        self.client.end().await;
    }
}

/// Waits for the end of the command or of its guard. If a lease has to be renewed (`renews`), also
/// waits for the processes that the command has left behind.
async fn ended(job: &mut Job, signals: &mut Signals, renews: bool) -> io::Result<Ended> {
    let ended = job.ended(signals).await?;
    if renews && matches!(ended, Ended::Command(_)) {
        job.all_ended(signals).await?;
        if job.has_left_some() {
            return Ok(Ended::Guard);
        }
    }
    Ok(ended)
}

/// Interprets the reply to `WATCH`.
fn gone_by(reply: Reply) -> Gone {
    match reply {
        Reply::BulkString(why) => Gone::Lock(String::from_utf8_lossy(&why).into_owned()),
        Reply::SimpleString(why) => Gone::Server(String::from_utf8_lossy(&why).into_owned()),
        Reply::Error(why) => Gone::Server(why.strip_prefix("LOST ").unwrap_or(&why).into()),
        _ => Gone::Server("the server gave no reason".into()),
    }
}
