use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use plainsong::Consistency;
use service_lib::{DISCARDED_BYTES_MAX, Halves, discard};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, Form, Later, ReplyKind, not_proposed};
use super::client_list::ConnectedClient;
use super::connection_state::{ConnectionState, Meaning};
use super::info;
use super::listener::{Shared, stopped};
use super::order::{Order, Way};
use super::waiting::{acknowledged, matching, role};
use super::writer::Writer;
use crate::Notice;
use crate::backend::Backend;
use crate::command::{Ask, Output, Proposal, Query, Transaction};
use crate::limits::{
    COMMAND_BYTES_MAX, IN_FLIGHT_MAX, NOTICES_QUEUED_MAX, REQUESTS, UNAUTHENTICATED_BYTES_MAX,
    UNAUTHENTICATED_REQUESTS,
};
use crate::request::Shape;
use crate::resp::{Decoder, ProtocolError, Reply, error};

/// Maximum number of bytes per read from the socket.
const READ_BYTES: usize = 64 << 10;

/// Interval between attempts while the replica's queues are full.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// Last message to a subscriber that has missed notices, before its connection is closed.
const MISSED: &str = "ERR changes were missed: this client is too slow, or all keys were deleted \
                      at once, or the replica received a snapshot; subscribe again, and read the \
                      keys that you need";

/// Maximum time that `INFO` waits for the number of keys.
const INFO_WAIT: Duration = Duration::from_secs(1);

type Answers<B> = mpsc::Sender<Answer<<B as Backend>::Pending>>;

/// Serves a client until it disconnects, violates the protocol or the server stops. Requests that
/// have been read are always answered.
pub(super) async fn serve<B: Backend>(
    (input, output): Halves,
    client: Arc<ConnectedClient>,
    shared: Arc<Shared<B>>,
) {
    let (answers, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let order = Order::default();
    let progress = order.progress();
    let (config, view) = (Arc::clone(&shared.config), shared.backend.view());
    let id = client.id;
    let state = ConnectionState::new(client, Arc::clone(&shared.clients), config, view);
    let (admitted, stalled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let time_to_authenticate = shared.config.authentication_timeout;
    let is_admitted = state.is_authenticated();
    let reader = Reader {
        state,
        form: Form::default(),
        shared: Arc::clone(&shared),
        answers,
        order,
        admitted: Arc::clone(&admitted),
        stalled: Arc::clone(&stalled),
    };
    let (form, buffer) = (Form::default(), BytesMut::new());
    let writer = Writer { output, queue, progress, shared, form, buffer };
    let unauthenticated_for_too_long = async {
        if is_admitted || timeout(time_to_authenticate, admitted.notified()).await.is_ok() {
            std::future::pending().await
        }
    };
    tokio::select! {
        // Both halves run in one task, which avoids waking up another task for every reply.
        (read, written) = async { tokio::join!(reader.run(input), writer.run()) } => {
            for result in [read, written] {
                if let Err(error) = result {
                    tracing::debug!(client = id, %error, "connection lost");
                }
            }
        }
        () = unauthenticated_for_too_long => {
            tracing::debug!(client = id, "disconnected a client that did not authenticate in time");
        }
        () = stalled.notified() => {
            tracing::info!(client = id, "disconnected a subscriber that does not read its messages");
        }
    }
}

struct Reader<B: Backend> {
    state: ConnectionState,
    /// Form of the answers to the last request.
    form: Form,
    shared: Arc<Shared<B>>,
    answers: Answers<B>,
    order: Order,
    /// Notified when the client has authenticated.
    admitted: Arc<Notify>,
    /// Notified when the client is a subscriber and does not read its messages.
    stalled: Arc<Notify>,
}

impl<B: Backend> Reader<B> {
    async fn run(mut self, mut input: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut stop = self.shared.stop.subscribe();
        let room = Arc::new(Semaphore::new(NOTICES_QUEUED_MAX));
        let mut decoder = Decoder::new(UNAUTHENTICATED_REQUESTS);
        loop {
            match self.requests(&mut decoder, &mut stop).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(violation) => {
                    drop(decoder);
                    self.end(violation, &mut input, &mut stop).await;
                    return Ok(());
                }
            }
            decoder.buffer().reserve(match self.state.is_authenticated() {
                true => READ_BYTES,
                false => UNAUTHENTICATED_BYTES_MAX,
            });
            let answers = self.answers.clone();
            tokio::select! {
                read = input.read_buf(decoder.buffer()) => match read? {
                    0 => return Ok(()),
                    bytes => {
                        let input_bytes = &self.shared.statistics.input_bytes;
                        input_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    }
                },
                notice = self.notice(&room) => if !self.send_notice(notice).await { return Ok(()) },
                () = answers.closed() => return Ok(()),
                () = stopped(&mut stop) => return Ok(()),
            }
        }
    }

    /// Handles the requests that have been read. Returns false if the connection ends.
    async fn requests(
        &mut self,
        decoder: &mut Decoder,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, ProtocolError> {
        let mut count = 0;
        let is_open = loop {
            let is_authenticated = self.state.is_authenticated();
            decoder.set_limits(match is_authenticated {
                true => REQUESTS,
                false => UNAUTHENTICATED_REQUESTS,
            });
            let arguments = match decoder.request() {
                Ok(Some(arguments)) => arguments,
                Ok(None) => break Ok(true),
                Err(violation) => break Err(violation),
            };
            count += 1;
            if !self.request(arguments, stop).await {
                break Ok(false);
            }
            if !is_authenticated && self.state.is_authenticated() {
                self.admitted.notify_one();
            }
        };
        self.shared.statistics.count_commands(count);
        is_open
    }

    /// Waits for the next notice to a subscriber, with a permit to queue it. Returns `None` if some
    /// notices were missed.
    async fn notice(&mut self, room: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, Notice)> {
        if !self.state.is_listening() {
            return std::future::pending().await;
        }
        let place = Arc::clone(room).acquire_owned();
        let place = match timeout(self.shared.config.listener_timeout, place).await {
            Ok(place) => place.ok()?,
            Err(_) => {
                self.stalled.notify_one();
                return std::future::pending().await;
            }
        };
        Some((place, self.state.change().await?))
    }

    /// Sends a notice to the client. Returns false if the connection ends.
    async fn send_notice(&self, notice: Option<(OwnedSemaphorePermit, Notice)>) -> bool {
        let Some((place, notice)) = notice else {
            let _ = self.answers.send(Answer::Close(error(MISSED))).await;
            return false;
        };
        let place = Arc::new(place);
        for message in self.state.messages(&notice) {
            let sent = self.answers.send(Answer::Message(message, Arc::clone(&place)));
            match timeout(self.shared.config.listener_timeout, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return false,
                Err(_) => self.stalled.notify_one(),
            }
        }
        true
    }

    /// Sends the protocol error to the client, and discards its further input. Without that, the
    /// connection would be reset, and the client could lose the error.
    async fn end(
        &self,
        violation: ProtocolError,
        input: &mut (impl AsyncRead + Unpin),
        stop: &mut watch::Receiver<bool>,
    ) {
        let is_authenticated = self.state.is_authenticated();
        let reply = match violation {
            ProtocolError::Http => {
                tracing::info!(
                    client = self.state.id(),
                    "disconnected a client that sent an HTTP request; a web page may be trying to \
                     attack this server through a browser on this host"
                );
                return;
            }
            // Redis's own texts.
            ProtocolError::ArrayLength if !is_authenticated => {
                error("ERR Protocol error: unauthenticated multibulk length")
            }
            ProtocolError::TooBig(_) if !is_authenticated => {
                error("ERR Protocol error: unauthenticated bulk length")
            }
            violation => error(format_args!("ERR Protocol error: {violation}")),
        };
        let bytes_max = if is_authenticated { DISCARDED_BYTES_MAX } else { 1 << 20 };
        if self.answers.send(Answer::Close(reply)).await.is_ok() {
            tokio::select! {
                () = discard(input, bytes_max) => {}
                () = stopped(stop) => {}
            }
        }
    }

    /// Handles a request. Returns false if the connection ends.
    async fn request(&mut self, arguments: Vec<Bytes>, stop: &mut watch::Receiver<bool>) -> bool {
        if !self.order.is_settled() && self.state.needs_settled(&arguments) {
            // The outcome is ignored: requests that are still unanswered at the deadline have an
            // unknown outcome, so they need not take effect before this request.
            let _ = self.order.settled(Instant::now() + self.shared.config.timeout).await;
        }
        let meaning = self.state.meaning(arguments);
        let form = self.state.form();
        if form != self.form {
            self.form = form;
            if self.answers.send(Answer::Form(form)).await.is_err() {
                return false;
            }
        }
        let answer = match meaning {
            Meaning::Reply(reply) => Answer::Now(reply),
            Meaning::Replies(replies) => {
                for reply in replies {
                    if self.answers.send(Answer::Now(reply)).await.is_err() {
                        return false;
                    }
                }
                return true;
            }
            Meaning::Close(reply) => {
                let _ = self.answers.send(Answer::Close(reply)).await;
                return false;
            }
            Meaning::Ask(ask, kind) => {
                let timeout = self.shared.config.timeout;
                self.ask(ask, kind, timeout, stop).await
            }
            Meaning::Watch(keys) => Answer::Now(self.watch(keys, stop).await),
            Meaning::Keys(pattern) => Answer::Now(match self.output(Query::Keys, stop).await {
                Ok(Output::Keys(all)) => matching(&all, &pattern).await,
                Ok(output) => Shape::Plain.reply(output),
                Err(reply) => reply,
            }),
            Meaning::Wait(replicas, timeout) => {
                let deadline = Instant::now() + timeout.min(self.shared.config.timeout);
                Answer::Now(match self.output(Query::Position, stop).await {
                    Ok(position) => {
                        acknowledged(&self.shared.backend, &position, replicas, deadline).await
                    }
                    Err(reply) => reply,
                })
            }
            Meaning::Role => Answer::Now(role(&self.shared.backend.replica_status())),
            Meaning::Operate(words) => Answer::Now(self.shared.backend.operate(words).await),
            Meaning::Info(sections) => {
                let status = self.shared.backend.replica_status();
                let Shared { backend, counters, statistics, config, .. } = &*self.shared;
                let text = sections.text(&status, counters, statistics, &backend.view(), config);
                if !sections.keyspace {
                    Answer::Now(Reply::Verbatim(text.into()))
                } else if status.blocker().is_some() {
                    Answer::Now(info::without_keyspace(text, &status))
                } else {
                    let timeout = INFO_WAIT.min(self.shared.config.timeout);
                    self.ask(Query::Count.into(), ReplyKind::Info(text), timeout, stop).await
                }
            }
        };
        self.answers.send(answer).await.is_ok()
    }

    /// Reads the versions of keys and starts to watch them.
    async fn watch(&mut self, keys: Vec<Bytes>, stop: &mut watch::Receiver<bool>) -> Reply {
        match self.output(Query::Versions(keys.clone()), stop).await {
            Ok(Output::Versions(versions)) => {
                self.state.watch(keys, versions);
                Shape::Plain.reply(Output::Done)
            }
            Ok(output) => Shape::Plain.reply(output),
            Err(reply) => reply,
        }
    }

    /// Waits for the output of a query, and holds up the requests that follow. On failure returns
    /// the error reply.
    async fn output(
        &mut self,
        query: Query,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Output, Reply> {
        let timeout = self.shared.config.timeout;
        let kind = ReplyKind::Output(Shape::Plain);
        let mut later = match self.ask(query.into(), kind, timeout, stop).await {
            Answer::Later(later) => later,
            Answer::Now(reply) | Answer::Close(reply) => return Err(reply),
            Answer::Form(_) | Answer::Message(..) => {
                return Err(error("ERR internal error: the query has no answer"));
            }
        };
        let outcome = later.outcome().await;
        self.order.progress().answered(later.way);
        match outcome.map(|outcome| outcome.map(Output::of_only_step)) {
            Some(Ok(output)) => Ok(output),
            outcome => Err(later.reply(outcome, &self.shared.backend, timeout)),
        }
    }

    /// Sends a request to the store, once it can neither overtake nor be overtaken. Tries again
    /// while the replica's queues are full. This holds up the requests that follow, and so the
    /// client, but no thread.
    async fn ask(
        &mut self,
        ask: Ask,
        kind: ReplyKind,
        timeout: Duration,
        stop: &mut watch::Receiver<bool>,
    ) -> Answer<B::Pending> {
        let deadline = Instant::now() + timeout;
        let is_read = ask.is_read();
        let (mut ask, way) = self.placed(ask, deadline).await;
        let consistency = match self.state.reads_locally {
            true => Consistency::Local,
            false => Consistency::Linearizable,
        };
        let mut is_in_time = self.order.turn(way, consistency, deadline).await;
        while is_in_time {
            ask = match self.try_ask(ask, consistency) {
                Ok(pending) => {
                    return Answer::Later(Later { pending, kind, is_read, way, deadline });
                }
                Err(ask) => ask,
            };
            is_in_time = Instant::now() < deadline && !*stop.borrow_and_update();
            if is_in_time {
                sleep(BUSY_WAIT).await;
            }
        }
        let status = self.shared.backend.replica_status();
        Answer::Now(match kind {
            ReplyKind::Info(text) => info::without_keyspace(text, &status),
            _ => not_proposed(&status, timeout),
        })
    }

    /// Decides whether a request is proposed or read directly, and converts a read that must be
    /// proposed to a proposal.
    async fn placed(&self, ask: Ask, deadline: Instant) -> (Ask, Way) {
        let query = match ask {
            Ask::Propose(_) => return (ask, Way::Proposal),
            Ask::Read(query) => query,
        };
        if query.log_bytes() > COMMAND_BYTES_MAX {
            // Too large to be proposed, so it waits for the earlier proposals instead.
            let _ = self.order.settled(deadline).await;
            return (Ask::Read(query), Way::PlainRead);
        }
        match self.order.way_of_read() {
            Way::PlainRead => (Ask::Read(query), Way::PlainRead),
            Way::Proposal => {
                (Proposal::Transaction(Transaction::of_query(query)).into(), Way::Proposal)
            }
        }
    }

    fn try_ask(&mut self, ask: Ask, consistency: Consistency) -> Result<B::Pending, Ask> {
        let backend = &self.shared.backend;
        match ask {
            Ask::Propose(proposal) => {
                let pending = backend.try_propose(proposal).map_err(Ask::Propose)?;
                self.order.begin_proposal();
                Ok(pending)
            }
            Ask::Read(query) => {
                let unplaced = self.order.begin_read(consistency);
                let pending = backend.try_read(query, consistency, unplaced);
                pending.map_err(|query| {
                    self.order.progress().answered(Way::PlainRead);
                    Ask::Read(query)
                })
            }
        }
    }
}
