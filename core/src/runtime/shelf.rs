use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvError, Sender, bounded, select};

use super::{Feedback, Shared, panic_text};
use crate::engine::SnapshotHead;
use crate::snapshot::{
    Cutter, Joiner, Shelf, ShelfError, ShelfNews, ShelfOp, Snapshot, SnapshotName,
};

/// What the threads of this replica want of its snapshots.
pub(crate) enum Request {
    /// The next chunk of the own state.
    Chunk(Bytes),
    /// It has all its chunks.
    Taken(SnapshotName),
    /// It could not be restored.
    Unreadable(SnapshotName, String),
    /// It could not be written.
    Failed(String),
    /// A chunk of the own state is to be read back.
    ReadBack(SnapshotName, u64, Sender<Result<Bytes, ShelfError>>),
    /// A chunk is to be read.
    Read(SnapshotName, u64, Sender<Result<Bytes, ShelfError>>),
}

/// Where the other threads ask the shelf thread.
#[derive(Clone)]
pub(crate) struct ToShelf {
    pub(crate) requests: Sender<Request>,
    /// Closed when the thread has ended. Requests that it left in its inbox, with the ways to
    /// answer them, are not dropped before all who ask are gone.
    pub(crate) ended: Receiver<()>,
}

/// Owns the snapshots. A disk that is slow holds nobody up but who waits for a snapshot.
pub(crate) struct ShelfThread {
    shelf: Shelf,
    ops: Receiver<ShelfOp>,
    requests: Receiver<Request>,
    /// Dropped with the thread, and never used.
    _lives: Sender<()>,
    feedback: Sender<Feedback>,
    shared: Arc<Shared>,
}

impl ShelfThread {
    pub(crate) fn new(
        shelf: Shelf,
        ops: Receiver<ShelfOp>,
        requests: Receiver<Request>,
        lives: Sender<()>,
        feedback: Sender<Feedback>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { shelf, ops, requests, _lives: lives, feedback, shared }
    }

    pub(crate) fn run(mut self) {
        loop {
            let done = select! {
                recv(self.ops) -> op => match op {
                    Ok(op) => self.shelf.carry_out(op).map_err(|error| error.to_string()),
                    Err(_) => return,
                },
                recv(self.requests) -> request => match request {
                    Ok(request) => self.answer(request),
                    Err(_) => return,
                },
            };
            let feedback = match done {
                Ok(None) => continue,
                Ok(Some(news)) => Feedback::Shelf(news),
                Err(reason) => Feedback::SnapshotFailed(reason),
            };
            let failed = matches!(feedback, Feedback::SnapshotFailed(_));
            if self.feedback.send(feedback).is_err() {
                return;
            }
            self.shared.wake();
            if failed {
                return;
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Option<ShelfNews>, String> {
        match request {
            Request::Chunk(bytes) => {
                self.shelf.take(bytes).map(|()| None).map_err(|error| error.to_string())
            }
            Request::Taken(name) => {
                self.shelf.taken(name).map(Some).map_err(|error| error.to_string())
            }
            Request::Unreadable(name, reason) => {
                let dropped = self.shelf.drop_taken(name, reason);
                dropped.map(Some).map_err(|error| error.to_string())
            }
            Request::Failed(reason) => Err(reason),
            Request::ReadBack(name, chunk, reply) => {
                // A writer that does not wait any more has stopped.
                let _ = reply.send(self.shelf.read_taken(name, chunk));
                Ok(None)
            }
            Request::Read(name, chunk, reply) => {
                // Whoever does not wait any more has stopped.
                let _ = reply.send(self.shelf.read(name, chunk));
                Ok(None)
            }
        }
    }
}

/// Writes views of the state while the state machine goes on.
pub(crate) struct WriterThread<S> {
    pub(crate) views: Receiver<(Box<SnapshotHead>, S)>,
    pub(crate) shelf: ToShelf,
    /// Tells whether the state machine could restore what was written.
    pub(crate) check: fn(&mut dyn io::Read) -> io::Result<()>,
}

impl<S: Snapshot> WriterThread<S> {
    pub(crate) fn run(self) {
        while let Ok((head, view)) = self.views.recv() {
            let cut = || {
                Cutter::cut(&head, view, |chunk| {
                    let sent = self.shelf.requests.send(Request::Chunk(chunk));
                    sent.map_err(|_| io::Error::other("the replica stops"))
                })
            };
            let request = match catch_unwind(AssertUnwindSafe(cut)) {
                Ok(Ok(name)) => self.check(name),
                Ok(Err(error)) => Request::Failed(format!("it could not be written: {error}")),
                Err(panic) => {
                    Request::Failed(format!("writing it panicked: {}", panic_text(&*panic)))
                }
            };
            if self.shelf.requests.send(request).is_err() {
                return;
            }
        }
    }
}

impl<S> WriterThread<S> {
    /// A snapshot that cannot be restored never becomes complete: the log before it would be
    /// forgotten, and the state with it.
    fn check(&self, name: SnapshotName) -> Request {
        let mut chunks = source(&self.shelf, |chunk, to| Request::ReadBack(name, chunk, to));
        let mut failed = None;
        let check = || {
            let source = |chunk| {
                let read = chunks(chunk);
                failed = read.as_ref().err().map(ToString::to_string);
                read
            };
            (self.check)(&mut Joiner::join(name, source)?.1)
        };
        let checked = catch_unwind(AssertUnwindSafe(check));
        match (checked, failed) {
            (_, Some(reason)) => Request::Failed(format!("it could not be read back: {reason}")),
            (Ok(Ok(())), None) => Request::Taken(name),
            (Ok(Err(error)), None) => Request::Unreadable(name, error.to_string()),
            (Err(panic), None) => {
                let text = panic_text(&*panic);
                Request::Unreadable(name, format!("reading it panicked: {text}"))
            }
        }
    }
}

/// Reads the state in a snapshot, chunk by chunk.
pub(crate) fn open(
    name: SnapshotName,
    shelf: &ToShelf,
) -> io::Result<Joiner<impl FnMut(u64) -> io::Result<Bytes>>> {
    let source = source(shelf, move |chunk, to| Request::Read(name, chunk, to));
    Ok(Joiner::join(name, source)?.1)
}

/// Asks the shelf thread for chunks, one at a time.
fn source(
    shelf: &ToShelf,
    request: impl Fn(u64, Sender<Result<Bytes, ShelfError>>) -> Request,
) -> impl FnMut(u64) -> io::Result<Bytes> {
    move |chunk| {
        let (reply, answer) = bounded(1);
        let stops = || io::Error::other("the replica stops");
        shelf.requests.send(request(chunk, reply)).map_err(|_| stops())?;
        let answer = select! {
            recv(answer) -> answer => answer,
            recv(shelf.ended) -> _ => answer.try_recv().map_err(|_| RecvError),
        };
        answer.map_err(|_| stops())?.map_err(io::Error::other)
    }
}
