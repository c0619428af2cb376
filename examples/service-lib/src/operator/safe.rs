//! `members --wait-safe`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ask::{At, OperatorError, ask};

const INTERVAL: Duration = Duration::from_millis(200);

/// For how long it has to be safe: a replica that is gone is noticed by then.
const HOLD: Duration = Duration::from_secs(2);

/// Waits until another replica may be restarted; says on stderr what it waits for.
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
                "for a moment only".into()
            }
            Ok(why) => {
                safe_since = None;
                why
            }
            // One that was just started does not answer yet.
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
            crate::print_stderr(format_args!("not yet: {why}"));
            reported = why;
        }
        sleep(INTERVAL).await;
    }
}
