use std::ops::{BitAnd, BitOr, Sub};

/// A set of nodes, each named by its place in the sorted list of all. As nodes are sorted by
/// id, the first of a ring is its representative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct NodeSet(u64);

impl NodeSet {
    pub(in crate::sim) const COUNT_MAX: usize = 64;

    pub(in crate::sim) fn one(place: usize) -> Self {
        Self(1 << place)
    }

    pub(in crate::sim) fn first(count: usize) -> Self {
        (0..count).collect()
    }

    pub(in crate::sim) fn contains(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    pub(in crate::sim) fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    pub(in crate::sim) fn remove(&mut self, place: usize) {
        self.0 &= !(1 << place);
    }

    pub(in crate::sim) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(in crate::sim) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(in crate::sim) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(in crate::sim) fn lowest(self) -> Option<usize> {
        self.iter().next()
    }

    pub(in crate::sim) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (place < Self::COUNT_MAX).then_some(place)
        })
    }
}

impl BitOr for NodeSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for NodeSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for NodeSet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut nodes = Self::default();
        places.into_iter().for_each(|place| nodes.insert(place));
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_nodes_is_a_set() {
        let mut nodes: NodeSet = [63, 2, 5].into_iter().collect();
        assert_eq!(nodes.iter().collect::<Vec<_>>(), [2, 5, 63]);
        assert_eq!((nodes.len(), nodes.lowest()), (3, Some(2)));
        nodes.remove(2);
        assert!(!nodes.contains(2) && nodes.contains(63));
        assert_eq!(nodes & NodeSet::first(6), NodeSet::one(5));
        assert_eq!((nodes | NodeSet::one(2)) - NodeSet::one(63), [2, 5].into_iter().collect());
        assert!(NodeSet::one(5).is_within(nodes) && !nodes.is_within(NodeSet::one(5)));
        assert!(NodeSet::default().is_empty() && NodeSet::default().lowest().is_none());
    }
}
