mod greeting;
mod pubsub;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::answer::{Form, ReplyKind};
use super::client_list::{ClientList, ConnectedClient};
use super::info::Sections;
use super::queue::{Queue, encoded_bytes_max, executed};
use super::subscriptions::Subscriptions;
use super::{ServerConfig, describe, settings};
use crate::command::{Ask, Output, Proposal};
use crate::limits::{COMMAND_BYTES_MAX, PATTERN_BYTES_MAX};
use crate::listening::Of;
use crate::request::{Entry, Fault, Kind, Local, Shape, find, wait};
use crate::resp::{Protocol, Reply, error};
use crate::{Notice, View};

/// State of a connection. Decides what each request means.
pub(super) struct ConnectionState {
    client: Arc<ConnectedClient>,
    everybody: Arc<ClientList>,
    config: Arc<ServerConfig>,
    view: View,
    protocol: Protocol,
    replies: Replies,
    is_authenticated: bool,
    /// True if this replica answers reads from its own state, without asking the others
    /// (`READONLY`).
    pub(super) reads_locally: bool,
    /// Requests queued since `MULTI`.
    queue: Option<Queue>,
    /// The watched keys, with their versions at that time.
    watched: BTreeMap<Bytes, u64>,
    subscriptions: Subscriptions,
}

/// Mode of `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    On,
    Off,
    /// The next request is not answered.
    SkipNext,
    /// This request is not answered.
    Skip,
}

/// Meaning of a request.
pub(super) enum Meaning {
    Reply(Reply),
    /// Several replies to one request.
    Replies(Vec<Reply>),
    Close(Reply),
    Ask(Ask, ReplyKind),
    /// Read the versions of these keys, and pass them to [`ConnectionState::watch`].
    Watch(Vec<Bytes>),
    Info(Sections),
    Operate(Vec<Bytes>),
    /// Reply with the keys that match a pattern.
    Keys(Bytes),
    /// Reply with the role that Redis would have.
    Role,
    /// Wait for this number of other replicas, and at most this long.
    Wait(i64, Duration),
}

impl ConnectionState {
    pub(super) fn new(
        client: Arc<ConnectedClient>,
        everybody: Arc<ClientList>,
        config: Arc<ServerConfig>,
        view: View,
    ) -> Self {
        let is_authenticated = client.is_trusted || config.password.is_none();
        Self {
            client,
            everybody,
            config,
            subscriptions: Subscriptions::new(view.clone()),
            view,
            protocol: Protocol::default(),
            replies: Replies::On,
            is_authenticated,
            reads_locally: false,
            queue: None,
            watched: BTreeMap::new(),
        }
    }

    /// Returns the meaning of a request, which must not be empty.
    pub(super) fn meaning(&mut self, arguments: Vec<Bytes>) -> Meaning {
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            replies => replies,
        };
        let meaning = match self.admitted(&arguments) {
            Ok(entry) => {
                self.note(full_name(entry, &arguments));
                let is_seen = entry.local().is_some() || self.queue.is_some();
                let meaning = match self.queue {
                    Some(_) => self.queued(entry, arguments),
                    None => self.execute(entry, arguments),
                };
                if is_seen {
                    self.show();
                }
                meaning
            }
            Err(fault) => {
                self.queue.iter_mut().for_each(Queue::abort);
                Err(fault)
            }
        };
        meaning.unwrap_or_else(|fault| Meaning::Reply(error(fault)))
    }

    /// Returns the form of the answer to the last request.
    pub(super) fn form(&self) -> Form {
        let is_quiet = matches!(self.replies, Replies::Off | Replies::Skip);
        Form { protocol: self.protocol, is_quiet }
    }

    /// Starts to watch keys with these versions. A key that is already watched keeps its earlier
    /// version.
    pub(super) fn watch(&mut self, keys: Vec<Bytes>, versions: Vec<u64>) {
        for (key, version) in keys.into_iter().zip(versions) {
            self.watched.entry(key).or_insert(version);
        }
    }

    /// Waits for the next notice to this subscriber. Returns `None` if some notices were missed.
    pub(super) async fn change(&mut self) -> Option<Notice> {
        self.subscriptions.next().await
    }

    pub(super) fn messages(&self, notice: &Notice) -> Vec<Reply> {
        self.subscriptions.messages(notice)
    }

    /// Checks everything that Redis checks before the arguments of a command, in the same order.
    fn admitted(&self, arguments: &[Bytes]) -> Result<&'static Entry, Fault> {
        let entry = arguments.first().and_then(|name| find(name));
        let entry = entry.ok_or_else(|| Fault::unknown(arguments))?;
        if !entry.takes(arguments.len()) {
            return Err(Fault::Arity(entry.name));
        }
        let local = entry.local();
        let is_open =
            matches!(local, Some(Local::Auth | Local::Hello | Local::Quit | Local::Reset));
        if !self.is_authenticated && !is_open {
            return Err(Fault::NotAuthenticated);
        }
        if entry.grows && self.is_full() {
            return Err(Fault::OutOfMemory);
        }
        if self.is_only_listening() && !local.is_some_and(Local::is_for_listeners) {
            return Err(Fault::Listening(full_name(entry, arguments)));
        }
        Ok(entry)
    }

    /// Returns true if the client has authenticated, or need not.
    pub(super) fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Returns the id of the client.
    pub(super) fn id(&self) -> u64 {
        self.client.id
    }

    /// Returns true if the client is a subscriber.
    pub(super) fn is_listening(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Returns true if the server must know the outcome of all earlier proposals before it handles
    /// this request: because the request depends on the size of the store, or on the point in the
    /// log from which a subscriber receives notices.
    pub(super) fn needs_settled(&self, arguments: &[Bytes]) -> bool {
        let Some(name) = arguments.first() else { return false };
        let asks_beside = [&b"subscribe"[..], b"psubscribe", b"keys", b"wait"];
        let may_grow = |entry: &Entry| entry.grows || matches!(entry.local(), Some(Local::Exec));
        asks_beside.iter().any(|asked| name.eq_ignore_ascii_case(asked))
            || self.is_full() && find(name).is_some_and(may_grow)
    }

    /// Returns true if the client is a subscriber that may send only a few commands: with protocol
    /// version 2 it could mistake a message for a reply.
    fn is_only_listening(&self) -> bool {
        self.protocol == Protocol::Resp2 && !self.subscriptions.is_empty()
    }

    fn is_full(&self) -> bool {
        self.config.memory_bytes_max.is_some_and(|max| self.view.bytes() > max)
    }

    fn execute(&mut self, entry: &'static Entry, arguments: Vec<Bytes>) -> Result<Meaning, Fault> {
        match entry.kind {
            Kind::Asked(parse) => {
                if encoded_bytes_max(&arguments) > COMMAND_BYTES_MAX {
                    return Err(Fault::TooLong);
                }
                let (ask, shape) = parse(entry.name, arguments)?;
                let kind = match ask.channel() {
                    Some(channel) => ReplyKind::Receivers(channel.clone()),
                    None => ReplyKind::Output(shape),
                };
                Ok(Meaning::Ask(ask, kind))
            }
            Kind::Local(local) => self.local(local, arguments),
        }
    }

    /// Handles a request after `MULTI`.
    fn queued(&mut self, entry: &'static Entry, arguments: Vec<Bytes>) -> Result<Meaning, Fault> {
        let local = entry.local();
        match local {
            Some(Local::Exec) => return self.exec(),
            Some(Local::Discard | Local::Quit | Local::Reset) => {
                return self.execute(entry, arguments);
            }
            Some(Local::Multi) => return Err(Fault::MultiInMulti),
            Some(Local::Watch) => return Err(Fault::WatchInMulti),
            _ => {}
        }
        let queued = match local {
            None => self.enqueue(|queue| queue.ask(entry, arguments)),
            // Has no effect: `EXEC` checks the watched keys first, and unwatches them.
            Some(Local::Unwatch) => self.enqueue(|queue| queue.reply(ok())),
            Some(Local::Ping | Local::Echo | Local::Select) => {
                let reply = match self.execute(entry, arguments) {
                    Ok(Meaning::Reply(reply)) => reply,
                    Ok(_) => error(Fault::NotInTransaction),
                    Err(fault) => error(fault),
                };
                self.enqueue(|queue| queue.reply(reply))
            }
            Some(_) => Err(Fault::NotInTransaction),
        };
        if let Err(fault) = queued {
            self.queue.iter_mut().for_each(Queue::abort);
            return Err(fault);
        }
        Ok(Meaning::Reply(Reply::SimpleString("QUEUED".into())))
    }

    fn enqueue(&mut self, into: impl FnOnce(&mut Queue) -> Result<(), Fault>) -> Result<(), Fault> {
        self.queue.as_mut().map_or(Ok(()), into)
    }

    fn exec(&mut self) -> Result<Meaning, Fault> {
        let Some(queue) = self.queue.take() else { return Err(Fault::WithoutMulti("EXEC")) };
        let watched = std::mem::take(&mut self.watched);
        let grows = queue.grows;
        let (transaction, slots) = queue.close(watched)?;
        if grows && self.is_full() {
            return Err(Fault::AbortedOutOfMemory);
        }
        if transaction.steps.is_empty() && transaction.watched.is_empty() {
            return Ok(Meaning::Reply(executed(
                slots,
                Output::Transaction(Some(Vec::new())),
                &self.view,
            )));
        }
        let ask = Proposal::Transaction(transaction).into();
        Ok(Meaning::Ask(ask, ReplyKind::Transaction(slots)))
    }

    fn local(&mut self, local: Local, arguments: Vec<Bytes>) -> Result<Meaning, Fault> {
        let reply = match (local, arguments.as_slice()) {
            (Local::Ping, rest) => self.ping(rest)?,
            (Local::Echo, [_, text]) => Reply::BulkString(text.clone()),
            (Local::Quit, _) => return Ok(Meaning::Close(ok())),
            (Local::Reset, _) => self.reset(),
            (Local::Info, [_, sections @ ..]) => {
                return Ok(Meaning::Info(Sections::named(sections)));
            }
            (Local::Keys, [_, pattern]) if pattern.len() > PATTERN_BYTES_MAX => {
                return Err(Fault::Pattern);
            }
            (Local::Keys, [_, pattern]) => return Ok(Meaning::Keys(pattern.clone())),
            (Local::Role, _) => return Ok(Meaning::Role),
            (Local::Wait, _) => {
                let (replicas, ms) = wait(&arguments)?;
                let without_end = |ms: &u64| *ms > 0;
                let timeout = Some(ms).filter(without_end).map(Duration::from_millis);
                return Ok(Meaning::Wait(replicas, timeout.unwrap_or(self.config.timeout)));
            }
            (Local::Pubsub, [_, part, rest @ ..]) => self.pubsub(part, rest)?,
            (Local::Operate, _) => match self.client.rights.refusal(&arguments) {
                Some(why) => Reply::Error(why),
                None => return Ok(Meaning::Operate(arguments)),
            },
            (Local::Auth, [_, words @ ..]) => self.auth(words)?,
            (Local::Select, [_, database]) => match crate::number::parse(database) {
                Some(0) => ok(),
                Some(_) => return Err(Fault::Database),
                None => return Err(Fault::NotAnInteger),
            },
            (Local::Hello, [_, rest @ ..]) => self.hello(rest)?,
            (Local::Client, [_, part, rest @ ..]) => return self.client(part, rest),
            (Local::Config, [_, part, rest @ ..]) => self.config(part, rest)?,
            (Local::Time, _) => time(),
            (Local::Command, [_, rest @ ..]) => describe::command(rest)?,
            (Local::Multi, _) => {
                self.queue = Some(Queue::default());
                ok()
            }
            (Local::Exec, _) => return Err(Fault::WithoutMulti("EXEC")),
            (Local::Discard, _) => {
                self.queue.take().ok_or(Fault::WithoutMulti("DISCARD"))?;
                self.watched.clear();
                ok()
            }
            (Local::Watch, [_, keys @ ..]) => return self.watched(keys),
            (Local::Unwatch, _) => {
                self.watched.clear();
                ok()
            }
            (Local::Readonly | Local::Readwrite, _) => {
                self.reads_locally = local == Local::Readonly;
                ok()
            }
            (Local::Subscribe, [_, names @ ..]) => return self.listen(Of::Channels, names),
            (Local::Psubscribe, [_, names @ ..]) => return self.listen(Of::Patterns, names),
            (Local::Unsubscribe, [_, names @ ..]) => {
                return Ok(Meaning::Replies(self.subscriptions.remove(Of::Channels, names)));
            }
            (Local::Punsubscribe, [_, names @ ..]) => {
                return Ok(Meaning::Replies(self.subscriptions.remove(Of::Patterns, names)));
            }
            _ => return Err(Fault::Syntax),
        };
        Ok(Meaning::Reply(reply))
    }

    fn ping(&self, arguments: &[Bytes]) -> Result<Reply, Fault> {
        match (arguments, !self.is_only_listening()) {
            ([_], true) => Ok(Reply::SimpleString("PONG".into())),
            ([_, text], true) => Ok(Reply::BulkString(text.clone())),
            ([_], false) => Ok(Reply::Array(vec![text("pong"), text("")])),
            ([_, said], false) => {
                Ok(Reply::Array(vec![text("pong"), Reply::BulkString(said.clone())]))
            }
            _ => Err(Fault::Arity("ping")),
        }
    }

    /// Resets the connection to its initial state (`RESET`).
    fn reset(&mut self) -> Reply {
        let (client, everybody) = (Arc::clone(&self.client), Arc::clone(&self.everybody));
        client.state().reset();
        *self = Self::new(client, everybody, Arc::clone(&self.config), self.view.clone());
        Reply::SimpleString("RESET".into())
    }

    /// Handles `WATCH`: finds the keys that are not watched yet.
    fn watched(&mut self, keys: &[Bytes]) -> Result<Meaning, Fault> {
        // Copied, because slices would keep the whole input buffer in memory.
        let keys: Vec<Bytes> = keys
            .iter()
            .filter(|key| !self.watched.contains_key(*key))
            .map(|key| Bytes::copy_from_slice(key))
            .collect();
        let watched = self.watched.keys().chain(&keys);
        // Half of the size of a command. The other half is left for the steps.
        if 2 * watched.map(|key| encoded_bytes_max(std::slice::from_ref(key))).sum::<usize>()
            > COMMAND_BYTES_MAX
        {
            return Err(Fault::TooLong);
        }
        Ok(if keys.is_empty() { Meaning::Reply(ok()) } else { Meaning::Watch(keys) })
    }

    fn listen(&mut self, of: Of, names: &[Bytes]) -> Result<Meaning, Fault> {
        Ok(Meaning::Replies(self.subscriptions.add(of, names)?))
    }

    fn auth(&mut self, words: &[Bytes]) -> Result<Reply, Fault> {
        let (user, password) = match words {
            [password] if self.config.password.is_some() => (None, password),
            [_] => return Err(Fault::Auth),
            [user, password] => (Some(user), password),
            _ => return Err(Fault::Syntax),
        };
        let is_user = user.is_none_or(|user| user == "default");
        // Always compared, so that the time does not depend on the user name.
        let is_password = self.config.password.as_ref().is_none_or(|known| known.is(password));
        if !(is_user && is_password) {
            return Err(Fault::WrongPassword);
        }
        self.is_authenticated = true;
        Ok(ok())
    }

    fn config(&self, part: &Bytes, arguments: &[Bytes]) -> Result<Reply, Fault> {
        match (part.to_ascii_lowercase().as_slice(), arguments) {
            (b"get", []) => Err(Fault::Arity("config|get")),
            (b"get", patterns) => Ok(settings::get(&self.config, patterns)),
            (b"set", [name, _, ..]) => Err(settings::set(&self.config, name)),
            (b"set", _) => Err(Fault::Arity("config|set")),
            _ => Err(Fault::unknown_part("CONFIG", part)),
        }
    }
}

impl Local {
    /// Returns true if a subscriber with protocol version 2 may send this command.
    fn is_for_listeners(self) -> bool {
        matches!(self, Self::Subscribe | Self::Psubscribe | Self::Unsubscribe | Self::Punsubscribe)
            || matches!(self, Self::Ping | Self::Quit | Self::Reset)
    }
}

/// Returns the name of a command, with its subcommand if it has one, e.g. `client|list`.
fn full_name(entry: &Entry, arguments: &[Bytes]) -> Cow<'static, str> {
    match (entry.local(), arguments.get(1)) {
        (Some(Local::Client | Local::Config | Local::Command | Local::Pubsub), Some(part)) => {
            let part = String::from_utf8_lossy(&part[..part.len().min(128)]);
            format!("{}|{}", entry.name, part.to_ascii_lowercase()).into()
        }
        _ => entry.name.into(),
    }
}

/// Answers `TIME` from this host's clock: seconds since the Unix epoch, and microseconds.
fn time() -> Reply {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let parts = [now.as_secs(), now.subsec_micros().into()];
    Reply::Array(parts.map(|part| Reply::BulkString(part.to_string().into())).to_vec())
}

fn ok() -> Reply {
    Shape::Plain.reply(Output::Done)
}

pub(super) fn text(text: &'static str) -> Reply {
    Reply::BulkString(Bytes::from_static(text.as_bytes()))
}
