use bytes::Bytes;

use super::keyspace;
use super::parse::{self, Parsed};

/// A supported command of the Redis protocol.
#[derive(Debug)]
pub struct Entry {
    /// Name in lower case.
    pub name: &'static str,
    /// Number of arguments including the name; negative if it is a minimum.
    pub arity: i64,
    /// Positions of the keys.
    pub keys: Keys,
    /// True if it may write.
    pub writes: bool,
    /// True if it may make the store larger.
    pub grows: bool,
    /// Execution of the command.
    pub kind: Kind,
}

/// Positions of the keys among the arguments, as `COMMAND` reports them: the first, the last (from
/// the end if negative), and the step between them.
pub type Keys = (i64, i64, i64);

/// Execution of a command.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The store executes it. The function parses the arguments.
    Asked(fn(&'static str, Vec<Bytes>) -> Parsed),
    /// The server answers it without the store, or handles it in a special way.
    Local(Local),
}

/// Commands that the server itself handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Local {
    Auth,
    Client,
    Command,
    Config,
    Discard,
    Echo,
    Exec,
    Hello,
    Info,
    Keys,
    Multi,
    Operate,
    Ping,
    Psubscribe,
    Pubsub,
    Punsubscribe,
    Quit,
    Readonly,
    Readwrite,
    Reset,
    Role,
    Select,
    Subscribe,
    Time,
    Unsubscribe,
    Unwatch,
    Wait,
    Watch,
}

/// Every command, sorted by name.
pub const CATALOG: &[Entry] = &[
    grow("append", 3, ONE, parse::append),
    local("auth", -2, Local::Auth),
    local("client", -2, Local::Client),
    local("command", -1, Local::Command),
    local("config", -2, Local::Config),
    grow("copy", -3, TWO, keyspace::copy),
    read("dbsize", 1, NONE, parse::dbsize),
    grow("decr", 2, ONE, parse::decr),
    grow("decrby", 3, ONE, parse::decrby),
    write("del", -2, ALL, parse::del),
    write("delex", -2, ONE, parse::delex),
    local("discard", 1, Local::Discard),
    local("echo", 2, Local::Echo),
    local("exec", 1, Local::Exec),
    read("exists", -2, ALL, parse::exists),
    write("expire", -3, ONE, parse::expire),
    write("expireat", -3, ONE, parse::expireat),
    read("expiretime", 2, ONE, parse::expiretime),
    write("flushall", -1, NONE, parse::flush),
    write("flushdb", -1, NONE, parse::flush),
    read("get", 2, ONE, parse::get),
    write("getdel", 2, ONE, parse::getdel),
    write("getex", -2, ONE, parse::getex),
    read("getrange", 4, ONE, parse::getrange),
    grow("getset", 3, ONE, parse::getset),
    local("hello", -1, Local::Hello),
    grow("incr", 2, ONE, parse::incr),
    grow("incrby", 3, ONE, parse::incrby),
    grow("incrbyfloat", 3, ONE, keyspace::incrbyfloat),
    local("info", -1, Local::Info),
    local("keys", 2, Local::Keys),
    local("members", -1, Local::Operate),
    read("memory", -2, SECOND, keyspace::memory),
    read("mget", -2, ALL, parse::mget),
    grow("mset", -3, PAIRS, parse::mset),
    grow("msetnx", -3, PAIRS, parse::msetnx),
    local("multi", 1, Local::Multi),
    local("newcluster", -1, Local::Operate),
    read("object", -2, SECOND, keyspace::object),
    write("persist", 2, ONE, parse::persist),
    write("pexpire", -3, ONE, parse::pexpire),
    write("pexpireat", -3, ONE, parse::pexpireat),
    read("pexpiretime", 2, ONE, parse::pexpiretime),
    local("ping", -1, Local::Ping),
    grow("psetex", 4, ONE, parse::psetex),
    local("psubscribe", -2, Local::Psubscribe),
    read("pttl", 2, ONE, parse::pttl),
    write("publish", 3, NONE, keyspace::publish),
    local("pubsub", -2, Local::Pubsub),
    local("punsubscribe", -1, Local::Punsubscribe),
    local("quit", -1, Local::Quit),
    read("randomkey", 1, NONE, keyspace::randomkey),
    local("readonly", 1, Local::Readonly),
    local("readwrite", 1, Local::Readwrite),
    write("rename", 3, TWO, keyspace::rename),
    write("renamenx", 3, TWO, keyspace::renamenx),
    local("reset", 1, Local::Reset),
    local("role", 1, Local::Role),
    read("scan", -2, NONE, parse::scan),
    local("select", 2, Local::Select),
    grow("set", -3, ONE, parse::set),
    grow("setex", 4, ONE, parse::setex),
    grow("setnx", 3, ONE, parse::setnx),
    grow("setrange", 4, ONE, parse::setrange),
    local("status", -1, Local::Operate),
    read("strlen", 2, ONE, parse::strlen),
    local("subscribe", -2, Local::Subscribe),
    read("substr", 4, ONE, parse::getrange),
    local("time", 1, Local::Time),
    read("touch", -2, ALL, parse::exists),
    read("ttl", 2, ONE, parse::ttl),
    read("type", 2, ONE, parse::type_of),
    write("unlink", -2, ALL, parse::del),
    local("unsubscribe", -1, Local::Unsubscribe),
    local("unwatch", 1, Local::Unwatch),
    local("wait", 3, Local::Wait),
    Entry { keys: ALL, ..local("watch", -2, Local::Watch) },
];

const NONE: Keys = (0, 0, 0);
const ONE: Keys = (1, 1, 1);
const SECOND: Keys = (2, 2, 1);
const TWO: Keys = (1, 2, 1);
const ALL: Keys = (1, -1, 1);
const PAIRS: Keys = (1, -1, 2);

type Parse = fn(&'static str, Vec<Bytes>) -> Parsed;

const fn read(name: &'static str, arity: i64, keys: Keys, parse: Parse) -> Entry {
    Entry { name, arity, keys, writes: false, grows: false, kind: Kind::Asked(parse) }
}

const fn write(name: &'static str, arity: i64, keys: Keys, parse: Parse) -> Entry {
    Entry { name, arity, keys, writes: true, grows: false, kind: Kind::Asked(parse) }
}

const fn grow(name: &'static str, arity: i64, keys: Keys, parse: Parse) -> Entry {
    Entry { name, arity, keys, writes: true, grows: true, kind: Kind::Asked(parse) }
}

const fn local(name: &'static str, arity: i64, local: Local) -> Entry {
    let kind = Kind::Local(local);
    Entry { name, arity, keys: NONE, writes: false, grows: false, kind }
}

/// Finds a command by its name, ignoring case.
pub fn find(name: &[u8]) -> Option<&'static Entry> {
    let mut small = [0; 16];
    let small = small.get_mut(..name.len())?;
    small.copy_from_slice(name);
    small.make_ascii_lowercase();
    let at = CATALOG.binary_search_by(|entry| entry.name.as_bytes().cmp(small)).ok()?;
    CATALOG.get(at)
}

impl Entry {
    /// Returns true if a request may have this number of arguments, including the name.
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }

    /// Returns the command if the server itself handles it.
    pub fn local(&self) -> Option<Local> {
        match self.kind {
            Kind::Local(local) => Some(local),
            Kind::Asked(_) => None,
        }
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
        assert!(find(b"lpush").is_none());
        assert!(find(&[b'x'; 100]).is_none());
        assert!(find(b"").is_none());
    }
}
