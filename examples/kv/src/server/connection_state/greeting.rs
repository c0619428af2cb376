//! Handles `HELLO` and `CLIENT`, with which clients and the server describe themselves.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;

use super::{ConnectionState, Meaning, Replies, ok, text};
use crate::number;
use crate::request::{Fault, text_lines};
use crate::resp::{Protocol, Reply};
use crate::server::client_list::ConnectedClient;
use crate::server::queue::Queue;

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <id> [<id> ...]",
    "      Return clients with these IDs.",
    "NO-EVICT (ON|OFF)",
    "    Accepted; this server evicts no clients.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted; this server does not record accesses.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO <option> <value>",
    "    Set the client's LIB-NAME or LIB-VER.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "HELP",
    "    Print this help.",
];

impl ConnectionState {
    pub(super) fn hello(&mut self, arguments: &[Bytes]) -> Result<Reply, Fault> {
        let (mut name, mut auth, mut protocol) = (None, None, self.protocol);
        if let Some((version, mut options)) = arguments.split_first() {
            protocol = match number::parse(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return Err(Fault::Protocol),
                None => return Err(Fault::ProtocolNumber),
            };
            while let Some((option, rest)) = options.split_first() {
                options = match (option.to_ascii_lowercase().as_slice(), rest) {
                    (b"setname", [wanted, rest @ ..]) => {
                        name = Some(wanted);
                        rest
                    }
                    (b"auth", [_, _, rest @ ..]) => {
                        auth = options.get(1..3);
                        rest
                    }
                    _ => return Err(Fault::HelloOption(shown(option))),
                };
            }
        }
        if let Some(words) = auth {
            self.auth(words)?;
        }
        if !self.is_authenticated {
            return Err(Fault::HelloNotAuthenticated);
        }
        if let Some(name) = name {
            self.client.state().name = valid_name(name)?;
        }
        self.protocol = protocol;
        self.client.state().protocol = protocol;
        Ok(Reply::Map(vec![
            (text("server"), text("plainsong-kv")),
            (text("version"), text(env!("CARGO_PKG_VERSION"))),
            (text("proto"), Reply::Integer(protocol.number())),
            (text("id"), self.number()),
            (text("mode"), text("standalone")),
            (text("role"), text("master")),
            (text("modules"), Reply::Array(Vec::new())),
        ]))
    }

    pub(super) fn client(&mut self, part: &Bytes, arguments: &[Bytes]) -> Result<Meaning, Fault> {
        let reply = match (part.to_ascii_lowercase().as_slice(), arguments) {
            (b"help", []) => text_lines(HELP),
            (b"id", []) => self.number(),
            (b"info", []) => Reply::Verbatim(self.client.line().into()),
            (b"list", options) => self.clients(options)?,
            (b"getname", []) => match self.client.state().name.clone() {
                name if name.is_empty() => Reply::Null,
                name => Reply::BulkString(name),
            },
            (b"setname", [name]) => {
                self.client.state().name = valid_name(name)?;
                ok()
            }
            (b"setinfo", [option, value]) => self.set_info(option, value)?,
            (b"reply", [mode]) => return self.set_replies(mode),
            (b"no-evict" | b"no-touch", [mode]) if is_switch(mode) => ok(),
            (b"no-evict" | b"no-touch", [_]) => return Err(Fault::Syntax),
            (small, _) => {
                return Err(misused(small).unwrap_or_else(|| Fault::unknown_part("CLIENT", part)));
            }
        };
        Ok(Meaning::Reply(reply))
    }

    fn clients(&self, options: &[Bytes]) -> Result<Reply, Fault> {
        let list = |is_asked_for: &dyn Fn(&ConnectedClient) -> bool| {
            Reply::Verbatim(self.everybody.list(is_asked_for).into())
        };
        match options {
            [] => Ok(list(&|_| true)),
            [option, kind] if option.eq_ignore_ascii_case(b"type") => {
                match kind.to_ascii_lowercase().as_slice() {
                    b"normal" => Ok(list(&|client| !client.is_listening())),
                    b"pubsub" => Ok(list(&|client| client.is_listening())),
                    // Replicas do not connect as clients.
                    b"master" | b"replica" | b"slave" => Ok(list(&|_| false)),
                    _ => Err(Fault::ClientType(shown(kind))),
                }
            }
            [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
                let id = |id: &Bytes| number::parse(id).and_then(|id| u64::try_from(id).ok());
                let ids: Option<Vec<u64>> = ids.iter().map(id).collect();
                let mut ids = ids.ok_or(Fault::ClientId)?;
                ids.sort_unstable();
                Ok(list(&|client| ids.binary_search(&client.id).is_ok()))
            }
            _ => Err(Fault::Syntax),
        }
    }

    /// Handles `CLIENT SETINFO`: the name and version of the client library.
    fn set_info(&self, option: &Bytes, value: &Bytes) -> Result<Reply, Fault> {
        let is_name = option.eq_ignore_ascii_case(b"lib-name");
        if !is_name && !option.eq_ignore_ascii_case(b"lib-ver") {
            return Err(Fault::ClientInfo(shown(option)));
        }
        let value = valid_word(value).ok_or_else(|| Fault::ClientInfoValue(shown(option)))?;
        let mut state = self.client.state();
        *if is_name { &mut state.library } else { &mut state.library_version } = value;
        Ok(ok())
    }

    fn set_replies(&mut self, mode: &Bytes) -> Result<Meaning, Fault> {
        match mode.to_ascii_lowercase().as_slice() {
            b"on" => {
                self.replies = Replies::On;
                Ok(Meaning::Reply(ok()))
            }
            b"off" => {
                self.replies = Replies::Off;
                Ok(Meaning::Replies(Vec::new()))
            }
            b"skip" => {
                if self.replies != Replies::Off {
                    self.replies = Replies::SkipNext;
                }
                Ok(Meaning::Replies(Vec::new()))
            }
            _ => Err(Fault::Syntax),
        }
    }

    fn number(&self) -> Reply {
        Reply::Integer(i64::try_from(self.client.id).unwrap_or(i64::MAX))
    }

    /// Records the last command for `CLIENT LIST`.
    pub(super) fn note(&self, command: Cow<'static, str>) {
        let mut state = self.client.state();
        state.command = command;
        state.active = Instant::now();
    }

    /// Records the client's subscriptions and queued requests for `CLIENT LIST`.
    pub(super) fn show(&self) {
        let mut state = self.client.state();
        (state.channels, state.patterns) = self.subscriptions.counts();
        state.queued = self.queue.as_ref().map(Queue::len);
    }
}

fn is_switch(mode: &[u8]) -> bool {
    mode.eq_ignore_ascii_case(b"on") || mode.eq_ignore_ascii_case(b"off")
}

/// Returns the error for a known subcommand with the wrong number of arguments, or `None` if the
/// subcommand is unknown.
fn misused(part: &[u8]) -> Option<Fault> {
    let known = [
        "client|getname",
        "client|help",
        "client|id",
        "client|info",
        "client|no-evict",
        "client|no-touch",
        "client|reply",
        "client|setinfo",
        "client|setname",
    ];
    let is_it = |name: &&str| name.as_bytes().strip_prefix(b"client|") == Some(part);
    known.into_iter().find(is_it).map(Fault::Arity)
}

fn valid_name(name: &Bytes) -> Result<Bytes, Fault> {
    valid_word(name).ok_or(Fault::ClientName)
}

fn valid_word(word: &Bytes) -> Option<Bytes> {
    let is_valid = word.len() <= 128 && word.iter().all(u8::is_ascii_graphic);
    // Copied, because a slice would keep the whole input buffer in memory.
    is_valid.then(|| Bytes::copy_from_slice(word))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}
