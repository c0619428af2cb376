use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::resp::{Decoder, Limits, ProtocolError, Reply, encode, error};
use crate::{Listener, Stream, discard};

/// Maximum number of connections. Further ones get an error reply and are closed.
const CONNECTIONS_MAX: usize = 64;
/// Maximum time that a client may take to read a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes discarded after a protocol error, so that the client can read the error.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
const LIMITS: Limits = Limits { arguments_max: 32, line_bytes_max: 4096, request_bytes_max: 4096 };

/// Answers requests until the future is dropped, each client's requests one at a time. For servers
/// that only operators use.
pub async fn answer_requests<F>(
    mut listener: Listener,
    answer: impl Fn(Vec<Bytes>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Reply> + Send + 'static,
{
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) if clients.len() >= CONNECTIONS_MAX => stream.refuse().await,
                Ok(stream) => {
                    clients.spawn(serve(stream, answer.clone()));
                }
                // Most likely there are no free descriptors at the moment.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Serves one client. Errors of the connection are ignored: they concern only the client.
async fn serve<F: Future<Output = Reply>>(stream: Stream, answer: impl Fn(Vec<Bytes>) -> F) {
    let rights = stream.rights();
    let (mut input, mut output) = stream.split();
    let mut decoder = Decoder::new(LIMITS);
    loop {
        let (reply, keep_open) = match decoder.request() {
            Ok(Some(words)) if words.first().is_some_and(|w| w.eq_ignore_ascii_case(b"quit")) => {
                (Reply::SimpleString("OK".into()), false)
            }
            Ok(Some(words)) => match rights.refusal(&words) {
                Some(why) => (error(why), true),
                None => (answer(words).await, true),
            },
            Ok(None) => {
                decoder.buffer().reserve(1024);
                match input.read_buf(decoder.buffer()).await {
                    Ok(1..) => continue,
                    _ => return,
                }
            }
            Err(ProtocolError::Http) => return,
            Err(violation) => (error(format_args!("ERR Protocol error: {violation}")), false),
        };
        let mut buffer = BytesMut::new();
        encode(&mut buffer, &reply);
        let write = async {
            output.write_all(&buffer).await?;
            output.flush().await
        };
        let is_written = matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(())));
        if is_written && !keep_open {
            let _ = output.shutdown().await;
            discard(&mut input, DISCARDED_BYTES_MAX).await;
        }
        if !is_written || !keep_open {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::UnixStream;

    use super::*;

    /// Runs a client that writes `bytes` before it reads. Returns everything that it receives, and
    /// the number of requests that were executed.
    async fn replies_to(bytes: &[u8]) -> (String, usize) {
        let (client, server) = UnixStream::pair().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let answer = |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Reply::SimpleString("OK".into()) }
        };
        let (mut input, mut output) = client.into_split();
        let ask = async {
            // The write fails if the server closes the connection at once.
            let _ = output.write_all(bytes).await;
            let mut received = Vec::new();
            while matches!(input.read_buf(&mut received).await, Ok(1..)) {}
            drop((input, output));
            String::from_utf8(received).unwrap()
        };
        let (received, ()) = tokio::join!(ask, serve(Stream::Unix(server), answer));
        (received, count.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_client_that_is_still_writing_receives_the_protocol_error() {
        let (received, count) = replies_to(&[b'x'; 900_000]).await;
        assert_eq!((&received[..], count), ("-ERR Protocol error: too big inline request\r\n", 0));
    }

    #[tokio::test]
    async fn http_requests_are_not_answered() {
        for head in ["POST / HTTP/1.1\r\n", "Host: localhost\r\n"] {
            let request = format!("{head}\r\nRESIGN\r\n");
            assert_eq!(replies_to(request.as_bytes()).await, (String::new(), 0));
        }
    }
}
