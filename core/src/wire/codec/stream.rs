//! Encodes and decodes values of any size to and from streams.

use std::io::{self, Read};

use bincode::Options;
use serde::Serialize;
use serde::de::{DeserializeOwned, Visitor};

/// Maximum number of bytes read at once for a string or byte array, whatever length the stream
/// claims.
const PIECE_BYTES: u64 = 64 << 10;

/// Writes a value of any size.
pub(crate) fn write(to: &mut dyn io::Write, value: &impl Serialize) -> io::Result<()> {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .serialize_into(to, value)
        .map_err(|error| io_error(*error))
}

/// Reads a value written by [`write`]. Fails if more bytes follow.
pub(crate) fn read<V: DeserializeOwned>(from: &mut dyn io::Read) -> io::Result<V> {
    let value = read_first(from)?;
    match from.read(&mut [0])? {
        0 => Ok(value),
        _ => Err(io::Error::other("more bytes follow after the value")),
    }
}

/// Reads a value written by [`write`]. Leaves the bytes after it in the stream.
pub(crate) fn read_first<V: DeserializeOwned>(from: &mut dyn io::Read) -> io::Result<V> {
    let options = bincode::DefaultOptions::new().with_fixint_encoding().allow_trailing_bytes();
    let reader = Pieces { from, buffer: Vec::new() };
    options.deserialize_from_custom(reader).map_err(|error| io_error(*error))
}

fn io_error(error: bincode::ErrorKind) -> io::Error {
    match error {
        bincode::ErrorKind::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// A reader for bincode that allocates memory for strings and byte arrays as their bytes arrive.
/// bincode's own reader allocates the claimed length first, which may be terabytes if the stream is
/// damaged or holds the state of another application.
struct Pieces<'a> {
    from: &'a mut dyn io::Read,
    /// The string or byte array read last.
    buffer: Vec<u8>,
}

impl Pieces<'_> {
    fn fill(&mut self, length: usize) -> bincode::Result<()> {
        self.buffer.clear();
        let mut missing = length as u64;
        while missing > 0 {
            // The Vec doubles as it grows, so its capacity stays proportional to the bytes read.
            let piece = missing.min(PIECE_BYTES);
            let came = (&mut *self.from).take(piece).read_to_end(&mut self.buffer)? as u64;
            if came < piece {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            missing -= came;
        }
        Ok(())
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.from.read(into)
    }
}

impl<'storage> bincode::BincodeRead<'storage> for Pieces<'_> {
    fn forward_read_str<V>(&mut self, length: usize, visitor: V) -> bincode::Result<V::Value>
    where
        V: Visitor<'storage>,
    {
        self.fill(length)?;
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => visitor.visit_str(text),
            Err(error) => Err(bincode::ErrorKind::InvalidUtf8Encoding(error).into()),
        }
    }

    fn get_byte_buffer(&mut self, length: usize) -> bincode::Result<Vec<u8>> {
        self.fill(length)?;
        Ok(std::mem::take(&mut self.buffer))
    }

    fn forward_read_bytes<V>(&mut self, length: usize, visitor: V) -> bincode::Result<V::Value>
    where
        V: Visitor<'storage>,
    {
        self.fill(length)?;
        visitor.visit_bytes(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

    use bytes::Bytes;

    use super::*;

    /// Returns an encoded value that claims to have `length` elements.
    fn claims(length: u64) -> Vec<u8> {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"and a few bytes");
        bytes
    }

    fn fails<V: DeserializeOwned>(bytes: &[u8]) {
        assert!(read::<V>(&mut &bytes[..]).is_err(), "{}", std::any::type_name::<V>());
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        for length in [1 << 20, 1_796_053_947_465, u64::MAX >> 1, u64::MAX] {
            let bytes = claims(length);
            fails::<String>(&bytes);
            fails::<Bytes>(&bytes);
            fails::<Box<[u8]>>(&bytes);
            fails::<Vec<u64>>(&bytes);
            fails::<Vec<String>>(&bytes);
            fails::<VecDeque<[u64; 32]>>(&bytes);
            fails::<BTreeMap<u64, Bytes>>(&bytes);
            fails::<BTreeSet<String>>(&bytes);
            fails::<HashMap<u64, u64>>(&bytes);
        }
    }

    #[test]
    fn long_values_round_trip() {
        let text = "long".repeat(100_000);
        let value = (text.clone(), Bytes::from(text), vec![String::new(), "short".into()]);
        let mut bytes = Vec::new();
        write(&mut bytes, &value).unwrap();
        assert_eq!(read::<(String, Bytes, Vec<String>)>(&mut &bytes[..]).unwrap(), value);
        bytes.push(0);
        fails::<(String, Bytes, Vec<String>)>(&bytes);
    }
}
