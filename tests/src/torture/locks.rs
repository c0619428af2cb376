use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plainsong::testing::Random;

use super::clients::Book;
use super::group::Group;
use super::service::Service;
use super::{Result, wrong};
use crate::client::{NodeClient, Reply};

/// Locks that clients want.
const LOCKS: u64 = 2;
/// In so many of a thousand cases a client is content to share.
const SHARED_PER_MILLE: u32 = 300;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);

/// That a client had a lock for certain: from the answer that told so until before it gave the
/// lock back, which it still had then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    lock: u64,
    shared: bool,
    token: u64,
    asked: Instant,
    begins: Instant,
    ends: Instant,
}

/// A client that takes locks and gives them back, for as long as it may.
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

/// Takes a lock and gives it back; `None`: the connection is of no use any more.
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
    // Zero: it was lost some time before. An error: nobody knows when.
    if let Reply::Text(one) = client.ask(&format!("UNLOCK lock{lock}")).ok()?
        && one == "1"
    {
        let hold = Hold { lock, shared, token, asked, begins, ends };
        book.held(hold);
    }
    Some(())
}

/// Whether nobody had a lock that another had, and tokens grew.
pub(super) fn judge(holds: &[Hold]) -> Result<()> {
    let mut holds = holds.to_vec();
    holds.sort_unstable_by_key(|hold| hold.token);
    for pair in holds.windows(2) {
        if pair[0].token == pair[1].token {
            return Err(wrong(format!("two holds with one token: {pair:?}")));
        }
    }
    // Whoever asks when another has given a lock back, gets a higher token.
    for (at, low) in holds.iter().enumerate() {
        for high in &holds[at + 1..] {
            if high.ends < low.asked {
                return Err(wrong(format!("a later hold has a lower token: {high:?}, {low:?}")));
            }
            let apart = high.ends < low.begins || low.ends < high.begins;
            if low.lock == high.lock && !(apart || low.shared && high.shared) {
                return Err(wrong(format!("a lock was held twice: {low:?}, {high:?}")));
            }
        }
    }
    Ok(())
}
