use crate::limits::MEMBERS_MAX;
use crate::{Change, Configuration, Error, Member, Reason, Result};

/// The members of one group, sorted, each with data of the transport.
///
/// Implements the membership rules that both embedded forms share, without sockets, locks or
/// events.
pub(crate) struct Membership<T> {
    seats: Vec<Seat<T>>,
}

/// A member of a group, with the transport's data about it.
pub(crate) struct Seat<T> {
    pub(crate) member: Member,
    pub(crate) keep: T,
}

impl<T> Default for Membership<T> {
    fn default() -> Self {
        Self { seats: Vec::new() }
    }
}

impl<T> Membership<T> {
    pub(crate) fn seats(&self) -> &[Seat<T>] {
        &self.seats
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        self.seats.iter().map(|seat| seat.member).collect()
    }

    /// Adds a member. Returns the configuration for all members, including the new one.
    pub(crate) fn join(&mut self, member: Member, keep: T) -> Result<Configuration> {
        let place = match self.seats.binary_search_by_key(&member, |seat| seat.member) {
            Ok(_) => return Err(Error::Exist),
            Err(_) if self.seats.len() >= MEMBERS_MAX => return Err(Error::TooManyGroups),
            Err(place) => place,
        };
        self.seats.insert(place, Seat { member, keep });
        let joined = vec![Change { member, reason: Reason::Join }];
        Ok(Configuration { members: self.members(), joined, left: Vec::new() })
    }

    /// Removes all members that match `goes`. Returns one configuration for the remaining members,
    /// and the removed seats; `None` if no member matches.
    pub(crate) fn remove(
        &mut self,
        reason: Reason,
        goes: impl Fn(&Seat<T>) -> bool,
    ) -> Option<(Configuration, Vec<Seat<T>>)> {
        let gone: Vec<_> = self.seats.extract_if(.., |seat| goes(seat)).collect();
        if gone.is_empty() {
            return None;
        }
        let left = gone.iter().map(|seat| Change { member: seat.member, reason }).collect();
        let configuration = Configuration { members: self.members(), joined: Vec::new(), left };
        Some((configuration, gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeId, Pid};

    fn member(node: u32, pid: u32) -> Member {
        Member { node: NodeId(node), pid: Pid(pid) }
    }

    #[test]
    fn members_are_sorted_and_unique() {
        let mut group = Membership::default();
        group.join(member(2, 1), ()).unwrap();
        group.join(member(1, 9), ()).unwrap();
        let configuration = group.join(member(1, 5), ()).unwrap();
        assert_eq!(configuration.members, [member(1, 5), member(1, 9), member(2, 1)]);
        assert_eq!(configuration.joined, [Change { member: member(1, 5), reason: Reason::Join }]);
        assert_eq!(group.join(member(1, 9), ()), Err(Error::Exist));
    }

    #[test]
    fn members_removed_together_share_one_configuration() {
        let mut group = Membership::default();
        for (node, pid) in [(1, 1), (2, 1), (2, 2)] {
            group.join(member(node, pid), ()).unwrap();
        }
        let (configuration, gone) =
            group.remove(Reason::NodeDown, |seat| seat.member.node == NodeId(2)).unwrap();
        assert_eq!(configuration.members, [member(1, 1)]);
        assert_eq!(configuration.left.len(), 2);
        assert_eq!(gone.len(), 2);
        assert!(group.remove(Reason::NodeDown, |_| false).is_none());
    }

    #[test]
    fn a_full_group_rejects_the_next_member() {
        let mut group = Membership::default();
        for pid in 0..128 {
            group.join(member(1, pid), ()).unwrap();
        }
        assert_eq!(group.join(member(1, 500), ()), Err(Error::TooManyGroups));
    }
}
