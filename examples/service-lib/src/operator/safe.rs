//! `members --wait-safe`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ask::{At, OperatorError, ask};

const INTERVAL: Duration = Duration::from_millis(200);

/// Time for which it must be safe without interruption, so that a replica that has just gone is
/// noticed first.
const HOLD: Duration = Duration::from_secs(2);

/// Waits until it is safe to restart another replica, and prints each reason to wait on stderr.
pub(super) async fn wait(at: &At, bound: Duration) -> Result<(), OperatorError> {
    at.addresses()?;
    let deadline = Instant::now() + bound;
    let mut safe_since = None;
    let mut reported = String::new();
    loop {
        let why = match ask(at, &["MEMBERS".into(), "SAFE".into()]).await {
            Ok(why) if why.is_empty() => {
                let since = *safe_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= HOLD {
                    return Ok(());
                }
                "it has been safe for less than 2 s".into()
            }
            Ok(why) => {
                safe_since = None;
                why
            }
            // A replica that was just started does not answer yet.
            Err(OperatorError::NoAnswer(why)) => {
                safe_since = None;
                why
            }
            Err(failure) => return Err(failure),
        };
        if Instant::now() >= deadline {
            return Err(OperatorError::Unsafe(why));
        }
        if safe_since.is_none() && why != reported {
            crate::print_stderr(format_args!("waiting, not safe yet: {why}"));
            reported = why;
        }
        sleep(INTERVAL).await;
    }
}
