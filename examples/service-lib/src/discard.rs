use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Maximum number of bytes to read and discard from a client that sent an invalid request.
pub const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// Maximum time spent discarding a client's input.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Reads and discards a client's input until it closes its side, for at most `bytes_max` bytes and
/// 10 s.
///
/// Closing a connection with unread input resets it, and the client may then lose the error reply.
/// So write the reply, shut down the output, and call this before dropping the connection.
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
    // After the timeout the connection is dropped, with whatever the client still sends.
    let _ = timeout(TIME_MAX, discarded).await;
}
