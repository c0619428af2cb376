use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};

static GATE: Mutex<()> = Mutex::new(());
static APPLYING: Mutex<Option<Sender<()>>> = Mutex::new(None);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds the next command at [`pass`] until the guard is dropped. The receiver gets a message once
/// the command is there. For one test of a program at a time.
pub(crate) fn hold() -> (MutexGuard<'static, ()>, Receiver<()>) {
    let gate = lock(&GATE);
    let (applying, applies) = mpsc::channel();
    *lock(&APPLYING) = Some(applying);
    (gate, applies)
}

/// Called by `apply` for a command that a test holds.
pub(crate) fn pass() {
    lock(&APPLYING).take().unwrap().send(()).unwrap();
    drop(lock(&GATE));
}
