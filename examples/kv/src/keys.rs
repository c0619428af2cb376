use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Entry, Place};

/// Into so many parts the keys are divided, by the first bits of their hashes.
const PARTS_BITS: u32 = 12;

/// All keys in the order of their places, and quick to clone: the clones share their parts
/// until one of them changes a key, and then only that part is copied. So a snapshot of a
/// million keys takes less than a millisecond, and so does the first change of each part after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    parts: Vec<Arc<BTreeMap<Place, Entry>>>,
    count: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self { parts: vec![Arc::default(); 1 << PARTS_BITS], count: 0 }
    }
}

fn part_of(hash: u64) -> usize {
    (hash >> (u64::BITS - PARTS_BITS)) as usize
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&Entry> {
        self.parts[part_of(place.hash)].get(place)
    }

    /// The entry that was there before.
    pub(crate) fn insert(&mut self, place: Place, entry: Entry) -> Option<Entry> {
        let old = Arc::make_mut(&mut self.parts[part_of(place.hash)]).insert(place, entry);
        self.count += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, place: &Place) -> Option<Entry> {
        let part = &mut self.parts[part_of(place.hash)];
        // A part is not copied for nothing.
        if !part.contains_key(place) {
            return None;
        }
        self.count -= 1;
        Arc::make_mut(part).remove(place)
    }

    /// The parts in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &BTreeMap<Place, Entry>> {
        self.parts.iter().map(|part| &**part)
    }

    /// Those whose hash is not less, in order.
    pub(crate) fn from(&self, hash: u64) -> impl Iterator<Item = (&Place, &Entry)> {
        let first = Place { hash, key: Bytes::new() };
        let (part, later) = (part_of(hash), part_of(hash) + 1);
        let rest = self.parts[later..].iter().flat_map(|part| part.iter());
        self.parts[part].range(first..).chain(rest)
    }
}
