use bytes::Bytes;

use crate::command::Output;
use crate::resp::{Reply, error};

/// How an output is told to the client, where commands of Redis differ in that only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Plain,
    /// Whether it was done: 1 or 0 (`SETNX`).
    Flag,
    /// The type of a key that is there or not (`TYPE`).
    Type,
    /// No keys, whatever there are: a `SCAN` for another type than strings.
    Nothing,
    /// These lines, whatever the output (`HELP`).
    Lines(&'static [&'static str]),
}

impl Shape {
    /// The reply that tells an output.
    pub fn reply(self, output: Output) -> Reply {
        match (self, output) {
            (Self::Lines(lines), _) => text_lines(lines),
            (Self::Flag, Output::Done) => Reply::Integer(1),
            (Self::Flag, Output::Absent) => Reply::Integer(0),
            (Self::Type, Output::Integer(0)) => Reply::SimpleString("none".into()),
            (Self::Type, Output::Integer(_)) => Reply::SimpleString("string".into()),
            (Self::Nothing, Output::Scanned { cursor, .. }) => scanned(cursor, Vec::new()),
            (_, Output::Scanned { cursor, keys }) => scanned(cursor, keys),
            (_, Output::Done) => Reply::SimpleString("OK".into()),
            (_, Output::Absent) => Reply::Null,
            (_, Output::Integer(number)) => Reply::Integer(number),
            (_, Output::Counted { keys, .. }) => {
                Reply::Integer(i64::try_from(keys).unwrap_or(i64::MAX))
            }
            (_, Output::Value(value)) => Reply::BulkString(value),
            (_, Output::Values(values)) => Reply::Array(
                values.into_iter().map(|v| v.map_or(Reply::Null, Reply::BulkString)).collect(),
            ),
            (_, Output::Refused(refusal)) => error(refusal),
            // For the server itself, which asks for them.
            (_, Output::Versions(_) | Output::Transaction(_) | Output::Keys(_)) => Reply::Null,
        }
    }
}

/// Returns the lines of a command's `HELP`.
pub(crate) fn text_lines(lines: &[&'static str]) -> Reply {
    let line = |line: &&'static str| Reply::SimpleString(Bytes::from_static(line.as_bytes()));
    Reply::Array(lines.iter().map(line).collect())
}

fn scanned(cursor: u64, keys: Vec<Bytes>) -> Reply {
    let keys = keys.into_iter().map(Reply::BulkString).collect();
    Reply::Array(vec![Reply::BulkString(cursor.to_string().into()), Reply::Array(keys)])
}
