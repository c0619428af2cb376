use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::resp::{Decoder, Limits, Reply, encode, error};
use crate::{Listener, Stream};

/// Operators at once; the next is told so and closed.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to read a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
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
    let (mut input, mut output) = stream.split();
    let mut decoder = Decoder::new(LIMITS);
    loop {
        let (reply, goes_on) = match decoder.request() {
            Ok(Some(words)) if words.first().is_some_and(|w| w.eq_ignore_ascii_case(b"quit")) => {
                (Reply::SimpleString("OK".into()), false)
            }
            Ok(Some(words)) => (answer(words).await, true),
            Ok(None) => {
                decoder.buffer().reserve(1024);
                match input.read_buf(decoder.buffer()).await {
                    Ok(1..) => continue,
                    _ => return,
                }
            }
            Err(mistake) => (error(format_args!("ERR Protocol error: {mistake}")), false),
        };
        let mut buffer = BytesMut::new();
        encode(&mut buffer, &reply);
        let written = timeout(WRITE_TIMEOUT, output.write_all(&buffer)).await;
        if !goes_on || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}
