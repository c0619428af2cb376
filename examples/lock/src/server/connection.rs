use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use service_lib::resp::{ProtocolError, Reply, encode, error};
use service_lib::{Rights, Stream};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};

use super::info;
use super::input::{Incoming, Input};
use super::listener::Shared;
use super::sessions::SessionNotice;
use crate::Name;
use crate::command::{Command, Loss, Output, Patience, Terms, Token};
use crate::node::CommandFailure;
use crate::request::{Request, USAGE};

/// Timeout of writing a reply; after it, the client is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client's connection and its session.
pub(super) struct Connection {
    shared: Arc<Shared>,
    rights: Rights,
    input: Input,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    session: u64,
    notices: UnboundedReceiver<SessionNotice>,
    held: BTreeMap<Name, Token>,
    /// True if the session may have claims in the replicated state.
    used: bool,
    /// True if a `RESUME` was proposed. If it takes effect late, its client may have moved on to a
    /// third server unnoticed and may still be working, so its claims linger in any case.
    resumed: bool,
}

/// The reason why a session ends.
enum Ending {
    /// The client closed the connection.
    Closed,
    /// The client broke the protocol. It has been sent an error and may still be sending.
    ProtocolError,
    /// The server ends the session; the text says why.
    TakenAway(String),
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: Stream) -> Self {
        let (session, notices) = shared.sessions.open();
        let rights = stream.rights();
        let (input, output) = stream.split();
        Self {
            shared,
            rights,
            input: Input::new(input),
            output,
            session,
            notices,
            held: BTreeMap::new(),
            used: false,
            resumed: false,
        }
    }

    /// Serves the client until the session ends, then releases its locks.
    pub(super) async fn serve(mut self) {
        tracing::debug!(session = self.session, "connected");
        let ending = loop {
            if let Err(ending) = self.turn().await {
                break ending;
            }
        };
        self.shared.sessions.close(self.session);
        let session = self.session;
        if let Ending::TakenAway(why) = &ending {
            tracing::info!(session, locks = self.held.len(), "session ended by the server: {why}");
            let reply = error(format_args!("LOST {why}"));
            let _ = self.write(&reply).await;
            let _ = self.output.shutdown().await;
            if !self.held.is_empty() {
                // The client closes the connection when it has stopped its work.
                let node = self.shared.node.clone();
                tokio::join!(node.insist(Command::Abandon { session }), self.input.drain());
            }
        }
        let is_protocol_error = matches!(ending, Ending::ProtocolError);
        if self.resumed {
            self.shared.node.insist(Command::Abandon { session }).await;
        } else if self.used {
            self.shared.node.insist(Command::End { session }).await;
        }
        if is_protocol_error {
            let _ = self.output.shutdown().await;
            self.input.discard().await;
        }
        tracing::debug!(session, "disconnected");
    }

    /// Handles one request or one notice.
    async fn turn(&mut self) -> Result<(), Ending> {
        let incoming = tokio::select! {
            biased;
            Some(notice) = self.notices.recv() => return self.take(notice),
            incoming = self.input.next() => incoming,
        };
        let request = match incoming {
            Incoming::Request(words) => {
                if let Some(why) = self.rights.refusal(&words) {
                    return self.write(&error(why)).await;
                }
                match self.shared.node.operate(&words).await {
                    Some(reply) => return self.write(&reply).await,
                    None => Request::parse(&words),
                }
            }
            Incoming::End => return Err(Ending::Closed),
            Incoming::ProtocolError(ProtocolError::Http) => return Err(Ending::Closed),
            Incoming::ProtocolError(violation) => {
                let reply = error(format_args!("ERR Protocol error: {violation}"));
                self.write(&reply).await?;
                return Err(Ending::ProtocolError);
            }
        };
        let reply = match request {
            Ok(Request::Quit) => {
                self.write(&text("OK")).await?;
                return Err(Ending::Closed);
            }
            Ok(request) => self.answer(request).await?,
            Err(bad_request) => error(bad_request),
        };
        self.write(&reply).await
    }

    async fn answer(&mut self, request: Request) -> Result<Reply, Ending> {
        let session = self.session;
        Ok(match request {
            Request::Lock(name, terms) => return self.lock(name, terms).await,
            Request::Resume(name, token) => return self.resume(name, token).await,
            Request::Unlock(name) => {
                self.held.remove(&name);
                self.simple(Command::Release { session, name }).await
            }
            Request::Renew(name) => self.simple(Command::Renew { session, name }).await,
            Request::Watch(name) => return self.watch(name).await,
            Request::List(after) => {
                match self.shared.node.list(after, self.shared.config.timeout).await {
                    Ok(locks) => info::listed(locks, self.shared.node.log_time()),
                    Err(failure) => error(failure),
                }
            }
            Request::Break(name, at_once) => self.simple(Command::Break { name, at_once }).await,
            Request::Info => Reply::BulkString(self.shared.node.replica_status().info().into()),
            Request::Ping => text("PONG"),
            Request::Usage => {
                Reply::Array(USAGE.iter().map(|line| bulk(line.to_string())).collect())
            }
            Request::Courtesy => Reply::Array(Vec::new()),
            Request::Quit => text("OK"),
        })
    }

    async fn simple(&mut self, command: Command) -> Reply {
        match self.shared.node.execute(command, self.shared.config.timeout).await {
            Ok(output) => reply(output),
            Err(failure) => error(failure),
        }
    }

    async fn lock(&mut self, name: Name, terms: Terms) -> Result<Reply, Ending> {
        let timeout = self.shared.config.timeout;
        // The wait is counted in log time, which stops while there is no majority, so it is also
        // limited by this host's clock.
        let limit = match terms.patience {
            Patience::Ms(ms) => Some(Instant::now() + Duration::from_millis(ms) + timeout),
            Patience::None | Patience::Endless => None,
        };
        self.used = true;
        let acquire = Command::Acquire { session: self.session, name: name.clone(), terms };
        match self.shared.node.execute(acquire, timeout).await {
            Ok(Output::Queued) => self.wait(name, limit).await,
            Ok(output) => {
                if let Output::Granted(token) = output {
                    self.held.insert(name, token);
                }
                Ok(reply(output))
            }
            Err(failure @ CommandFailure::NotDone(_)) => Ok(error(failure)),
            // If the command takes effect later, the end of the session undoes it.
            Err(CommandFailure::Unknown(why)) => Err(Ending::TakenAway(format!(
                "{why}; if the lock is granted later, it is released at once"
            ))),
        }
    }

    async fn resume(&mut self, name: Name, token: Token) -> Result<Reply, Ending> {
        let timeout = self.shared.config.timeout;
        self.resumed = true;
        let resume = Command::Resume { session: self.session, name: name.clone(), token };
        match self.shared.node.execute(resume, timeout).await {
            Ok(output) => {
                if let Output::Resumed(token) = output {
                    self.held.insert(name, token);
                }
                Ok(reply(output))
            }
            Err(failure @ CommandFailure::NotDone(_)) => Ok(error(failure)),
            Err(failure @ CommandFailure::Unknown(_)) => {
                Err(Ending::TakenAway(failure.to_string()))
            }
        }
    }

    async fn wait(&mut self, name: Name, limit: Option<Instant>) -> Result<Reply, Ending> {
        let overdue = async {
            match limit {
                Some(limit) => sleep_until(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(overdue);
        loop {
            let notice = tokio::select! {
                biased;
                notice = self.notices.recv() => notice,
                () = self.input.ended() => return Err(Ending::Closed),
                () = &mut overdue => {
                    let status = self.shared.node.replica_status();
                    let blocker = status.blocker().map(|blocker| format!(": {blocker}"));
                    let blocker = blocker.unwrap_or_default();
                    return Err(Ending::TakenAway(format!("no answer in time{blocker}")));
                }
            };
            match notice {
                Some(SessionNotice::Granted(granted, token)) if granted == name => {
                    self.held.insert(name, token);
                    return Ok(integer(token));
                }
                Some(SessionNotice::TimedOut(late)) if late == name => return Ok(Reply::Null),
                Some(notice) => self.take(notice)?,
                None => return Err(Ending::TakenAway("the server is stopping".into())),
            }
        }
    }

    async fn watch(&mut self, name: Name) -> Result<Reply, Ending> {
        if !self.held.contains_key(&name) {
            return Ok(text("this connection does not have the lock"));
        }
        loop {
            tokio::select! {
                biased;
                Some(notice) = self.notices.recv() => match notice {
                    SessionNotice::Lost(lost, why) if lost == name => {
                        self.held.remove(&name);
                        // An error, not a loss: the client itself may have moved the lock, without
                        // knowing to where.
                        let moved = why == Loss::Moved;
                        return Ok(if moved { error(format_args!("LOST {why}")) } else { bulk(why.to_string()) });
                    }
                    notice => self.take(notice)?,
                },
                () = self.input.more() => return Ok(Reply::Null),
            }
        }
    }

    fn take(&mut self, notice: SessionNotice) -> Result<(), Ending> {
        match notice {
            // The wait has already ended.
            SessionNotice::Granted(..) | SessionNotice::TimedOut(_) => Ok(()),
            SessionNotice::Lost(name, why) => {
                tracing::info!(session = self.session, %name, "lock lost: {why}");
                self.held.remove(&name);
                Ok(())
            }
            SessionNotice::InDoubt(_) if self.held.is_empty() => Ok(()),
            SessionNotice::InDoubt(why) | SessionNotice::Over(why) => {
                Err(Ending::TakenAway(why.into()))
            }
        }
    }

    async fn write(&mut self, reply: &Reply) -> Result<(), Ending> {
        let mut buffer = BytesMut::new();
        encode(&mut buffer, reply);
        let write = async {
            self.output.write_all(&buffer).await?;
            self.output.flush().await
        };
        match timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ending::Closed),
        }
    }
}

fn reply(output: Output) -> Reply {
    match output {
        Output::Granted(token) | Output::Resumed(token) => integer(token),
        Output::Done(count) => integer(count),
        // The reply to a queued request follows when its wait is over.
        Output::Taken | Output::Queued => Reply::Null,
        Output::Refused(refusal) => error(refusal),
    }
}

pub(super) fn integer(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn bulk(text: String) -> Reply {
    Reply::BulkString(text.into())
}

fn text(text: &'static str) -> Reply {
    Reply::SimpleString(Bytes::from_static(text.as_bytes()))
}
