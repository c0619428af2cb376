use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plainsong::testing::Random;

use super::clients::Book;
use super::group::Group;
use super::service::Service;
use super::{Result, wrong};
use crate::client::{NodeClient, Reply};

/// Number of locks.
const LOCKS: u64 = 2;
/// Requests for a shared lock, per thousand.
const SHARED_PER_MILLE: u32 = 300;
/// Time that a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);

/// A period in which a client certainly held a lock: from the answer that granted it until just
/// before the client released it, provided that it still held it then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    lock: u64,
    shared: bool,
    token: u64,
    asked: Instant,
    begins: Instant,
    ends: Instant,
}

/// Runs a client that takes and releases locks until `stop` is set.
pub(super) fn work(
    book: &Book<'_>,
    group: &Group,
    at: u32,
    mut random: Random,
    stop: &AtomicBool,
) -> Result<()> {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let known = match connection.take() {
            Some(client) => Some(client),
            None => group.connect(Service::Lock, at)?,
        };
        let Some(mut client) = known.filter(|client| client.set_patience(PATIENCE).is_ok()) else {
            thread::sleep(RETRY);
            continue;
        };
        if hold(book, &mut client, &mut random).is_some() {
            connection = Some(client);
        } else {
            thread::sleep(RETRY);
        }
    }
    Ok(())
}

/// Takes a lock and releases it. Returns `None` if the connection cannot be used any more.
fn hold(book: &Book<'_>, client: &mut NodeClient, random: &mut Random) -> Option<()> {
    let (lock, shared) = (random.below(LOCKS), random.chance(SHARED_PER_MILLE));
    let word = if shared { "SHARED " } else { "" };
    let asked = Instant::now();
    let token = match client.ask(&format!("LOCK lock{lock} {word}TIMEOUT 2")).ok()? {
        Reply::Text(token) => token.parse().ok()?,
        Reply::Nil => return Some(()),
        Reply::Error(_) | Reply::Array(_) => return None,
    };
    let begins = Instant::now();
    thread::sleep(random.up_to(Duration::from_millis(20)));
    let ends = Instant::now();
    // Zero means that the lock was lost before; after an error, nothing is known.
    if let Reply::Text(one) = client.ask(&format!("UNLOCK lock{lock}")).ok()?
        && one == "1"
    {
        let hold = Hold { lock, shared, token, asked, begins, ends };
        book.held(hold);
    }
    Some(())
}

/// Checks that no two clients held one lock at the same time, and that tokens grew.
pub(super) fn judge(holds: &[Hold]) -> Result<()> {
    let mut holds = holds.to_vec();
    holds.sort_unstable_by_key(|hold| hold.token);
    for pair in holds.windows(2) {
        if pair[0].token == pair[1].token {
            return Err(wrong(format!("two holders received the same token: {pair:?}")));
        }
    }
    // A request made after a lock was released gets a higher token.
    for (at, low) in holds.iter().enumerate() {
        for high in &holds[at + 1..] {
            if high.ends < low.asked {
                return Err(wrong(format!(
                    "a later holder received a lower token: {high:?}, {low:?}"
                )));
            }
            let apart = high.ends < low.begins || low.ends < high.begins;
            if low.lock == high.lock && !(apart || low.shared && high.shared) {
                return Err(wrong(format!(
                    "two clients held one lock at the same time: {low:?}, {high:?}"
                )));
            }
        }
    }
    Ok(())
}
