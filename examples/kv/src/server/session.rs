use bytes::Bytes;

use super::answer::Tell;
use super::info::Sections;
use crate::command::Ask;
use crate::limits::COMMAND_BYTES_MAX;
use crate::request::{CATALOG, Entry, Fault, Kind, Local, Shape, find};
use crate::resp::{Reply, error};

/// What is known of a client, and what its requests mean.
pub(super) struct Session {
    id: u64,
    name: Bytes,
}

/// What a request means.
pub(super) enum Meaning {
    Reply(Reply),
    Close(Reply),
    Ask(Ask, Tell),
    Info(Sections),
    Operate(Vec<Bytes>),
}

impl Session {
    pub(super) fn new(id: u64) -> Self {
        Self { id, name: Bytes::new() }
    }

    /// Finds out what a request means. It is not empty.
    pub(super) fn meaning(&mut self, arguments: Vec<Bytes>) -> Meaning {
        self.try_meaning(arguments).unwrap_or_else(|fault| Meaning::Reply(error(fault)))
    }

    fn try_meaning(&mut self, arguments: Vec<Bytes>) -> Result<Meaning, Fault> {
        let entry = arguments.first().and_then(|name| find(name));
        let entry = entry.ok_or_else(|| Fault::unknown(&arguments))?;
        if !entry.takes(arguments.len()) {
            return Err(Fault::Arity(entry.name));
        }
        match entry.kind {
            Kind::Asked(parse) => {
                // Each argument is carried with its length, and the command has options.
                let bytes: usize = arguments.iter().map(|argument| argument.len() + 16).sum();
                if bytes > COMMAND_BYTES_MAX {
                    return Err(Fault::TooLong);
                }
                let (ask, shape) = parse(entry.name, arguments)?;
                Ok(Meaning::Ask(ask, Tell::Output(shape)))
            }
            Kind::Local(local) => self.local(local, arguments),
        }
    }

    fn local(&mut self, local: Local, arguments: Vec<Bytes>) -> Result<Meaning, Fault> {
        let reply = match (local, arguments.as_slice()) {
            (Local::Ping, [_]) => Reply::SimpleString("PONG".into()),
            (Local::Ping | Local::Echo, [_, text]) => Reply::BulkString(text.clone()),
            (Local::Ping, _) => return Err(Fault::Arity("ping")),
            (Local::Quit, _) => return Ok(Meaning::Close(ok())),
            (Local::Info, [_, sections @ ..]) => {
                return Ok(Meaning::Info(Sections::named(sections)));
            }
            (Local::Operate, _) => return Ok(Meaning::Operate(arguments)),
            (Local::Auth, _) => return Err(Fault::Auth),
            (Local::Select, [_, database]) => match crate::number::parse(database) {
                Some(0) => ok(),
                Some(_) => return Err(Fault::Database),
                None => return Err(Fault::NotAnInteger),
            },
            (Local::Hello, [_, rest @ ..]) => self.hello(rest)?,
            (Local::Client, [_, part, rest @ ..]) => self.client(part, rest)?,
            (Local::Config, [_, part, rest @ ..]) => config(part, rest)?,
            (Local::Command, [_, rest @ ..]) => command(rest)?,
            _ => return Err(Fault::Syntax),
        };
        Ok(Meaning::Reply(reply))
    }

    fn hello(&mut self, arguments: &[Bytes]) -> Result<Reply, Fault> {
        let mut name = None;
        if let Some((version, mut options)) = arguments.split_first() {
            if crate::number::parse(version) != Some(2) {
                return Err(Fault::Protocol);
            }
            while let Some((option, rest)) = options.split_first() {
                options = match (option.to_ascii_lowercase().as_slice(), rest) {
                    (b"setname", [wanted, rest @ ..]) => {
                        name = Some(valid_name(wanted)?);
                        rest
                    }
                    (b"auth", [_, _, ..]) => return Err(Fault::Auth),
                    _ => return Err(Fault::Syntax),
                };
            }
        }
        if let Some(name) = name {
            self.name = name;
        }
        Ok(Reply::Array(vec![
            text("server"),
            text("plainsong-kv"),
            text("version"),
            text(env!("CARGO_PKG_VERSION")),
            text("proto"),
            Reply::Integer(2),
            text("id"),
            self.number(),
            text("mode"),
            text("standalone"),
            text("role"),
            text("master"),
            text("modules"),
            Reply::Array(Vec::new()),
        ]))
    }

    fn client(&mut self, part: &Bytes, arguments: &[Bytes]) -> Result<Reply, Fault> {
        match (part.to_ascii_lowercase().as_slice(), arguments) {
            (b"id", []) => Ok(self.number()),
            (b"id", _) => Err(Fault::Arity("client|id")),
            (b"getname", []) if self.name.is_empty() => Ok(Reply::Null),
            (b"getname", []) => Ok(Reply::BulkString(self.name.clone())),
            (b"getname", _) => Err(Fault::Arity("client|getname")),
            (b"setname", [name]) => {
                self.name = valid_name(name)?;
                Ok(ok())
            }
            (b"setname", _) => Err(Fault::Arity("client|setname")),
            // What clients say of themselves when they connect.
            (b"setinfo", [_, _]) => Ok(ok()),
            (b"setinfo", _) => Err(Fault::Arity("client|setinfo")),
            _ => Err(unknown_part("CLIENT", part)),
        }
    }

    fn number(&self) -> Reply {
        Reply::Integer(i64::try_from(self.id).unwrap_or(i64::MAX))
    }
}

/// `CONFIG GET`: the two settings that `redis-benchmark` asks for. Nothing is saved to
/// files of Redis's kind.
fn config(part: &Bytes, patterns: &[Bytes]) -> Result<Reply, Fault> {
    match (part.to_ascii_lowercase().as_slice(), patterns) {
        (b"get", []) => Err(Fault::Arity("config|get")),
        (b"get", patterns) => {
            let settings = [("save", ""), ("appendonly", "no")];
            let asked = settings.into_iter().filter(|(name, _)| {
                let name = name.as_bytes();
                patterns.iter().any(|p| {
                    p.len() <= crate::limits::PATTERN_BYTES_MAX
                        && crate::glob::matches(&p.to_ascii_lowercase(), name)
                })
            });
            Ok(Reply::Array(asked.flat_map(|(name, value)| [text(name), text(value)]).collect()))
        }
        _ => Err(unknown_part("CONFIG", part)),
    }
}

/// `COMMAND`: what `redis-cli` reads to complete names.
fn command(arguments: &[Bytes]) -> Result<Reply, Fault> {
    let Some((part, names)) = arguments.split_first() else {
        return Ok(Reply::Array(CATALOG.iter().map(described).collect()));
    };
    match (part.to_ascii_lowercase().as_slice(), names) {
        (b"count", []) => Ok(Reply::Integer(CATALOG.len() as i64)),
        (b"count", _) => Err(Fault::Arity("command|count")),
        (b"info", []) => command(&[]),
        (b"info", names) => {
            let described = |name: &Bytes| find(name).map_or(Reply::Null, described);
            Ok(Reply::Array(names.iter().map(described).collect()))
        }
        _ => Err(unknown_part("COMMAND", part)),
    }
}

fn described(entry: &Entry) -> Reply {
    let (first, last, step) = entry.keys;
    let flag = match (entry.kind, entry.writes) {
        (Kind::Local(_), _) => "fast",
        (Kind::Asked(_), true) => "write",
        (Kind::Asked(_), false) => "readonly",
    };
    Reply::Array(vec![
        text(entry.name),
        Reply::Integer(entry.arity),
        Reply::Array(vec![Reply::SimpleString(flag.into())]),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
    ])
}

fn valid_name(name: &Bytes) -> Result<Bytes, Fault> {
    if name.len() <= 128 && name.iter().all(u8::is_ascii_graphic) {
        // A copy: the name is kept, and with it a view would keep all that was read.
        Ok(Bytes::copy_from_slice(name))
    } else {
        Err(Fault::ClientName)
    }
}

fn unknown_part(command: &'static str, part: &[u8]) -> Fault {
    let name = String::from_utf8_lossy(&part[..part.len().min(128)]).into_owned();
    Fault::UnknownSubcommand { command, name }
}

fn ok() -> Reply {
    Shape::Plain.reply(crate::command::Output::Done)
}

fn text(text: &'static str) -> Reply {
    Reply::BulkString(Bytes::from_static(text.as_bytes()))
}
