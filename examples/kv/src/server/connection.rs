use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use plainsong::Consistency;
use service::Halves;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::answer::{Answer, Form, Later, Tell, not_proposed};
use super::clients::Client;
use super::info;
use super::listener::{Shared, stopped};
use super::order::{Order, Progress, Way};
use super::session::{Meaning, Session};
use super::waiting::{acknowledged, matching, role};
use crate::backend::Backend;
use crate::command::{Ask, Output, Proposal, Query, Transaction};
use crate::limits::{COMMAND_BYTES_MAX, IN_FLIGHT_MAX, NOTICES_QUEUED_MAX, REQUESTS};
use crate::request::Shape;
use crate::resp::{Decoder, Reply, encode, error};

/// Replies are written when nothing more is ready, or when they are this much.
const WRITE_BYTES: usize = 64 << 10;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// How long to leave a full replica alone.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// To a client that listens, before its connection is closed.
const MISSED: &str = "ERR changes were missed: this client is too slow, or all keys were deleted \
                      at once, or the replica was sent another state; subscribe again, and read \
                      what you need";

/// How long `INFO` waits for the number of keys.
const INFO_WAIT: Duration = Duration::from_secs(1);

type Answers<B> = mpsc::Sender<Answer<<B as Backend>::Pending>>;

/// Serves a client until it goes, makes a mistake or the server stops. What was read is
/// answered in any case.
pub(super) async fn serve<B: Backend>(
    (input, output): Halves,
    client: Arc<Client>,
    shared: Arc<Shared<B>>,
) {
    let (answers, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let order = Order::default();
    let progress = order.progress();
    let (config, view) = (Arc::clone(&shared.config), shared.backend.view());
    let id = client.id;
    let session = Session::new(client, Arc::clone(&shared.clients), config, view);
    let reader =
        Reader { session, form: Form::default(), shared: Arc::clone(&shared), answers, order };
    let (form, buffer) = (Form::default(), BytesMut::new());
    let writer = Writer { output, queue, progress, shared, form, buffer };
    // One task: the two take turns, and a reply finds its client's task awake.
    let (read, written) = tokio::join!(reader.run(input), writer.run());
    for result in [read, written] {
        if let Err(error) = result {
            tracing::debug!(client = id, %error, "connection lost");
        }
    }
}

struct Reader<B: Backend> {
    session: Session,
    /// In which the answers to the last request are written.
    form: Form,
    shared: Arc<Shared<B>>,
    answers: Answers<B>,
    order: Order,
}

impl<B: Backend> Reader<B> {
    async fn run(mut self, mut input: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut stop = self.shared.stop.subscribe();
        let room = Arc::new(Semaphore::new(NOTICES_QUEUED_MAX));
        let mut decoder = Decoder::new(REQUESTS);
        loop {
            let mut requests = 0;
            loop {
                match decoder.request() {
                    Ok(Some(arguments)) => {
                        requests += 1;
                        if !self.request(arguments, &mut stop).await {
                            self.shared.statistics.count_commands(requests);
                            return Ok(());
                        }
                    }
                    Ok(None) => break,
                    Err(mistake) => {
                        let reply = error(format_args!("ERR Protocol error: {mistake}"));
                        let _ = self.answers.send(Answer::Close(reply)).await;
                        return Ok(());
                    }
                }
            }
            self.shared.statistics.count_commands(requests);
            decoder.buffer().reserve(READ_BYTES);
            tokio::select! {
                read = input.read_buf(decoder.buffer()) => match read? {
                    0 => return Ok(()),
                    bytes => {
                        let input_bytes = &self.shared.statistics.input_bytes;
                        input_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                    }
                },
                (place, notice) = async {
                    let place = Arc::clone(&room).acquire_owned().await;
                    (place, self.session.change().await)
                } => {
                    let (Ok(place), Some(notice)) = (place, notice) else {
                        let _ = self.answers.send(Answer::Close(error(MISSED))).await;
                        return Ok(());
                    };
                    let place = Arc::new(place);
                    for message in self.session.messages(&notice) {
                        let answer = Answer::Message(message, Arc::clone(&place));
                        if self.answers.send(answer).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                () = self.answers.closed() => return Ok(()),
                () = stopped(&mut stop) => return Ok(()),
            }
        }
    }

    /// Handles a request; says whether there may be another.
    async fn request(&mut self, arguments: Vec<Bytes>, stop: &mut watch::Receiver<bool>) -> bool {
        if self.session.needs_settled(&arguments) {
            // What is not settled in time has no known place before this request anyway.
            let _ = self.order.settled(Instant::now() + self.shared.config.timeout).await;
        }
        let meaning = self.session.meaning(arguments);
        let form = self.session.form();
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
            Meaning::Ask(ask, tell) => {
                let timeout = self.shared.config.timeout;
                self.ask(ask, tell, timeout, stop).await
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
            Meaning::Role => Answer::Now(role(&self.shared.backend.situation())),
            Meaning::Operate(words) => Answer::Now(self.shared.backend.operate(words).await),
            Meaning::Info(sections) => {
                let situation = self.shared.backend.situation();
                let Shared { backend, counters, statistics, config, .. } = &*self.shared;
                let text = sections.text(&situation, counters, statistics, &backend.view(), config);
                if !sections.keyspace {
                    Answer::Now(Reply::Verbatim(text.into()))
                } else if situation.obstacle().is_some() {
                    Answer::Now(info::without_keyspace(text, &situation))
                } else {
                    let timeout = INFO_WAIT.min(self.shared.config.timeout);
                    self.ask(Query::Count.into(), Tell::Info(text), timeout, stop).await
                }
            }
        };
        self.answers.send(answer).await.is_ok()
    }

    /// Learns the versions of keys.
    async fn watch(&mut self, keys: Vec<Bytes>, stop: &mut watch::Receiver<bool>) -> Reply {
        match self.output(Query::Versions(keys.clone()), stop).await {
            Ok(Output::Versions(versions)) => {
                self.session.watch(keys, versions);
                Shape::Plain.reply(Output::Done)
            }
            Ok(output) => Shape::Plain.reply(output),
            Err(reply) => reply,
        }
    }

    /// Waits for the output of a query, and the requests behind it with it; or for the reply that
    /// says why there is none.
    async fn output(
        &mut self,
        query: Query,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Output, Reply> {
        let timeout = self.shared.config.timeout;
        let tell = Tell::Output(Shape::Plain);
        let mut later = match self.ask(query.into(), tell, timeout, stop).await {
            Answer::Later(later) => later,
            Answer::Now(reply) | Answer::Close(reply) => return Err(reply),
            Answer::Form(_) | Answer::Message(..) => return Err(error("ERR no answer")),
        };
        let outcome = later.outcome().await;
        self.order.progress().answered(later.way);
        match outcome.map(|outcome| outcome.map(Output::of_only_step)) {
            Some(Ok(output)) => Ok(output),
            outcome => Err(later.reply(outcome, &self.shared.backend, timeout)),
        }
    }

    /// Asks the store, when nothing can pass it any more, and tries again while the replica is
    /// full. That holds up the requests behind it, and so the client; nothing blocks a thread.
    async fn ask(
        &mut self,
        ask: Ask,
        tell: Tell,
        timeout: Duration,
        stop: &mut watch::Receiver<bool>,
    ) -> Answer<B::Pending> {
        let deadline = Instant::now() + timeout;
        let is_read = ask.is_read();
        let (mut ask, way) = self.placed(ask, deadline).await;
        let consistency = match self.session.reads_locally {
            true => Consistency::Local,
            false => Consistency::Linearizable,
        };
        let mut is_in_time = self.order.turn(way, consistency, deadline).await;
        while is_in_time {
            ask = match self.try_ask(ask, consistency) {
                Ok(pending) => {
                    return Answer::Later(Later { pending, tell, is_read, way, deadline });
                }
                Err(ask) => ask,
            };
            is_in_time = Instant::now() < deadline && !*stop.borrow_and_update();
            if is_in_time {
                sleep(BUSY_WAIT).await;
            }
        }
        let situation = self.shared.backend.situation();
        Answer::Now(match tell {
            Tell::Info(text) => info::without_keyspace(text, &situation),
            _ => not_proposed(&situation, timeout),
        })
    }

    /// Decides how a request takes its place, and puts a read that takes it in the log into the
    /// form of a proposal.
    async fn placed(&self, ask: Ask, deadline: Instant) -> (Ask, Way) {
        let query = match ask {
            Ask::Propose(_) => return (ask, Way::Proposal),
            Ask::Read(query) => query,
        };
        if query.log_bytes() > COMMAND_BYTES_MAX {
            // The log cannot hold it, so it waits for the proposals before it instead.
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

struct Writer<B: Backend> {
    output: Box<dyn AsyncWrite + Send + Unpin>,
    queue: mpsc::Receiver<Answer<B::Pending>>,
    progress: Arc<Progress>,
    shared: Arc<Shared<B>>,
    form: Form,
    buffer: BytesMut,
}

impl<B: Backend> Writer<B> {
    async fn run(mut self) -> io::Result<()> {
        while let Some(answer) = self.next().await? {
            let (reply, last) = match answer {
                Answer::Now(reply) => (reply, false),
                Answer::Message(reply, place) => {
                    drop(place);
                    (reply, false)
                }
                Answer::Close(reply) => (reply, true),
                Answer::Later(later) => (self.wait_for(later).await?, false),
                Answer::Form(form) => {
                    self.form = form;
                    continue;
                }
            };
            if !self.form.is_quiet || matches!(reply, Reply::Push(_)) {
                encode(&mut self.buffer, &reply, self.form.protocol);
            }
            if last {
                break;
            }
            if self.buffer.len() >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.output.shutdown().await
    }

    /// The next answer. What is written so far goes out before waiting for it.
    async fn next(&mut self) -> io::Result<Option<Answer<B::Pending>>> {
        if let Ok(answer) = self.queue.try_recv() {
            return Ok(Some(answer));
        }
        self.flush().await?;
        Ok(self.queue.recv().await)
    }

    async fn wait_for(&mut self, mut later: Later<B::Pending>) -> io::Result<Reply> {
        let outcome = match later.ready().await {
            Some(outcome) => Some(outcome),
            None => {
                self.flush().await?;
                later.outcome().await
            }
        };
        self.progress.answered(later.way);
        if let (true, Some(Ok(output))) = (later.is_read, &outcome) {
            self.shared.statistics.count_keys(output);
        }
        Ok(later.reply(outcome, &self.shared.backend, self.shared.config.timeout))
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.output.write_all(&self.buffer).await?;
        let output_bytes = &self.shared.statistics.output_bytes;
        output_bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        self.buffer.clear();
        if self.buffer.capacity() > 4 * WRITE_BYTES {
            // A long reply is no reason to keep its room.
            self.buffer = BytesMut::new();
        }
        Ok(())
    }
}
