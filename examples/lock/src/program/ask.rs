//! `lock ls` and `lock break`.

use std::io::{self, Write};
use std::process::ExitCode;

use service_lib::resp::Reply;
use service_lib::{ask_first, table};

use super::arguments::{Break, Ls};
use super::failure::Failure;

pub(super) async fn ls(arguments: Ls) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut words = vec!["LIST".to_string()];
        words.extend(after.iter().flat_map(|name| ["AFTER".to_string(), name.clone()]));
        let Reply::Array(locks) = ask_first(arguments.at.addresses()?, &words).await? else {
            return Err(Failure::Refused(
                "unexpected reply to LIST; is another program listening there?".into(),
            ));
        };
        for lock in &locks {
            let lock = Lock::of(lock).ok_or_else(|| {
                Failure::Refused(
                    "unexpected reply to LIST; does the server have another version?".into(),
                )
            })?;
            after = Some(lock.name.clone());
            rows.extend(lock.rows());
        }
        if locks.is_empty() {
            break;
        }
    }
    print(rows).map_err(Failure::System)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn break_lock(arguments: Break) -> Result<ExitCode, Failure> {
    let mut words = vec!["BREAK".to_string(), arguments.name.to_string()];
    if arguments.now {
        words.push("NOW".into());
    }
    match ask_first(arguments.at.addresses()?, &words).await? {
        Reply::Integer(1..) => Ok(ExitCode::SUCCESS),
        Reply::Integer(_) => {
            service_lib::print_stderr(format_args!(
                "lock: {} has no holder; see `lock ls`",
                arguments.name
            ));
            Ok(ExitCode::FAILURE)
        }
        _ => Err(Failure::Refused("unexpected reply to BREAK".into())),
    }
}

type Row = [String; 7];

/// A lock in a server's reply to `LIST`.
struct Lock {
    name: String,
    holders: i64,
    waiters: i64,
    first: Vec<Row>,
}

impl Lock {
    fn of(reply: &Reply) -> Option<Self> {
        let Reply::Array(fields) = reply else { return None };
        let [name, holders, waiters, Reply::Array(first), ..] = &fields[..] else { return None };
        let (name, holders, waiters) = (text(name)?, number(holders)?, number(waiters)?);
        let rows = first.iter().map(|holder| {
            let Reply::Array(fields) = holder else { return None };
            let [token, mode, owner, replica, held, left, state, ..] = &fields[..] else {
                return None;
            };
            let left = number(left).map(seconds).unwrap_or_default();
            let state = match text(state)?.as_str() {
                "lost" => format!("lost, free in {left}"),
                _ if left.is_empty() => format!("held for {}", seconds(number(held)?)),
                _ => format!("held for {}, leased for {left}", seconds(number(held)?)),
            };
            Some([
                name.clone(),
                text(mode)?,
                number(token)?.to_string(),
                text(replica)?,
                waiters.to_string(),
                state,
                text(owner)?,
            ])
        });
        let first = rows.collect::<Option<_>>()?;
        Some(Self { name, holders, waiters, first })
    }

    fn rows(self) -> Vec<Row> {
        let mut rows = self.first;
        let more = self.holders - rows.len() as i64;
        if more > 0 {
            let empty = String::new;
            let state = format!("and {more} more");
            let waiters = self.waiters.to_string();
            rows.push([self.name, empty(), empty(), empty(), waiters, state, empty()]);
        }
        rows
    }
}

fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::BulkString(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

fn number(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Integer(number) => Some(*number),
        _ => None,
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// Prints a table with aligned columns, or nothing if there are no rows.
fn print(rows: Vec<Row>) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let head = ["NAME", "MODE", "TOKEN", "REPLICA", "WAITING", "STATE", "OWNER"].map(String::from);
    let rows: Vec<Row> = std::iter::once(head).chain(rows).collect();
    let mut out = io::stdout().lock();
    out.write_all(table(&rows).as_bytes())?;
    out.flush()
}
