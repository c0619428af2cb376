//! `lock run` and `lock try`: acquiring a lock, then running a command.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use service_lib::resp::Reply;
use service_lib::{Address, ServerConnection, Signals, reap_orphans, silence_of};
use tokio::time::{Instant, sleep, sleep_until};

use super::arguments::{Common, Run, Try};
use super::failure::Failure;
use super::held::{Held, RESUME_BOUND};
use crate::Owner;

/// Time for which a waiting client that has lost its server looks for another.
const RETRY_BOUND: Duration = Duration::from_secs(30);

/// Pause between two rounds of attempts.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Extra linger time of a lock, beyond `--kill-after` and [`RESUME_BOUND`]. The server may notice a
/// partition up to one second later than the other servers, log time may jump by another second,
/// and both are doubled in case a host is busy.
const MARGIN: Duration = Duration::from_secs(4);

/// Timeout of a ping, after which the next server is tried. If no server has answered, one of the
/// two longer timeouts is used for a second round, because all servers may be busy.
const PING_BOUND: Duration = Duration::from_secs(1);
const PING_BOUND_IF_LATE: Duration = Duration::from_secs(2);
const PING_BOUND_OF_ALL: Duration = Duration::from_secs(5);

/// Time that the server has to answer after the timeout of the wait is over.
const ANSWER_BOUND: Duration = Duration::from_secs(30);

pub(super) async fn run(arguments: Run) -> Result<ExitCode, Failure> {
    let Run { timeout, common, command } = arguments;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    under_lock(&common, deadline, &command).await
}

pub(super) async fn try_(arguments: Try) -> Result<ExitCode, Failure> {
    let Try { common, command } = arguments;
    under_lock(&common, Some(Instant::now()), &command).await
}

async fn under_lock(
    common: &Common,
    deadline: Option<Instant>,
    command: &[String],
) -> Result<ExitCode, Failure> {
    reap_orphans().map_err(Failure::System)?;
    // The first process of a container is not ended by signals by default; any other process is.
    let mut signals = Signals::listen_if_init().map_err(Failure::System)?;
    let held = tokio::select! {
        held = lock(common, deadline, command) => held?,
        signal = signals.next() => {
            return Ok(u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX).into());
        }
    };
    match held {
        Some(held) if command.is_empty() => {
            held.give_back().await;
            Ok(ExitCode::SUCCESS)
        }
        Some(held) => held.run(command).await,
        None => Ok(common.conflict_exit_code.into()),
    }
}

/// Waits for the lock at the first server that answers. Returns `None` if the lock is taken, or was
/// not granted before the deadline.
async fn lock<'a>(
    common: &'a Common,
    deadline: Option<Instant>,
    command: &[String],
) -> Result<Option<Held<'a>>, Failure> {
    // Last time at which a server that had served a wait was lost.
    let mut last_good: Option<Instant> = None;
    let mut ping_bound = PING_BOUND;
    loop {
        let mut whys = Vec::new();
        let mut is_any_silent = false;
        for (at, address) in common.at.addresses()?.iter().enumerate() {
            let mut client = match ServerConnection::connect_to_live(address, ping_bound).await {
                Ok(client) => client,
                Err(why) => {
                    is_any_silent |= why.kind() == io::ErrorKind::TimedOut;
                    whys.push(format!("{address}: {why}"));
                    continue;
                }
            };
            let asked = Instant::now();
            match wait(&mut client, address, deadline, &words(common, deadline, command)).await {
                Ok(Reply::Integer(token)) => {
                    return Ok(Some(Held::new(common, client, at, token.unsigned_abs(), asked)));
                }
                Ok(Reply::Null) => return Ok(None),
                Ok(Reply::Error(why)) if is_passing(&why) => {
                    // The server served this wait until it noticed that it was partitioned.
                    if why.starts_with("LOST ") {
                        served(&mut last_good, asked);
                    }
                    whys.push(format!("{address}: {}", without_codes(&why)));
                }
                Ok(Reply::Error(why)) => return Err(Failure::Refused(why.to_string())),
                Ok(_) => {
                    return Err(Failure::Refused(
                        "unexpected reply to LOCK; is another program listening there?".into(),
                    ));
                }
                Err(why) => {
                    service_lib::print_stderr(format_args!(
                        "lock: lost {address} while waiting ({why}); waiting again, at the end of the queue"
                    ));
                    served(&mut last_good, asked);
                    whys.push(format!("{address}: {why}"));
                }
            }
        }
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_any_silent && last_good.is_none() && ping_bound == PING_BOUND {
            ping_bound = if is_late { PING_BOUND_IF_LATE } else { PING_BOUND_OF_ALL };
            continue;
        }
        if is_late || last_good.is_none_or(|good| good.elapsed() > RETRY_BOUND) {
            return Err(Failure::NoServer(whys.join("; ")));
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Waits for the reply of a server. Fails with `TimedOut` if the server stops responding.
async fn wait(
    client: &mut ServerConnection,
    address: &Address,
    deadline: Option<Instant>,
    words: &[String],
) -> io::Result<Reply> {
    let overdue = async {
        match deadline {
            Some(deadline) => sleep_until(deadline + ANSWER_BOUND).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        reply = client.call(words) => reply,
        () = overdue => Err(io::ErrorKind::TimedOut.into()),
        () = silence_of(address) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Records the loss of a server that served a wait. The time is renewed only after a long wait, so
/// servers that fail quickly again and again are not retried for ever.
fn served(last_good: &mut Option<Instant>, asked: Instant) {
    if asked.elapsed() > RETRY_BOUND {
        *last_good = Some(Instant::now());
    } else {
        last_good.get_or_insert_with(Instant::now);
    }
}

/// Returns the text of an error without the codes in front of it, which are for programs.
fn without_codes(mut error: &str) -> &str {
    while let Some(rest) =
        ["CLUSTERDOWN ", "LOST "].iter().find_map(|code| error.strip_prefix(code))
    {
        error = rest;
    }
    error
}

/// Returns true if the error is one that another server may not have.
pub(super) fn is_passing(error: &str) -> bool {
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
        words.extend(["LINGER".into(), seconds(common.kill_after + RESUME_BOUND + MARGIN)]);
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
