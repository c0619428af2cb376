use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Room for a number of bytes. Who needs some waits until there is enough, or is told that
/// there is not.
#[derive(Debug)]
pub(super) struct Room {
    max: usize,
    used: AtomicUsize,
    /// How many wait; under the lock they cannot miss what is given back.
    waiting: AtomicUsize,
    lock: Mutex<()>,
    freed: Condvar,
}

/// Some of the room, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let (used, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (lock, freed) = (Mutex::new(()), Condvar::new());
        Arc::new(Self { max, used, waiting, lock, freed })
    }

    /// Takes so many bytes if there is room for them, or if nobody else has any.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            let all = used.checked_add(bytes)?;
            (used == 0 || all <= self.max).then_some(all)
        });
        taken.ok().map(|_| Place { room: Arc::clone(self), bytes })
    }

    /// Waits for it.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Place {
        if let Some(place) = self.try_take(bytes) {
            return place;
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            if let Some(place) = self.try_take(bytes) {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                return place;
            }
            lock = self.freed.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.room.waiting.load(Ordering::SeqCst) > 0 {
            let _lock = self.room.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.room.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn there_is_room_for_so_much_and_for_one_that_is_larger() {
        let room = Room::new(10);
        let large = room.try_take(20).unwrap();
        assert!(room.try_take(1).is_none());
        drop(large);
        let (_seven, three) = (room.try_take(7).unwrap(), room.try_take(3).unwrap());
        assert!(room.try_take(1).is_none());
        drop(three);
        assert!(room.try_take(4).is_none());
        drop(room.try_take(3).unwrap());
    }

    #[test]
    fn who_waits_gets_room_when_it_is_given_back() {
        let room = Room::new(10);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for bytes in 1..2000 {
                        drop(room.take(bytes % 14));
                    }
                });
            }
        });
        assert_eq!(room.used.load(Ordering::SeqCst), 0);
    }
}
