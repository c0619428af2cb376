//! Parses the arguments of commands that the store executes. The caller has checked their number
//! against the catalog.

use bytes::Bytes;

use super::{Fault, Shape};
use crate::command::{
    Ask, Command, Condition, Deadline, ExpireCondition, Expiry, LifetimeForm, Proposal, Query,
};
use crate::limits::PATTERN_BYTES_MAX;
use crate::number;

/// The request to the store and the shape of its reply, or the error.
pub type Parsed = Result<(Ask, Shape), Fault>;

/// Maximum relative expiry in milliseconds. A longer one could overflow Redis's own signed 64-bit
/// number when added to the current time.
const LIFETIME_MS_MAX: i64 = i64::MAX - (1 << 53);

#[derive(Clone, Copy)]
enum Unit {
    S,
    Ms,
}

pub(super) fn plain(ask: impl Into<Ask>) -> Parsed {
    Ok((ask.into(), Shape::Plain))
}

/// Returns the arguments after the name of the command. Fails unless there are exactly `N`.
pub(super) fn exactly<const N: usize>(
    name: &'static str,
    mut arguments: Vec<Bytes>,
) -> Result<[Bytes; N], Fault> {
    arguments.drain(..1);
    arguments.try_into().map_err(|_| Fault::Arity(name))
}

pub(super) fn integer(text: &[u8]) -> Result<i64, Fault> {
    number::parse(text).ok_or(Fault::NotAnInteger)
}

fn rest(arguments: Vec<Bytes>) -> Vec<Bytes> {
    arguments.into_iter().skip(1).collect()
}

pub(super) fn get(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Query::Get { key })
}

pub(super) fn getdel(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Command::GetAndDelete { key })
}

pub(super) fn getset(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, value] = exactly(name, arguments)?;
    let (condition, expiry) = Default::default();
    plain(Command::Set { key, value, condition, expiry, get: true })
}

pub(super) fn setnx(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, value] = exactly(name, arguments)?;
    let (condition, expiry) = (Condition::Absent, Expiry::Never);
    Ok((Command::Set { key, value, condition, expiry, get: false }.into(), Shape::Flag))
}

pub(super) fn setex(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    set_for(name, arguments, Unit::S)
}

pub(super) fn psetex(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    set_for(name, arguments, Unit::Ms)
}

fn set_for(name: &'static str, arguments: Vec<Bytes>, unit: Unit) -> Parsed {
    let [key, time, value] = exactly(name, arguments)?;
    let expiry = Expiry::At(Deadline::In(lifetime_ms(name, &time, unit)?));
    plain(Command::Set { key, value, condition: Condition::Always, expiry, get: false })
}

pub(super) fn set(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let (Some(key), Some(value)) = (arguments.next(), arguments.next()) else {
        return Err(Fault::Arity(name));
    };
    let mut options = Options::default();
    while let Some(option) = arguments.next() {
        if option.eq_ignore_ascii_case(b"nx") {
            options.only(Condition::Absent)?;
        } else if option.eq_ignore_ascii_case(b"xx") {
            options.only(Condition::Present)?;
        } else if let Some(compare) = comparison(&option) {
            options.only(compare(arguments.next().ok_or(Fault::Syntax)?))?;
        } else if option.eq_ignore_ascii_case(b"get") {
            options.get = true;
        } else if option.eq_ignore_ascii_case(b"keepttl") {
            options.choose(Choice::Keep)?;
        } else {
            options.expiry(&option, arguments.next())?;
        }
    }
    let expiry = options.resolve(name)?.unwrap_or_default();
    let Options { condition, get, .. } = options;
    plain(Command::Set { key, value, condition, expiry, get })
}

pub(super) fn getex(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let Some(key) = arguments.next() else { return Err(Fault::Arity(name)) };
    let mut options = Options::default();
    while let Some(option) = arguments.next() {
        if option.eq_ignore_ascii_case(b"persist") {
            options.choose(Choice::Persist)?;
        } else {
            options.expiry(&option, arguments.next())?;
        }
    }
    match options.resolve(name)? {
        Some(expiry) => plain(Command::GetAndExpire { key, expiry }),
        None => plain(Query::Get { key }),
    }
}

/// The options of `SET` and `GETEX`.
#[derive(Default)]
struct Options {
    condition: Condition,
    get: bool,
    choice: Option<Choice>,
    time: Bytes,
}

/// Requested change of the expiry. The options exclude each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Keep,
    Persist,
    Ex,
    Px,
    ExAt,
    PxAt,
}

/// Recognizes `IFEQ` and `IFNE`. Returns a function that creates the condition from the value that
/// follows.
fn comparison(option: &[u8]) -> Option<fn(Bytes) -> Condition> {
    if option.eq_ignore_ascii_case(b"ifeq") {
        Some(|value| Condition::Equal(Box::new(value)))
    } else if option.eq_ignore_ascii_case(b"ifne") {
        Some(|value| Condition::NotEqual(Box::new(value)))
    } else {
        None
    }
}

impl Options {
    fn only(&mut self, condition: Condition) -> Result<(), Fault> {
        if self.condition != Condition::Always && self.condition != condition {
            return Err(Fault::Syntax);
        }
        self.condition = condition;
        Ok(())
    }

    fn choose(&mut self, choice: Choice) -> Result<(), Fault> {
        if self.choice.is_some_and(|other| other != choice) {
            return Err(Fault::Syntax);
        }
        self.choice = Some(choice);
        Ok(())
    }

    fn expiry(&mut self, option: &[u8], time: Option<Bytes>) -> Result<(), Fault> {
        let choice = match option.to_ascii_lowercase().as_slice() {
            b"ex" => Choice::Ex,
            b"px" => Choice::Px,
            b"exat" => Choice::ExAt,
            b"pxat" => Choice::PxAt,
            _ => return Err(Fault::Syntax),
        };
        self.choose(choice)?;
        self.time = time.ok_or(Fault::Syntax)?;
        Ok(())
    }

    fn resolve(&self, name: &'static str) -> Result<Option<Expiry>, Fault> {
        let deadline = match self.choice {
            None => return Ok(None),
            Some(Choice::Keep) => return Ok(Some(Expiry::Keep)),
            Some(Choice::Persist) => return Ok(Some(Expiry::Never)),
            Some(Choice::Ex) => Deadline::In(lifetime_ms(name, &self.time, Unit::S)?),
            Some(Choice::Px) => Deadline::In(lifetime_ms(name, &self.time, Unit::Ms)?),
            Some(Choice::ExAt) => Deadline::At(positive_ms(name, &self.time, Unit::S)?),
            Some(Choice::PxAt) => Deadline::At(positive_ms(name, &self.time, Unit::Ms)?),
        };
        Ok(Some(Expiry::At(deadline)))
    }
}

fn milliseconds(name: &'static str, time: i64, unit: Unit) -> Result<i64, Fault> {
    match unit {
        Unit::S => time.checked_mul(1000).ok_or(Fault::ExpireTime(name)),
        Unit::Ms => Ok(time),
    }
}

fn positive_ms(name: &'static str, time: &[u8], unit: Unit) -> Result<i64, Fault> {
    let ms = milliseconds(name, integer(time)?, unit)?;
    if ms > 0 { Ok(ms) } else { Err(Fault::ExpireTime(name)) }
}

fn lifetime_ms(name: &'static str, time: &[u8], unit: Unit) -> Result<i64, Fault> {
    let ms = positive_ms(name, time, unit)?;
    if ms <= LIFETIME_MS_MAX { Ok(ms) } else { Err(Fault::ExpireTime(name)) }
}

pub(super) fn mget(_: &'static str, arguments: Vec<Bytes>) -> Parsed {
    plain(Query::GetMany(rest(arguments)))
}

pub(super) fn mset(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let mut pairs = Vec::with_capacity(arguments.len() / 2);
    while let Some(key) = arguments.next() {
        pairs.push((key, arguments.next().ok_or(Fault::Arity(name))?));
    }
    plain(Command::SetMany(pairs))
}

pub(super) fn msetnx(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    match mset(name, arguments)? {
        (Ask::Propose(Proposal::Command(Command::SetMany(pairs))), _) => {
            Ok((Command::SetManyIfAbsent(pairs).into(), Shape::Flag))
        }
        _ => Err(Fault::Syntax),
    }
}

pub(super) fn delex(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let Some(key) = arguments.next() else { return Err(Fault::Arity(name)) };
    let condition = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, ..) => Condition::Always,
        (Some(option), Some(value), None) => comparison(&option).ok_or(Fault::Syntax)?(value),
        (Some(_), None, _) => return Err(Fault::Syntax),
        (Some(_), Some(_), Some(_)) => return Err(Fault::Arity(name)),
    };
    plain(Command::DeleteIf { key, condition })
}

/// Parses `FLUSHALL` and `FLUSHDB`, which are the same here: there is only one database. `SYNC` and
/// `ASYNC` make no difference.
pub(super) fn flush(_: &'static str, arguments: Vec<Bytes>) -> Parsed {
    match arguments.get(1..) {
        Some([]) => plain(Command::Clear),
        Some([how]) if how.eq_ignore_ascii_case(b"async") || how.eq_ignore_ascii_case(b"sync") => {
            plain(Command::Clear)
        }
        _ => Err(Fault::Syntax),
    }
}

pub(super) fn del(_: &'static str, arguments: Vec<Bytes>) -> Parsed {
    plain(Command::Delete(rest(arguments)))
}

pub(super) fn exists(_: &'static str, arguments: Vec<Bytes>) -> Parsed {
    plain(Query::Exists(rest(arguments)))
}

pub(super) fn type_of(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    Ok((Query::Exists(vec![key]).into(), Shape::Type))
}

pub(super) fn incr(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Command::Add { key, delta: 1 })
}

pub(super) fn decr(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Command::Add { key, delta: -1 })
}

pub(super) fn incrby(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, delta] = exactly(name, arguments)?;
    plain(Command::Add { key, delta: integer(&delta)? })
}

pub(super) fn decrby(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, delta] = exactly(name, arguments)?;
    let delta = integer(&delta)?.checked_neg().ok_or(Fault::DecrementOverflow)?;
    plain(Command::Add { key, delta })
}

pub(super) fn append(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, tail] = exactly(name, arguments)?;
    plain(Command::Append { key, tail })
}

pub(super) fn getrange(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, first, last] = exactly(name, arguments)?;
    plain(Query::Range { key, first: integer(&first)?, last: integer(&last)? })
}

pub(super) fn setrange(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key, first, part] = exactly(name, arguments)?;
    let first = integer(&first)?;
    if first < 0 {
        return Err(Fault::Offset);
    }
    // A saturated offset is above the limit as well, so the store rejects it.
    let first = u32::try_from(first).unwrap_or(u32::MAX);
    plain(Command::SetRange { key, first, part })
}

pub(super) fn strlen(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Query::Length { key })
}

pub(super) fn dbsize(_: &'static str, _: Vec<Bytes>) -> Parsed {
    plain(Query::Count)
}

pub(super) fn ttl(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    lifetime(name, arguments, LifetimeForm::LeftS)
}

pub(super) fn pttl(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    lifetime(name, arguments, LifetimeForm::LeftMs)
}

pub(super) fn expiretime(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    lifetime(name, arguments, LifetimeForm::DeadlineS)
}

pub(super) fn pexpiretime(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    lifetime(name, arguments, LifetimeForm::DeadlineMs)
}

fn lifetime(name: &'static str, arguments: Vec<Bytes>, form: LifetimeForm) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Query::Lifetime { key, form })
}

pub(super) fn persist(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let [key] = exactly(name, arguments)?;
    plain(Command::Persist { key })
}

pub(super) fn expire(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    expire_with(name, arguments, Unit::S, Deadline::In)
}

pub(super) fn pexpire(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    expire_with(name, arguments, Unit::Ms, Deadline::In)
}

pub(super) fn expireat(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    expire_with(name, arguments, Unit::S, Deadline::At)
}

pub(super) fn pexpireat(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    expire_with(name, arguments, Unit::Ms, Deadline::At)
}

fn expire_with(
    name: &'static str,
    arguments: Vec<Bytes>,
    unit: Unit,
    deadline: fn(i64) -> Deadline,
) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let (Some(key), Some(time)) = (arguments.next(), arguments.next()) else {
        return Err(Fault::Arity(name));
    };
    let condition = expire_condition(arguments)?;
    let deadline = deadline(milliseconds(name, integer(&time)?, unit)?);
    if matches!(deadline, Deadline::In(ms) if ms > LIFETIME_MS_MAX) {
        return Err(Fault::ExpireTime(name));
    }
    plain(Command::Expire { key, deadline, condition })
}

fn expire_condition(options: impl Iterator<Item = Bytes>) -> Result<ExpireCondition, Fault> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in options {
        *match option.to_ascii_lowercase().as_slice() {
            b"nx" => &mut nx,
            b"xx" => &mut xx,
            b"gt" => &mut gt,
            b"lt" => &mut lt,
            _ => return Err(Fault::ExpireOption(String::from_utf8_lossy(&option).into_owned())),
        } = true;
    }
    if nx && (xx || gt || lt) {
        return Err(Fault::ExpireNotWithNx);
    }
    if gt && lt {
        return Err(Fault::ExpireGtAndLt);
    }
    Ok(ExpireCondition {
        present: if nx { Some(false) } else { xx.then_some(true) },
        longer: if gt { Some(true) } else { lt.then_some(false) },
    })
}

pub(super) fn scan(name: &'static str, arguments: Vec<Bytes>) -> Parsed {
    let mut arguments = arguments.into_iter().skip(1);
    let cursor = arguments.next().ok_or(Fault::Arity(name))?;
    let cursor = std::str::from_utf8(&cursor).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or(Fault::Cursor)?;
    let (mut count, mut pattern, mut shape) = (10, None, Shape::Plain);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(Fault::Syntax)?;
        match option.to_ascii_lowercase().as_slice() {
            b"count" => match integer(&value)? {
                ..1 => return Err(Fault::Syntax),
                number => count = u32::try_from(number).unwrap_or(u32::MAX),
            },
            b"match" if value.len() > PATTERN_BYTES_MAX => return Err(Fault::Pattern),
            b"match" => pattern = Some(value),
            b"type" if value.eq_ignore_ascii_case(b"string") => shape = Shape::Plain,
            b"type" => shape = Shape::Nothing,
            _ => return Err(Fault::Syntax),
        }
    }
    Ok((Query::Scan { cursor, count, pattern }.into(), shape))
}
