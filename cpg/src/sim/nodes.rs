use std::ops::{BitAnd, BitOr, Sub};

/// A set of nodes, each named by its place in the sorted list of all. As nodes are sorted by
/// id, the first of a ring is its representative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nodes(u64);

impl Nodes {
    pub(super) const COUNT_MAX: usize = 64;

    pub(super) fn one(place: usize) -> Self {
        Self(1 << place)
    }

    pub(super) fn first(count: usize) -> Self {
        (0..count).collect()
    }

    pub(super) fn contains(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    pub(super) fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    pub(super) fn remove(&mut self, place: usize) {
        self.0 &= !(1 << place);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub(super) fn lowest(self) -> Option<usize> {
        self.iter().next()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (place < Self::COUNT_MAX).then_some(place)
        })
    }
}

impl BitOr for Nodes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Nodes {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Nodes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<usize> for Nodes {
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
        let mut nodes: Nodes = [63, 2, 5].into_iter().collect();
        assert_eq!(nodes.iter().collect::<Vec<_>>(), [2, 5, 63]);
        assert_eq!((nodes.len(), nodes.lowest()), (3, Some(2)));
        nodes.remove(2);
        assert!(!nodes.contains(2) && nodes.contains(63));
        assert_eq!(nodes & Nodes::first(6), Nodes::one(5));
        assert_eq!((nodes | Nodes::one(2)) - Nodes::one(63), [2, 5].into_iter().collect());
        assert!(Nodes::one(5).is_within(nodes) && !nodes.is_within(Nodes::one(5)));
        assert!(Nodes::default().is_empty() && Nodes::default().lowest().is_none());
    }
}
