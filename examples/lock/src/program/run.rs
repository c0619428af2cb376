//! `lock run` and `lock try`: a command under a lock.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use service::resp::Reply;
use service::{Client, Ended, Guarding, Job, Lifeline, Signals, exit_code};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::arguments::{Common, Run, Try};
use super::failure::Failure;
use crate::Owner;
use crate::command::Token;

/// The lock was lost while the command ran.
const LOST: u8 = 75;

/// Whoever waits and loses the server tries again for so long to find another.
const RETRY_BOUND: Duration = Duration::from_secs(30);

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What a lost lock lingers beyond `--kill-after`: for the server to notice that it is cut
/// off, which takes it a second longer than the others at most, for the log's time, which
/// may jump by another, and as much again for a busy host.
const MARGIN: Duration = Duration::from_secs(4);

/// How long to wait for the word that the lock is given back. The connection's end does
/// it too.
const GOODBYE_BOUND: Duration = Duration::from_secs(5);

pub(super) async fn run(arguments: Run) -> Result<ExitCode, Failure> {
    let Run { timeout, common, command } = arguments;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    match lock(&common, deadline, &command).await? {
        Some(held) => held.run(&common, &command).await,
        None => Ok(common.conflict_exit_code.into()),
    }
}

pub(super) async fn try_(arguments: Try) -> Result<ExitCode, Failure> {
    let Try { common, command } = arguments;
    match lock(&common, Some(Instant::now()), &command).await? {
        Some(held) if command.is_empty() => {
            held.give_back(&common).await;
            Ok(ExitCode::SUCCESS)
        }
        Some(held) => held.run(&common, &command).await,
        None => Ok(common.conflict_exit_code.into()),
    }
}

/// A lock that is held.
struct Held {
    client: Client,
    token: Token,
    /// When it was asked for, or last renewed, so before the lease began.
    asked: Instant,
}

/// Waits for the lock at the first server that answers; `None` if it is not to be had.
async fn lock(
    common: &Common,
    deadline: Option<Instant>,
    command: &[String],
) -> Result<Option<Held>, Failure> {
    // When last a server answered and then went.
    let mut last_good: Option<Instant> = None;
    loop {
        let mut whys = Vec::new();
        for address in common.at.addresses()? {
            let mut client = match Client::connect(address).await {
                Ok(client) => client,
                Err(why) => {
                    whys.push(format!("{address}: {why}"));
                    continue;
                }
            };
            let asked = Instant::now();
            match client.call(&words(common, deadline, command)).await {
                Ok(Reply::Integer(token)) => {
                    let token = token.unsigned_abs();
                    return Ok(Some(Held { client, token, asked }));
                }
                Ok(Reply::Null) => return Ok(None),
                Ok(Reply::Error(why)) if is_passing(&why) => {
                    // It served this wait, until it heard that it had been cut off.
                    if why.starts_with("LOST ") {
                        served(&mut last_good, asked);
                    }
                    whys.push(format!("{address}: {why}"));
                }
                Ok(Reply::Error(why)) => return Err(Failure::Refused(why.to_string())),
                Ok(_) => return Err(Failure::Refused("this is no answer to LOCK".into())),
                Err(why) => {
                    service::say(format_args!(
                        "lock: lost {address} while waiting ({why}); the wait begins anew"
                    ));
                    served(&mut last_good, asked);
                    whys.push(format!("{address}: {why}"));
                }
            }
        }
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_late || last_good.is_none_or(|good| good.elapsed() > RETRY_BOUND) {
            return Err(Failure::NoServer(whys.join("; ")));
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// A server was lost that served a wait. One that is lost soon, again and again, is not asked
/// for ever.
fn served(last_good: &mut Option<Instant>, asked: Instant) {
    if asked.elapsed() > RETRY_BOUND {
        *last_good = Some(Instant::now());
    } else {
        last_good.get_or_insert_with(Instant::now);
    }
}

/// Whether another server may do better.
fn is_passing(error: &str) -> bool {
    ["CLUSTERDOWN ", "UNKNOWN ", "LOST "].iter().any(|code| error.starts_with(code))
}

fn words(common: &Common, deadline: Option<Instant>, command: &[String]) -> Vec<String> {
    let seconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64());
    let mut words = vec!["LOCK".into(), common.name.to_string()];
    if common.shared {
        words.push("SHARED".into());
    }
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        words.extend(["TIMEOUT".into(), seconds(left)]);
    }
    if let Some(lease) = common.lease {
        words.extend(["LEASE".into(), seconds(lease)]);
    }
    if !command.is_empty() {
        words.extend(["LINGER".into(), seconds(common.kill_after + MARGIN)]);
    }
    let host = rustix::system::uname();
    let owner = format!(
        "{}:{} {}",
        host.nodename().to_string_lossy(),
        std::process::id(),
        command.join(" ")
    );
    words.extend(["OWNER".into(), Owner::about(owner.trim()).to_string()]);
    words
}

impl Held {
    async fn run(mut self, common: &Common, command: &[String]) -> Result<ExitCode, Failure> {
        let mut signals = Signals::listen().map_err(Failure::System)?;
        // Should this process be killed, the command keeps the lock until it ends.
        self.client.let_children_inherit().map_err(Failure::System)?;
        let name = common.name.as_str();
        let variables = [("LOCK_NAME", name.to_owned()), ("LOCK_TOKEN", self.token.to_string())];
        let connection = self.client.connection().map_err(Failure::System)?;
        let until = common.lease.map(|lease| self.asked + renewal_bound(lease));
        let guarding =
            Guarding { kill_after: common.kill_after, until, connection: Some(connection) };
        let (mut job, mut lifeline) = match Job::start(command, &variables, guarding).await {
            Ok(started) => started,
            Err(why) if why.kind() == io::ErrorKind::TimedOut => {
                service::say(format_args!(
                    "lock: lost {name}: the lease was over before the command could begin"
                ));
                self.client.end().await;
                return Ok(LOST.into());
            }
            Err(why) => {
                self.give_back(common).await;
                let command = command.first().cloned().unwrap_or_default();
                return Err(Failure::Command { command, why });
            }
        };
        let why = tokio::select! {
            ended = job.ended(&mut signals) => match ended.map_err(Failure::System)? {
                Ended::Command(_) if self.is_late(common) => "the lease was not renewed".into(),
                Ended::Command(status) => {
                    job.dismiss().await;
                    self.give_back(common).await;
                    return Ok(exit_code(status).into());
                }
                Ended::Guard => "the process that guards the command was killed".into(),
            },
            why = self.lost(common, &mut lifeline) => why,
        };
        service::say(format_args!("lock: lost {name}: {why}; stopping the command"));
        job.stop(&mut signals).await.map_err(Failure::System)?;
        self.client.end().await;
        Ok(LOST.into())
    }

    /// Whether the guard may have stopped the command.
    fn is_late(&self, common: &Common) -> bool {
        common.lease.is_some_and(|lease| self.asked.elapsed() >= renewal_bound(lease))
    }

    /// Waits until the lock is lost; says why. Renews the lease meanwhile.
    async fn lost(&mut self, common: &Common, lifeline: &mut Lifeline) -> String {
        match self.keep(common, lifeline).await {
            Ok(why) => why,
            Err(error) => format!("the connection to the server is gone ({error})"),
        }
    }

    async fn keep(&mut self, common: &Common, lifeline: &mut Lifeline) -> io::Result<String> {
        let name = common.name.as_str();
        self.client.send(&["WATCH", name]).await?;
        let Some(lease) = common.lease else { return Ok(lost_by(self.client.reply().await?)) };
        let period = lease / 3;
        let mut ticks = interval_at(self.asked + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                reply = self.client.reply() => return Ok(lost_by(reply?)),
                _ = ticks.tick() => {}
            }
            let asked = Instant::now();
            let renewal = async {
                self.client.send(&["RENEW", name]).await?;
                self.client.send(&["WATCH", name]).await?;
                // Of the watch that the renewal ends.
                match self.client.reply().await? {
                    Reply::Null => self.client.reply().await,
                    lost => Ok(lost),
                }
            };
            let late = || Ok("the lease could not be renewed in time".into());
            match timeout_at_end_of(self.asked + renewal_bound(lease), renewal).await {
                Some(Ok(Reply::Integer(1))) => {
                    self.asked = asked;
                    lifeline.extend(asked + renewal_bound(lease)).await;
                }
                Some(Ok(Reply::Integer(_))) => return late(),
                Some(Ok(lost)) => return Ok(lost_by(lost)),
                Some(Err(error)) => return Err(error),
                None => return late(),
            }
        }
    }

    /// Gives the lock back, and waits until that has happened.
    async fn give_back(mut self, common: &Common) {
        let name = common.name.as_str();
        let goodbye = async {
            self.client.send(&["UNLOCK", name]).await?;
            // Before it there may be the answer to a watch that this ends.
            while !matches!(self.client.reply().await?, Reply::Integer(_) | Reply::Error(_)) {}
            io::Result::Ok(())
        };
        let _ = timeout(GOODBYE_BOUND, goodbye).await;
        self.client.end().await;
    }
}

/// After which a lease is taken for lost that was not renewed.
fn renewal_bound(lease: Duration) -> Duration {
    lease / 3 * 2
}

async fn timeout_at_end_of<T>(deadline: Instant, task: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline, task).await.ok()
}

/// What the answer to a watch says.
fn lost_by(reply: Reply) -> String {
    match reply {
        Reply::BulkString(why) => String::from_utf8_lossy(&why).into_owned(),
        Reply::SimpleString(why) => String::from_utf8_lossy(&why).into_owned(),
        Reply::Error(why) => why.strip_prefix("LOST ").unwrap_or(&why).into(),
        _ => "the server does not say why".into(),
    }
}
