//! Handles `COMMAND`, which `redis-cli` uses for completion.

use bytes::Bytes;

use super::connection_state::text;
use crate::request::{CATALOG, Entry, Fault, Kind, find};
use crate::resp::Reply;

pub(super) fn command(arguments: &[Bytes]) -> Result<Reply, Fault> {
    let Some((part, names)) = arguments.split_first() else {
        return Ok(Reply::Array(CATALOG.iter().map(described).collect()));
    };
    match (part.to_ascii_lowercase().as_slice(), names) {
        (b"count", []) => Ok(Reply::Integer(CATALOG.len() as i64)),
        (b"count", _) => Err(Fault::Arity("command|count")),
        (b"info", []) => command(&[]),
        (b"info", names) => {
            let described = |name: &Bytes| find(name).map_or(Reply::NullArray, described);
            Ok(Reply::Array(names.iter().map(described).collect()))
        }
        _ => Err(Fault::unknown_part("COMMAND", part)),
    }
}

fn described(entry: &Entry) -> Reply {
    let (first, last, step) = entry.keys;
    let flag = match (entry.kind, entry.writes) {
        (Kind::Local(_), _) => "fast",
        (Kind::Asked(_), true) => "write",
        (Kind::Asked(_), false) => "readonly",
    };
    let grows = entry.grows.then_some("denyoom");
    let flags = std::iter::once(flag).chain(grows).map(|flag| Reply::SimpleString(flag.into()));
    Reply::Array(vec![
        text(entry.name),
        Reply::Integer(entry.arity),
        Reply::Set(flags.collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
    ])
}
