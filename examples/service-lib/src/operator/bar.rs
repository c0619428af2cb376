//! `status --watch`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::ask::{At, OperatorError, ask};
use crate::Transfer;

const INTERVAL: Duration = Duration::from_millis(200);

/// Shows the status of a replica until it stops answering.
pub(super) async fn watch(at: &At) -> Result<(), OperatorError> {
    let bar = ProgressBar::new(0);
    loop {
        show(&bar, &ask(at, &["INFO".into(), "replication".into()]).await?);
        sleep(INTERVAL).await;
    }
}

/// Updates the display from an `INFO` reply: a progress bar while the replica receives a snapshot,
/// and one line of text otherwise.
fn show(bar: &ProgressBar, info: &str) {
    let field = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
        info.lines().find_map(value).unwrap_or_default()
    };
    let role = format!("replica {}: {}", field("id"), field("role"));
    let (style, message) = match field("transfer").parse::<Transfer>() {
        Ok(Transfer { from, bytes, of, per_second, seconds_left }) => {
            bar.set_length(of);
            bar.set_position(bytes);
            let rate = per_second as f64 / 1e6;
            let message = format!("from replica {from}, {rate:.1} MB/s, {seconds_left} s left");
            ("{prefix} {wide_bar} {bytes} of {total_bytes} {msg}", message)
        }
        Err(()) => {
            let (committed, applied) = (field("committed"), field("applied"));
            let counts = format!("committed {committed}, applied {applied}");
            ("{prefix}, {msg}", format!("{counts} {}", field("obstacle")))
        }
    };
    // The templates are constants, so the fallback is never used.
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(role);
    bar.set_message(message);
    bar.tick();
}
