use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A counting semaphore for bytes, which bounds the memory of queued commands.
#[derive(Debug)]
pub(super) struct ByteSemaphore {
    max: usize,
    used: AtomicUsize,
    /// Number of waiting threads. Changed under the lock, so that no wake-up is lost.
    waiting: AtomicUsize,
    lock: Mutex<()>,
    freed: Condvar,
}

/// Bytes taken from a [`ByteSemaphore`], returned when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    semaphore: Arc<ByteSemaphore>,
    bytes: usize,
}

impl ByteSemaphore {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let (used, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (lock, freed) = (Mutex::new(()), Condvar::new());
        Arc::new(Self { max, used, waiting, lock, freed })
    }

    /// Acquires `bytes` if they are free. A request beyond the maximum is granted if no other
    /// permit exists.
    pub(super) fn try_acquire(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            let all = used.checked_add(bytes)?;
            (used == 0 || all <= self.max).then_some(all)
        });
        taken.ok().map(|_| Permit { semaphore: Arc::clone(self), bytes })
    }

    /// Acquires `bytes`, waiting until they are free.
    pub(super) fn acquire(self: &Arc<Self>, bytes: usize) -> Permit {
        if let Some(permit) = self.try_acquire(bytes) {
            return permit;
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(permit) = self.try_acquire(bytes) {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                return permit;
            }
            lock = self.freed.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.used.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.semaphore.waiting.load(Ordering::SeqCst) > 0 {
            let _lock = self.semaphore.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.semaphore.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn permits_are_limited_to_the_maximum_and_one_larger_request() {
        let semaphore = ByteSemaphore::new(10);
        let large = semaphore.try_acquire(20).unwrap();
        assert!(semaphore.try_acquire(1).is_none());
        drop(large);
        let (_seven, three) =
            (semaphore.try_acquire(7).unwrap(), semaphore.try_acquire(3).unwrap());
        assert!(semaphore.try_acquire(1).is_none());
        drop(three);
        assert!(semaphore.try_acquire(4).is_none());
        drop(semaphore.try_acquire(3).unwrap());
    }

    #[test]
    fn a_waiting_thread_acquires_returned_bytes() {
        let semaphore = ByteSemaphore::new(10);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for bytes in 1..2000 {
                        drop(semaphore.acquire(bytes % 14));
                    }
                });
            }
        });
        assert_eq!(semaphore.used.load(Ordering::SeqCst), 0);
    }
}
