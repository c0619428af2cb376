use std::future::pending;
use std::io;

use bytes::Bytes;
use service_lib::resp::{Decoder, ProtocolError};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{DISCARDED_BYTES_MAX, READ_AHEAD_BYTES_MAX, REQUESTS};

/// What comes from a client.
pub(super) struct Input {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
}

/// What was received.
pub(super) enum Incoming {
    Request(Vec<Bytes>),
    /// The client is gone, or says no more.
    End,
    ProtocolError(ProtocolError),
}

impl Input {
    pub(super) fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { stream, decoder: Decoder::new(REQUESTS) }
    }

    /// The next request. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            match self.decoder.request() {
                Ok(Some(words)) => return Incoming::Request(words),
                Ok(None) => {}
                Err(violation) => return Incoming::ProtocolError(violation),
            }
            if !self.fill().await {
                return Incoming::End;
            }
        }
    }

    /// Waits for the end of the client, while a request of it is carried out. Reads ahead up
    /// to a limit, beyond which the end is not noticed. May be dropped and called again.
    pub(super) async fn ended(&mut self) {
        while self.decoder.buffer().len() < READ_AHEAD_BYTES_MAX {
            if !self.fill().await {
                return;
            }
        }
        pending().await
    }

    /// Waits for more from the client. May be dropped and called again.
    pub(super) async fn more(&mut self) {
        if self.decoder.buffer().is_empty() {
            self.fill().await;
        }
    }

    /// Reads and discards what follows a protocol error, so that the client can read the error.
    pub(super) async fn discard(&mut self) {
        service_lib::discard(&mut self.stream, DISCARDED_BYTES_MAX).await;
    }

    /// Reads and forgets until the client is gone.
    pub(super) async fn drain(&mut self) {
        while self.fill().await {
            self.decoder.buffer().clear();
        }
    }

    async fn fill(&mut self) -> bool {
        self.decoder.buffer().reserve(1024);
        let read: io::Result<usize> = self.stream.read_buf(self.decoder.buffer()).await;
        matches!(read, Ok(1..))
    }
}
