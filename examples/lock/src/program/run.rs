//! `lock run` and `lock try`: a command under a lock.

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

/// Whoever waits and loses the server tries again for so long to find another.
const RETRY_BOUND: Duration = Duration::from_secs(30);

pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long beyond `--kill-after` and [`RESUME_BOUND`] nobody else gets a lock whose holder has
/// lost its server: for the server to notice that it is cut off, which takes it a second longer
/// than the others at most, for the log's time, which may jump by another, and as much again for
/// a busy host.
const MARGIN: Duration = Duration::from_secs(4);

/// How long a server may take to answer a ping before the next is asked; and once more, where none
/// has answered, as all may be busy.
const PING_BOUND: Duration = Duration::from_secs(1);
const PING_BOUND_IF_LATE: Duration = Duration::from_secs(2);
const PING_BOUND_OF_ALL: Duration = Duration::from_secs(5);

/// How long after the end of a wait the server may take to answer.
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
    // Any other process is ended by its signals while it waits.
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

/// Waits for the lock at the first server that answers; `None` if it is not to be had.
async fn lock<'a>(
    common: &'a Common,
    deadline: Option<Instant>,
    command: &[String],
) -> Result<Option<Held<'a>>, Failure> {
    // When last a server answered and then went.
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
                    // It served this wait, until it heard that it had been cut off.
                    if why.starts_with("LOST ") {
                        served(&mut last_good, asked);
                    }
                    whys.push(format!("{address}: {why}"));
                }
                Ok(Reply::Error(why)) => return Err(Failure::Refused(why.to_string())),
                Ok(_) => return Err(Failure::Refused("this is no answer to LOCK".into())),
                Err(why) => {
                    service_lib::print_stderr(format_args!(
                        "lock: lost {address} while waiting ({why}); the wait begins anew"
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

/// Waits for the answer of a server that goes on answering.
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
