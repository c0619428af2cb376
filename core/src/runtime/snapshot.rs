use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvError, Sender, bounded, select};

use super::{Shared, ThreadEvent};
use crate::engine::SnapshotHead;
use crate::panics::panic_text;
use crate::snapshot::{
    Snapshot, SnapshotCommand, SnapshotError, SnapshotEvent, SnapshotManager, SnapshotName,
    SnapshotReader, SnapshotWriter,
};

/// A request of another thread of this replica to the snapshot thread.
pub(crate) enum SnapshotRequest {
    /// Appends the next chunk to the draft of the replica's own state.
    Chunk(Bytes),
    /// Completes the draft.
    Taken(SnapshotName),
    /// Drops the draft, because it could not be restored.
    Unreadable(SnapshotName, String),
    /// Stops the replica, because the draft could not be written.
    Failed(String),
    /// Reads back a chunk of the draft.
    ReadBack(SnapshotName, u64, Sender<Result<Bytes, SnapshotError>>),
    /// Reads a chunk of a complete snapshot.
    Read(SnapshotName, u64, Sender<Result<Bytes, SnapshotError>>),
}

/// The apply and writer threads' access to the snapshot thread.
#[derive(Clone)]
pub(crate) struct SnapshotClient {
    pub(crate) requests: Sender<SnapshotRequest>,
    /// Closed when the thread has ended. Requests left in its inbox, and their reply channels, are
    /// dropped only when all clients are gone, so a client must not wait for the reply alone.
    pub(crate) ended: Receiver<()>,
}

/// The thread that owns the snapshot store. A slow disk delays only the work on snapshots.
pub(crate) struct SnapshotThread {
    manager: SnapshotManager,
    commands: Receiver<SnapshotCommand>,
    requests: Receiver<SnapshotRequest>,
    /// Closes [`SnapshotClient::ended`] when the thread ends.
    _lives: Sender<()>,
    events: Sender<ThreadEvent>,
    shared: Arc<Shared>,
}

impl SnapshotThread {
    pub(crate) fn new(
        manager: SnapshotManager,
        commands: Receiver<SnapshotCommand>,
        requests: Receiver<SnapshotRequest>,
        lives: Sender<()>,
        events: Sender<ThreadEvent>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { manager, commands, requests, _lives: lives, events, shared }
    }

    pub(crate) fn run(mut self) {
        loop {
            let done = select! {
                recv(self.commands) -> command => match command {
                    Ok(command) => self.manager.carry_out(command).map_err(|error| error.to_string()),
                    Err(_) => return,
                },
                recv(self.requests) -> request => match request {
                    Ok(request) => self.answer(request),
                    Err(_) => return,
                },
            };
            let event = match done {
                Ok(None) => continue,
                Ok(Some(event)) => ThreadEvent::Snapshot(event),
                Err(reason) => ThreadEvent::SnapshotFailed(reason),
            };
            let failed = matches!(event, ThreadEvent::SnapshotFailed(_));
            if self.events.send(event).is_err() {
                return;
            }
            self.shared.wake();
            if failed {
                return;
            }
        }
    }

    fn answer(&mut self, request: SnapshotRequest) -> Result<Option<SnapshotEvent>, String> {
        match request {
            SnapshotRequest::Chunk(bytes) => {
                self.manager.take(bytes).map(|()| None).map_err(|error| error.to_string())
            }
            SnapshotRequest::Taken(name) => {
                self.manager.taken(name).map(Some).map_err(|error| error.to_string())
            }
            SnapshotRequest::Unreadable(name, reason) => {
                let dropped = self.manager.drop_taken(name, reason);
                dropped.map(Some).map_err(|error| error.to_string())
            }
            SnapshotRequest::Failed(reason) => Err(reason),
            SnapshotRequest::ReadBack(name, chunk, reply) => {
                // Fails if the writer has ended.
                let _ = reply.send(self.manager.read_taken(name, chunk));
                Ok(None)
            }
            SnapshotRequest::Read(name, chunk, reply) => {
                // Fails if the reader has ended.
                let _ = reply.send(self.manager.read(name, chunk));
                Ok(None)
            }
        }
    }
}

/// The thread that writes snapshots while the state machine applies further commands.
pub(crate) struct WriterThread<S> {
    pub(crate) views: Receiver<(Box<SnapshotHead>, S)>,
    pub(crate) snapshots: SnapshotClient,
    /// Checks that the state machine could restore a written snapshot.
    pub(crate) check: fn(&mut dyn io::Read) -> io::Result<()>,
}

impl<S: Snapshot> WriterThread<S> {
    pub(crate) fn run(self) {
        while let Ok((head, view)) = self.views.recv() {
            let cut = || {
                SnapshotWriter::write_chunks(&head, view, |chunk| {
                    let sent = self.snapshots.requests.send(SnapshotRequest::Chunk(chunk));
                    sent.map_err(|_| io::Error::other("the replica is stopping"))
                })
            };
            let request = match catch_unwind(AssertUnwindSafe(cut)) {
                Ok(Ok(name)) => self.check(name),
                Ok(Err(error)) => {
                    SnapshotRequest::Failed(format!("it could not be written: {error}"))
                }
                Err(panic) => {
                    SnapshotRequest::Failed(format!("writing it panicked: {}", panic_text(&*panic)))
                }
            };
            if self.snapshots.requests.send(request).is_err() {
                return;
            }
        }
    }
}

impl<S> WriterThread<S> {
    /// Reads a written snapshot back. A snapshot that cannot be restored must never become
    /// complete, because the log before it would be dropped, and the state would be lost.
    fn check(&self, name: SnapshotName) -> SnapshotRequest {
        let mut chunks =
            source(&self.snapshots, |chunk, to| SnapshotRequest::ReadBack(name, chunk, to));
        let mut failed = None;
        let check = || {
            let source = |chunk| {
                let read = chunks(chunk);
                failed = read.as_ref().err().map(ToString::to_string);
                read
            };
            (self.check)(&mut SnapshotReader::open(name, source)?.1)
        };
        let checked = catch_unwind(AssertUnwindSafe(check));
        match (checked, failed) {
            (_, Some(reason)) => {
                SnapshotRequest::Failed(format!("it could not be read back: {reason}"))
            }
            (Ok(Ok(())), None) => SnapshotRequest::Taken(name),
            (Ok(Err(error)), None) => SnapshotRequest::Unreadable(name, error.to_string()),
            (Err(panic), None) => {
                let text = panic_text(&*panic);
                SnapshotRequest::Unreadable(name, format!("reading it panicked: {text}"))
            }
        }
    }
}

/// Opens the state in a complete snapshot.
pub(crate) fn open(
    name: SnapshotName,
    snapshots: &SnapshotClient,
) -> io::Result<SnapshotReader<impl FnMut(u64) -> io::Result<Bytes>>> {
    let source = source(snapshots, move |chunk, to| SnapshotRequest::Read(name, chunk, to));
    Ok(SnapshotReader::open(name, source)?.1)
}

/// Requests chunks from the snapshot thread, one at a time.
fn source(
    snapshots: &SnapshotClient,
    request: impl Fn(u64, Sender<Result<Bytes, SnapshotError>>) -> SnapshotRequest,
) -> impl FnMut(u64) -> io::Result<Bytes> {
    move |chunk| {
        let (reply, answer) = bounded(1);
        let stops = || io::Error::other("the replica is stopping");
        snapshots.requests.send(request(chunk, reply)).map_err(|_| stops())?;
        let answer = select! {
            recv(answer) -> answer => answer,
            recv(snapshots.ended) -> _ => answer.try_recv().map_err(|_| RecvError),
        };
        answer.map_err(|_| stops())?.map_err(io::Error::other)
    }
}
