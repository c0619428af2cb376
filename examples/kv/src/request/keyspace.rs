//! Parses the arguments of commands on keys and channels.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::parse::{Parsed, exactly, integer, plain};
use super::{Fault, Shape};
use crate::command::{Command, Property, Query};
use crate::extended::Extended;
use crate::number;

const OBJECT_HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

const MEMORY_HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
    "HELP",
    "    Prints this help.",
];

pub(super) fn incrbyfloat(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, delta] = exactly(name, arguments)?;
    Extended::read(&delta).ok_or(Fault::NotAFloat)?;
    plain(Command::AddFloat { key, delta })
}

pub(super) fn rename(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, to] = exactly(name, arguments)?;
    plain(Command::Rename { key, to, if_absent: false })
}

pub(super) fn renamenx(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, to] = exactly(name, arguments)?;
    plain(Command::Rename { key, to, if_absent: true })
}

pub(super) fn copy(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let (Some(key), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err(Fault::Arity(name));
    };
    let mut replace = false;
    while let Some(option) = arguments.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"db") {
            let database = arguments.next().ok_or(Fault::Syntax)?;
            if integer(&database)? != 0 {
                return Err(Fault::Database);
            }
        } else {
            return Err(Fault::Syntax);
        }
    }
    if key == to {
        return Err(Fault::SameObject);
    }
    plain(Command::Copy { key, to, replace })
}

pub(super) fn randomkey(_: &'static str, _: Vec<Bytes>) -> Parsed {
    // Each `RandomState` has random keys, so this is a random number.
    plain(Query::Random(RandomState::new().hash_one(0)))
}

pub(super) fn publish(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [channel, message] = exactly(name, arguments)?;
    plain(Command::Publish { channel, message })
}

pub(super) fn object(_: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let Some(part) = arguments.get(1) else { return Err(Fault::Syntax) };
    let (property, name) = match part.to_ascii_lowercase().as_slice() {
        b"encoding" => (Property::Encoding, "object|encoding"),
        b"freq" => (Property::Frequency, "object|freq"),
        b"idletime" => (Property::IdleTime, "object|idletime"),
        b"refcount" => (Property::References, "object|refcount"),
        b"help" => return help(OBJECT_HELP, "object|help", &arguments),
        _ => return Err(Fault::unknown_part("OBJECT", part)),
    };
    match <[Bytes; 3]>::try_from(arguments) {
        Ok([_, _, key]) => plain(Query::Property { key, property }),
        Err(_) => Err(Fault::Arity(name)),
    }
}

pub(super) fn memory(_: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let Some(part) = arguments.get(1) else { return Err(Fault::Syntax) };
    match part.to_ascii_lowercase().as_slice() {
        b"usage" => {}
        b"help" => return help(MEMORY_HELP, "memory|help", &arguments),
        _ => return Err(Fault::unknown_part("MEMORY", part)),
    }
    let mut arguments = arguments.into_iter().skip(2);
    let key = arguments.next().ok_or(Fault::Arity("memory|usage"))?;
    while let Some(option) = arguments.next() {
        // A value is a single string, so there is nothing to sample.
        let count = arguments.next().filter(|_| option.eq_ignore_ascii_case(b"samples"));
        if integer(&count.ok_or(Fault::Syntax)?)? < 0 {
            return Err(Fault::Syntax);
        }
    }
    plain(Query::Property { key, property: Property::Bytes })
}

/// Answers `HELP` with a query that reads nothing, so that the reply keeps its place in the
/// pipeline.
fn help(lines: &'static [&'static str], name: &'static str, arguments: &[Bytes]) -> Parsed {
    match arguments.len() {
        2 => Ok((Query::Versions(Vec::new()).into(), Shape::Lines(lines))),
        _ => Err(Fault::Arity(name)),
    }
}

/// Parses the arguments of `WAIT`: the number of replicas to wait for, and the timeout in
/// milliseconds, where 0 means no timeout.
pub(crate) fn wait(arguments: &[Bytes]) -> Result<(i64, u64), Fault> {
    let [_, replicas, timeout] = arguments else { return Err(Fault::Arity("wait")) };
    let replicas = integer(replicas)?;
    let timeout = number::parse(timeout).ok_or(Fault::Timeout)?;
    Ok((replicas, u64::try_from(timeout).map_err(|_| Fault::NegativeTimeout)?))
}
