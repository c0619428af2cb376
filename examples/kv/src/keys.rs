use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Entry, Place};

/// Number of leading hash bits that select the part in which a key is stored.
const PARTS_BITS: u32 = 12;

/// All keys in hash order, cheap to clone. Clones share their parts; when one of them changes a
/// key, only that part is copied. So a snapshot of a million keys takes less than a millisecond,
/// and so does the first change of each part after it.
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

    /// Inserts an entry, and returns the entry that it replaces.
    pub(crate) fn insert(&mut self, place: Place, entry: Entry) -> Option<Entry> {
        let old = Arc::make_mut(&mut self.parts[part_of(place.hash)]).insert(place, entry);
        self.count += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, place: &Place) -> Option<Entry> {
        let part = &mut self.parts[part_of(place.hash)];
        // Checked first, because `make_mut` may copy the whole part.
        if !part.contains_key(place) {
            return None;
        }
        self.count -= 1;
        Arc::make_mut(part).remove(place)
    }

    /// Returns the parts in hash order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &BTreeMap<Place, Entry>> {
        self.parts.iter().map(|part| &**part)
    }

    /// Returns the entries whose hash is at least `hash`, in hash order.
    pub(crate) fn from(&self, hash: u64) -> impl Iterator<Item = (&Place, &Entry)> {
        let first = Place { hash, key: Bytes::new() };
        let (part, later) = (part_of(hash), part_of(hash) + 1);
        let rest = self.parts[later..].iter().flat_map(|part| part.iter());
        self.parts[part].range(first..).chain(rest)
    }
}
