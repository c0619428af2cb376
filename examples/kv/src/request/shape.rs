use bytes::Bytes;

use crate::command::Output;
use crate::resp::{Reply, error};

/// Conversion of an output to a reply. Some commands of Redis differ only in this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The output as it is.
    Plain,
    /// 1 if the command was applied, 0 if not (`SETNX`).
    Flag,
    /// The type of a key (`TYPE`).
    Type,
    /// No keys: a `SCAN` for a type other than strings.
    Nothing,
    /// These lines, regardless of the output (`HELP`).
    Lines(&'static [&'static str]),
}

impl Shape {
    /// Converts an output to a reply.
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
            // The server itself requests and handles these.
            (_, Output::Versions(_) | Output::Transaction(_) | Output::Keys(_)) => Reply::Null,
        }
    }
}

/// Returns the reply to a command's `HELP`.
pub(crate) fn text_lines(lines: &[&'static str]) -> Reply {
    let line = |line: &&'static str| Reply::SimpleString(Bytes::from_static(line.as_bytes()));
    Reply::Array(lines.iter().map(line).collect())
}

fn scanned(cursor: u64, keys: Vec<Bytes>) -> Reply {
    let keys = keys.into_iter().map(Reply::BulkString).collect();
    Reply::Array(vec![Reply::BulkString(cursor.to_string().into()), Reply::Array(keys)])
}
