use std::fmt::Display;

use bytes::{BufMut, BytesMut};
use redis_protocol::resp2::encode::extend_encode;
use redis_protocol::resp2::types::BytesFrame;

/// An answer to a request.
pub type Reply = BytesFrame;

/// An error reply. By custom the first word is a code, in capitals. What it says goes on
/// one line.
pub fn error(what: impl Display) -> Reply {
    let text = what.to_string().replace(['\r', '\n'], " ");
    Reply::Error(text.into())
}

/// Appends a reply to what is to be written.
pub fn encode(buffer: &mut BytesMut, reply: &Reply) {
    let start = buffer.len();
    if let Err(why) = extend_encode(buffer, reply, false) {
        // The buffer grows as needed, so this cannot happen; and if it did, the client
        // must get one reply all the same, or it takes the next one for this.
        tracing::error!(%why, "a reply could not be encoded");
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
