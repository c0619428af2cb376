use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::resp::{Decoder, Limits, ProtocolError, Reply, encode, error};
use crate::{Listener, Stream, discard};

/// Operators at once; the next is told so and closed.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to read a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes that are discarded after a protocol error, so that the client can read the error.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
const LIMITS: Limits = Limits { arguments_max: 32, line_bytes_max: 4096, request_bytes_max: 4096 };

/// Answers requests, each client's one after the other, until this is dropped. For servers that
/// operators ask now and then, and nobody else.
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
                // Out of descriptors, most likely; it may pass.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// One client. What is wrong with its connection is its own affair.
async fn serve<F: Future<Output = Reply>>(stream: Stream, answer: impl Fn(Vec<Bytes>) -> F) {
    let rights = stream.rights();
    let (mut input, mut output) = stream.split();
    let mut decoder = Decoder::new(LIMITS);
    loop {
        let (reply, goes_on) = match decoder.request() {
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
        if is_written && !goes_on {
            let _ = output.shutdown().await;
            discard(&mut input, DISCARDED_BYTES_MAX).await;
        }
        if !is_written || !goes_on {
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

    /// What a client is told that writes all of this before it reads, and how many requests of it
    /// are answered.
    async fn told(bytes: &[u8]) -> (String, usize) {
        let (client, server) = UnixStream::pair().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let answer = |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Reply::SimpleString("OK".into()) }
        };
        let (mut input, mut output) = client.into_split();
        let ask = async {
            // A server that closes at once takes no more.
            let _ = output.write_all(bytes).await;
            let mut told = Vec::new();
            while matches!(input.read_buf(&mut told).await, Ok(1..)) {}
            drop((input, output));
            String::from_utf8(told).unwrap()
        };
        let (told, ()) = tokio::join!(ask, serve(Stream::Unix(server), answer));
        (told, count.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_mistake_is_told_to_a_client_that_still_writes() {
        let (told, count) = told(&[b'x'; 900_000]).await;
        assert_eq!((&told[..], count), ("-ERR Protocol error: too big inline request\r\n", 0));
    }

    #[tokio::test]
    async fn requests_of_http_are_not_answered() {
        for head in ["POST / HTTP/1.1\r\n", "Host: localhost\r\n"] {
            let request = format!("{head}\r\nRESIGN\r\n");
            assert_eq!(told(request.as_bytes()).await, (String::new(), 0));
        }
    }
}
