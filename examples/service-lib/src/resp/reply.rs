use std::fmt::Display;

use bytes::{BufMut, BytesMut};
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;

/// A reply to a request.
pub type Reply = BytesFrame;

/// Creates an error reply. By convention its first word is an error code in capitals. Line breaks
/// are replaced by spaces, because the protocol allows one line only.
pub fn error(what: impl Display) -> Reply {
    let text = what.to_string().replace(['\r', '\n'], " ");
    Reply::Error(text.into())
}

/// Appends an encoded reply to the output buffer.
pub fn encode(buffer: &mut BytesMut, reply: &Reply) {
    let start = buffer.len();
    if let Err(why) = extend_encode(buffer, reply, false) {
        // The buffer grows as needed, so this is not expected. If it did happen, the client must
        // still get exactly one reply, or it would mistake the next reply for this one.
        tracing::error!(%why, "cannot encode a reply, so the client gets an error instead");
        buffer.truncate(start);
        buffer.put_slice(b"-ERR the reply could not be encoded\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_on_its_line() {
        let mut buffer = BytesMut::new();
        encode(&mut buffer, &error("ERR a\r\nb"));
        encode(&mut buffer, &Reply::Array(vec![Reply::Null, Reply::Integer(-1)]));
        assert_eq!(&buffer[..], b"-ERR a  b\r\n*2\r\n$-1\r\n:-1\r\n");
    }
}
