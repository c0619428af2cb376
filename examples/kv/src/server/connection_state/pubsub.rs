//! Handles `PUBSUB`: reports the subscriptions at this server.

use bytes::Bytes;

use super::ConnectionState;
use crate::limits::PATTERN_BYTES_MAX;
use crate::request::{Fault, text_lines};
use crate::resp::Reply;

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "HELP",
    "    Prints this help.",
];

impl ConnectionState {
    pub(super) fn pubsub(&self, part: &Bytes, arguments: &[Bytes]) -> Result<Reply, Fault> {
        let listening = self.view.listening();
        Ok(match (part.to_ascii_lowercase().as_slice(), arguments) {
            (b"help", []) => text_lines(HELP),
            (b"help", _) => return Err(Fault::Arity("pubsub|help")),
            (b"channels", []) => channels(listening.channels(None)),
            (b"channels", [pattern]) if pattern.len() > PATTERN_BYTES_MAX => {
                return Err(Fault::Pattern);
            }
            (b"channels", [pattern]) => channels(listening.channels(Some(pattern))),
            (b"channels", _) => return Err(Fault::Arity("pubsub|channels")),
            (b"numpat", []) => Reply::Integer(listening.counts().1 as i64),
            (b"numpat", _) => return Err(Fault::Arity("pubsub|numpat")),
            (b"numsub", names) => {
                let count = |name: &Bytes| Reply::Integer(listening.on_channel(name) as i64);
                let counts = |name: &Bytes| [Reply::BulkString(name.clone()), count(name)];
                Reply::Array(names.iter().flat_map(counts).collect())
            }
            _ => return Err(Fault::unknown_part("PUBSUB", part)),
        })
    }
}

fn channels(names: Vec<Bytes>) -> Reply {
    Reply::Array(names.into_iter().map(Reply::BulkString).collect())
}
