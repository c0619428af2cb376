use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Most bytes that are read and discarded from a client that made a mistake.
pub const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// Longest time for that.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Reads and discards what a client still sends, until it closes its side, up to `bytes_max` bytes
/// and for 10 s.
///
/// A connection that is closed while something is unread is reset, and then the client loses the
/// reply that says what its mistake was. So write the reply, shut down the output, and call this
/// before the connection is dropped.
pub async fn discard(input: &mut (impl AsyncRead + Unpin), bytes_max: usize) {
    let discarded = async {
        let mut part = vec![0; 16 << 10];
        let mut left = bytes_max;
        while left > 0 {
            match input.read(&mut part).await {
                Ok(length @ 1..) => left = left.saturating_sub(length),
                _ => return,
            }
        }
    };
    // What comes later than that is lost with the connection.
    let _ = timeout(TIME_MAX, discarded).await;
}
