use bytes::Bytes;

/// The state of a log apart from its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Number of writes so far.
    pub(super) serial: u64,
    /// Index through which records have been removed.
    pub(super) compacted: u64,
    /// Index of the last record; equal to `compacted` if there are none.
    pub(super) last: u64,
    pub(super) hard_state: Option<Bytes>,
}

impl State {
    /// Returns the state of an empty log.
    pub(super) fn new() -> Self {
        Self { serial: 1, compacted: 0, last: 0, hard_state: None }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        for number in [self.serial, self.compacted, self.last] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(u8::from(self.hard_state.is_some()));
        bytes.extend_from_slice(self.hard_state.as_deref().unwrap_or_default());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Returns `None` if the bytes do not match their checksum.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (state, checksum) = bytes.split_last_chunk()?;
        if crc32c::crc32c(state) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (serial, rest) = state.split_first_chunk()?;
        let (compacted, rest) = rest.split_first_chunk()?;
        let (last, rest) = rest.split_first_chunk()?;
        let (has_hard_state, hard_state) = rest.split_first()?;
        Some(Self {
            serial: u64::from_le_bytes(*serial),
            compacted: u64::from_le_bytes(*compacted),
            last: u64::from_le_bytes(*last),
            hard_state: (*has_hard_state == 1).then(|| Bytes::copy_from_slice(hard_state)),
        })
    }
}
