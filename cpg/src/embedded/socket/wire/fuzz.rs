use bytes::Bytes;

use super::{ToClient, ToHub};

/// What a fuzzer feeds: a frame behind its length, from a client and from a hub. What is
/// understood is written again, which must give the same bytes.
pub fn fuzz(data: &[u8]) {
    let length = (data.len() as u32).to_le_bytes();
    let frame: Bytes = [&length, data].concat().into();
    if let Ok(said) = ToHub::decode(&frame)
        && !matches!(said, ToHub::Hello { .. })
    {
        assert_eq!(said.encode(), frame, "there is one way to write {said:?}");
    }
    if let Ok(said) = ToClient::decode(&frame) {
        assert_eq!(said.encode(), frame, "there is one way to write {said:?}");
    }
}
