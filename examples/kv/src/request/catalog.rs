use bytes::Bytes;

use super::parse::{self, Parsed};

/// A command of the Redis protocol that this server knows.
#[derive(Debug)]
pub struct Entry {
    /// Its name in small letters.
    pub name: &'static str,
    /// How many arguments it has, its name counted; negative for so many or more.
    pub arity: i64,
    /// Where its keys are.
    pub keys: Keys,
    /// Whether it may write.
    pub writes: bool,
    /// What is done with it.
    pub kind: Kind,
}

/// Where the keys are among the arguments: the first, the last (from the end if negative)
/// and the step between them, as `COMMAND` tells it.
pub type Keys = (i64, i64, i64);

/// What is done with a command.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The store is asked what this function makes of its arguments.
    Asked(fn(&'static str, Vec<Bytes>) -> Parsed),
    /// This server answers it alone.
    Local(Local),
}

/// What a server answers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Local {
    Auth,
    Client,
    Command,
    Config,
    Echo,
    Hello,
    Info,
    Operate,
    Ping,
    Quit,
    Select,
}

/// Every command, sorted by name.
pub const CATALOG: &[Entry] = &[
    write("append", 3, ONE, parse::append),
    local("auth", -2, Local::Auth),
    local("client", -2, Local::Client),
    local("command", -1, Local::Command),
    local("config", -2, Local::Config),
    read("dbsize", 1, NONE, parse::dbsize),
    write("decr", 2, ONE, parse::decr),
    write("decrby", 3, ONE, parse::decrby),
    write("del", -2, ALL, parse::del),
    local("echo", 2, Local::Echo),
    read("exists", -2, ALL, parse::exists),
    write("expire", -3, ONE, parse::expire),
    write("expireat", -3, ONE, parse::expireat),
    read("expiretime", 2, ONE, parse::expiretime),
    read("get", 2, ONE, parse::get),
    write("getdel", 2, ONE, parse::getdel),
    write("getex", -2, ONE, parse::getex),
    write("getset", 3, ONE, parse::getset),
    local("hello", -1, Local::Hello),
    write("incr", 2, ONE, parse::incr),
    write("incrby", 3, ONE, parse::incrby),
    local("info", -1, Local::Info),
    local("members", -1, Local::Operate),
    read("mget", -2, ALL, parse::mget),
    write("mset", -3, PAIRS, parse::mset),
    local("newcluster", -1, Local::Operate),
    write("persist", 2, ONE, parse::persist),
    write("pexpire", -3, ONE, parse::pexpire),
    write("pexpireat", -3, ONE, parse::pexpireat),
    read("pexpiretime", 2, ONE, parse::pexpiretime),
    local("ping", -1, Local::Ping),
    write("psetex", 4, ONE, parse::psetex),
    read("pttl", 2, ONE, parse::pttl),
    local("quit", -1, Local::Quit),
    read("scan", -2, NONE, parse::scan),
    local("select", 2, Local::Select),
    write("set", -3, ONE, parse::set),
    write("setex", 4, ONE, parse::setex),
    write("setnx", 3, ONE, parse::setnx),
    local("status", -1, Local::Operate),
    read("strlen", 2, ONE, parse::strlen),
    read("ttl", 2, ONE, parse::ttl),
    read("type", 2, ONE, parse::type_of),
    write("unlink", -2, ALL, parse::del),
];

const NONE: Keys = (0, 0, 0);
const ONE: Keys = (1, 1, 1);
const ALL: Keys = (1, -1, 1);
const PAIRS: Keys = (1, -1, 2);

type Parse = fn(&'static str, Vec<Bytes>) -> Parsed;

const fn read(name: &'static str, arity: i64, keys: Keys, parse: Parse) -> Entry {
    Entry { name, arity, keys, writes: false, kind: Kind::Asked(parse) }
}

const fn write(name: &'static str, arity: i64, keys: Keys, parse: Parse) -> Entry {
    Entry { name, arity, keys, writes: true, kind: Kind::Asked(parse) }
}

const fn local(name: &'static str, arity: i64, local: Local) -> Entry {
    Entry { name, arity, keys: NONE, writes: false, kind: Kind::Local(local) }
}

/// Finds a command by its name in any case.
pub fn find(name: &[u8]) -> Option<&'static Entry> {
    let mut small = [0; 16];
    let small = small.get_mut(..name.len())?;
    small.copy_from_slice(name);
    small.make_ascii_lowercase();
    let at = CATALOG.binary_search_by(|entry| entry.name.as_bytes().cmp(small)).ok()?;
    CATALOG.get(at)
}

impl Entry {
    /// Whether a request may have so many arguments, its name counted.
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        assert!(CATALOG.is_sorted_by_key(|entry| entry.name));
        for entry in CATALOG {
            assert_eq!(
                find(entry.name.to_uppercase().as_bytes()).map(|e| e.name),
                Some(entry.name)
            );
        }
        assert!(find(b"flushall").is_none());
        assert!(find(&[b'x'; 100]).is_none());
        assert!(find(b"").is_none());
    }
}
