use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::StateMachine;
use crate::machine::Applier;
use crate::read::Read;

/// The state machine, shared by the apply thread, which changes it, and by local reads, which run
/// on the threads of their callers while nothing is being applied.
pub(super) struct SharedMachine<M> {
    /// `None` once the apply thread has ended.
    applier: RwLock<Option<Applier<M>>>,
    /// Number of local reads that wait for the apply thread.
    queued: AtomicUsize,
}

impl<M: StateMachine> SharedMachine<M> {
    pub(super) fn new(machine: M) -> Self {
        Self { applier: RwLock::new(Some(Applier::new(machine))), queued: AtomicUsize::new(0) }
    }

    /// Runs a read on this thread. While an entry is being applied, or another local read waits,
    /// the read is returned instead and counted as waiting, so that the reads of one thread run in
    /// order.
    pub(super) fn try_read(&self, read: Read<M>) -> Result<(), Read<M>> {
        if self.queued.load(Ordering::Acquire) == 0
            && let Ok(applier) = self.applier.try_read()
            && let Some(applier) = &*applier
        {
            read(Ok(applier.machine()));
            return Ok(());
        }
        self.queued.fetch_add(1, Ordering::Release);
        Err(read)
    }

    /// Counts a waiting read as finished, whether it ran or was dropped.
    pub(super) fn read_finished(&self) {
        self.queued.fetch_sub(1, Ordering::Release);
    }

    /// Reads the machine on the apply thread; other reads may run at the same time.
    ///
    /// # Panics
    ///
    /// After [`clear`](Self::clear).
    pub(super) fn read<R>(&self, read: impl FnOnce(&M) -> R) -> R {
        let applier = self.applier.read().unwrap_or_else(PoisonError::into_inner);
        let Some(applier) = &*applier else { panic!("{CLEARED}") };
        read(applier.machine())
    }

    /// Changes the machine on the apply thread, after the reads in progress.
    ///
    /// # Panics
    ///
    /// After [`clear`](Self::clear).
    pub(super) fn write<R>(&self, write: impl FnOnce(&mut Applier<M>) -> R) -> R {
        let mut applier = self.applier.write().unwrap_or_else(PoisonError::into_inner);
        let Some(applier) = &mut *applier else { panic!("{CLEARED}") };
        write(applier)
    }

    /// Drops the machine at the end of the apply thread; no read can see it afterwards.
    pub(super) fn clear(&self) {
        let mut applier = self.applier.write().unwrap_or_else(PoisonError::into_inner);
        *applier = None;
    }
}

const CLEARED: &str = "the machine is cleared only when the apply thread ends";
