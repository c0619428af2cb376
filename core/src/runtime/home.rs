use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::StateMachine;
use crate::applying::Applier;
use crate::read::Read;

/// Where the state machine lives: the apply thread changes it, and local reads look at it from
/// the threads that ask, while nothing is applied.
pub(super) struct Home<M> {
    /// None once the apply thread has ended.
    applier: RwLock<Option<Applier<M>>>,
    /// Local reads that wait for the apply thread.
    queued: AtomicUsize,
}

impl<M: StateMachine> Home<M> {
    pub(super) fn new(machine: M) -> Self {
        Self { applier: RwLock::new(Some(Applier::new(machine))), queued: AtomicUsize::new(0) }
    }

    /// Carries out a read on this thread, unless something is being applied or another local
    /// read waits already: those of one thread see the state in their order. Gives it back then,
    /// and counts it as waiting.
    pub(super) fn look_now(&self, read: Read<M>) -> Result<(), Read<M>> {
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

    /// A read that waited has been carried out, or will not be.
    pub(super) fn waits_no_more(&self) {
        self.queued.fetch_sub(1, Ordering::Release);
    }

    /// For the apply thread: looks, while others may look as well.
    ///
    /// # Panics
    ///
    /// After [`leave`](Self::leave).
    pub(super) fn look<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        let applier = self.applier.read().unwrap_or_else(PoisonError::into_inner);
        let Some(applier) = &*applier else { panic!("{LEFT}") };
        look(applier.machine())
    }

    /// For the apply thread: changes it. Waits for those who look.
    ///
    /// # Panics
    ///
    /// After [`leave`](Self::leave).
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Applier<M>) -> R) -> R {
        let mut applier = self.applier.write().unwrap_or_else(PoisonError::into_inner);
        let Some(applier) = &mut *applier else { panic!("{LEFT}") };
        change(applier)
    }

    /// For the apply thread: drops it, so that nobody looks at it any more.
    pub(super) fn leave(&self) {
        let mut applier = self.applier.write().unwrap_or_else(PoisonError::into_inner);
        *applier = None;
    }
}

const LEFT: &str = "the apply thread lets the machine go at its end, and no sooner";
