use bytes::Bytes;

use super::{ToClient, ToHub};

/// Entry point of a fuzzer. Decodes `data` as the content of a frame from a client and from a hub.
/// Encoding the result again must give the same bytes.
pub fn fuzz(data: &[u8]) {
    let length = (data.len() as u32).to_le_bytes();
    let frame: Bytes = [&length, data].concat().into();
    if let Ok(said) = ToHub::decode(&frame)
        && !matches!(said, ToHub::Hello { .. })
    {
        assert_eq!(said.encode(), frame, "the encoding of {said:?} is not unique");
    }
    if let Ok(said) = ToClient::decode(&frame) {
        assert_eq!(said.encode(), frame, "the encoding of {said:?} is not unique");
    }
}
