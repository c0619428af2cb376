use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::put_command;
use crate::replica::encode_command;
use crate::wire::codec::{self, DecodeError, Frame};
use crate::wire::entry::{Batch, BatchKind, Commands};
use crate::wire::message::Message;
use crate::wire::types::{ApplicationId, ClusterId, Nonce, Origin, ReplicaId};

/// The frame of one batch of commands, encoded as a replica sends it. For benchmarks.
#[derive(Debug)]
pub struct BatchFrame(Frame);

impl BatchFrame {
    /// Encodes commands into a batch whose buffer has `room` bytes, and encodes the batch into a
    /// frame with a checksum.
    ///
    /// # Panics
    ///
    /// If a command cannot be encoded for a proposal.
    pub fn new<C: Serialize + DeserializeOwned>(commands: &[C], room: usize) -> Self {
        let mut gathered = BytesMut::with_capacity(room);
        for command in commands {
            let encoded = encode_command(command);
            assert!(encoded.is_ok(), "a command can be proposed: {encoded:?}");
            encoded.iter().for_each(|encoded| put_command(&mut gathered, encoded));
        }
        let batch = Batch {
            origin: Origin { replica: ReplicaId(1), counter: 1, nonce: Nonce(1) },
            number: 1,
            kind: BatchKind::Application,
            count: commands.len() as u32,
            commands: gathered.freeze(),
        };
        Self(Frame::new(ApplicationId(0), Some(ClusterId(1)), &Message::Batch(batch, None)))
    }

    /// Returns the whole frame, as a receiver gets it.
    pub fn bytes(&self) -> Bytes {
        self.0.bytes()
    }

    /// Verifies and decodes a received frame, and passes each command to `each`, as the apply
    /// thread does.
    ///
    /// # Errors
    ///
    /// If the frame or a command cannot be decoded. Commands before the error have already been
    /// passed on.
    pub fn read<C: DeserializeOwned>(
        frame: &Bytes,
        mut each: impl FnMut(C),
    ) -> Result<(), DecodeError> {
        let Message::Batch(batch, _) = codec::decode_frame(frame)?.message else {
            return Err(DecodeError::Kind(0));
        };
        for command in Commands(&batch.commands) {
            let failed =
                |error: bincode::Error| DecodeError::Body { kind: 5, reason: error.to_string() };
            each(codec::decode(command).map_err(failed)?);
        }
        Ok(())
    }
}
