use std::future::pending;
use std::io;

use bytes::Bytes;
use service_lib::resp::{Decoder, ProtocolError};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{DISCARDED_BYTES_MAX, READ_AHEAD_BYTES_MAX, REQUESTS};

/// The receiving half of a client's connection.
pub(super) struct Input {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    decoder: Decoder,
}

/// Something received from a client.
pub(super) enum Incoming {
    Request(Vec<Bytes>),
    /// The client has closed the connection or its sending half.
    End,
    ProtocolError(ProtocolError),
}

impl Input {
    pub(super) fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { stream, decoder: Decoder::new(REQUESTS) }
    }

    /// Returns the next request. Cancel-safe.
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

    /// Waits until the client closes the connection, while one of its requests is executed. Reads
    /// ahead up to [`READ_AHEAD_BYTES_MAX`]; beyond that, the close is not noticed. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        while self.decoder.buffer().len() < READ_AHEAD_BYTES_MAX {
            if !self.fill().await {
                return;
            }
        }
        pending().await
    }

    /// Waits until the client sends more or closes the connection. Cancel-safe.
    pub(super) async fn more(&mut self) {
        if self.decoder.buffer().is_empty() {
            self.fill().await;
        }
    }

    /// Reads and discards what follows a protocol error, so that the client can read the error.
    pub(super) async fn discard(&mut self) {
        service_lib::discard(&mut self.stream, DISCARDED_BYTES_MAX).await;
    }

    /// Reads and discards until the client closes the connection.
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
