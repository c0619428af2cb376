use bytes::Bytes;
use kv::KvStore;
use kv::command::Ask;
use kv::request::{Fault, Kind, find};
use kv::resp::{Reply, error};
use plainsong::{Context, Index, StateMachine, Timestamp};

/// Executes a request on a store at this log time, as a server and a group would.
pub fn run(store: &mut KvStore, time: u64, arguments: &[&str]) -> Reply {
    let arguments: Vec<Bytes> =
        arguments.iter().map(|a| Bytes::copy_from_slice(a.as_bytes())).collect();
    let entry = find(&arguments[0]).expect("a known command");
    if !entry.takes(arguments.len()) {
        return error(Fault::Arity(entry.name));
    }
    let Kind::Asked(parse) = entry.kind else { panic!("not a command of the store") };
    let context = Context::new(Index(1), Timestamp(time));
    store.wake(&context);
    match parse(entry.name, arguments) {
        Ok((Ask::Propose(command), shape)) => shape.reply(store.apply(&context, command)),
        Ok((Ask::Read(query), shape)) => shape.reply(store.answer(query, Timestamp(time))),
        Err(fault) => error(fault),
    }
}
