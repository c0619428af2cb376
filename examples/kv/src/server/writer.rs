use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::answer::{Answer, Form, Later};
use super::listener::Shared;
use super::order::Progress;
use crate::backend::Backend;
use crate::resp::{Reply, encode};

/// Number of buffered bytes at which replies are written even if more replies are ready.
const WRITE_BYTES: usize = 64 << 10;

/// Writes the replies of a connection in the order of its requests.
pub(super) struct Writer<B: Backend> {
    pub(super) output: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) queue: mpsc::Receiver<Answer<B::Pending>>,
    pub(super) progress: Arc<Progress>,
    pub(super) shared: Arc<Shared<B>>,
    pub(super) form: Form,
    pub(super) buffer: BytesMut,
}

impl<B: Backend> Writer<B> {
    pub(super) async fn run(mut self) -> io::Result<()> {
        while let Some(answer) = self.next().await? {
            let (reply, last) = match answer {
                Answer::Now(reply) => (reply, false),
                Answer::Message(reply, place) => {
                    drop(place);
                    (reply, false)
                }
                Answer::Close(reply) => (reply, true),
                Answer::Later(later) => (self.wait_for(later).await?, false),
                Answer::Form(form) => {
                    self.form = form;
                    continue;
                }
            };
            if !self.form.is_quiet || matches!(reply, Reply::Push(_)) {
                encode(&mut self.buffer, &reply, self.form.protocol);
            }
            if last {
                break;
            }
            if self.buffer.len() >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.output.shutdown().await
    }

    /// Waits for the next answer. Flushes the buffer before it waits.
    async fn next(&mut self) -> io::Result<Option<Answer<B::Pending>>> {
        if let Ok(answer) = self.queue.try_recv() {
            return Ok(Some(answer));
        }
        self.flush().await?;
        Ok(self.queue.recv().await)
    }

    async fn wait_for(&mut self, mut later: Later<B::Pending>) -> io::Result<Reply> {
        let outcome = match later.ready().await {
            Some(outcome) => Some(outcome),
            None => {
                self.flush().await?;
                later.outcome().await
            }
        };
        self.progress.answered(later.way);
        if let (true, Some(Ok(output))) = (later.is_read, &outcome) {
            self.shared.statistics.count_keys(output);
        }
        Ok(later.reply(outcome, &self.shared.backend, self.shared.config.timeout))
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.output.write_all(&self.buffer).await?;
        // TLS buffers what the socket has not accepted yet.
        self.output.flush().await?;
        let output_bytes = &self.shared.statistics.output_bytes;
        output_bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        self.buffer.clear();
        if self.buffer.capacity() > 4 * WRITE_BYTES {
            // Frees the memory after a long reply.
            self.buffer = BytesMut::new();
        }
        Ok(())
    }
}
