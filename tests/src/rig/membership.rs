use std::fmt;

/// Identifies a ring: its lowest node, and a number that grows with each attempt. Two rings of a
/// partitioned cluster may have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId {
    /// The node that represents the ring.
    pub representative: u32,
    /// The number of the attempt.
    pub sequence: u64,
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same format as in Corosync's programs and logs.
        write!(f, "{}.{:x}", self.representative, self.sequence)
    }
}

/// A daemon's report about its ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The ring.
    pub ring: RingId,
    /// Its nodes, in ascending order.
    pub members: Vec<u32>,
    /// True if they are a majority of all nodes.
    pub quorate: bool,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quorate = if self.quorate { "quorate" } else { "not quorate" };
        write!(f, "ring {} of {:?}, {quorate}", self.ring, self.members)
    }
}

impl Membership {
    /// Parses the output of `corosync-quorumtool -s -i`. Returns `None` if it is incomplete.
    pub(super) fn read(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_prefix(':').map(str::trim)
        };
        let (representative, sequence) = field("Ring ID")?.split_once('.')?;
        let ring = RingId {
            representative: representative.parse().ok()?,
            sequence: u64::from_str_radix(sequence, 16).ok()?,
        };
        let quorate = field("Quorate")? == "Yes";
        let table = text.lines().skip_while(|line| !line.trim_start().starts_with("Nodeid"));
        let mut members: Vec<u32> =
            table.skip(1).map_while(|line| line.split_whitespace().next()?.parse().ok()).collect();
        members.sort_unstable();
        let count: usize = field("Nodes")?.parse().ok()?;
        (members.len() == count).then_some(Self { ring, members, quorate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Quorum information
------------------
Date:             Sun Nov 22 09:58:02 2026
Quorum provider:  corosync_votequorum
Nodes:            2
Node ID:          3
Ring ID:          1.1c
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   3
Flags:            Quorate 

Membership information
----------------------
    Nodeid      Votes Name
         3          1 10.77.0.3 (local)
         1          1 10.77.0.1
";

    #[test]
    fn a_complete_status_is_parsed() {
        let read = Membership::read(TEXT).unwrap();
        assert_eq!(read.ring, RingId { representative: 1, sequence: 0x1c });
        assert_eq!(read.members, [1, 3]);
        assert!(read.quorate);
        assert_eq!(read.to_string(), "ring 1.1c of [1, 3], quorate");
    }

    #[test]
    fn an_incomplete_status_is_rejected() {
        for end in 0..TEXT.len() - "         1          1 10.77.0.1\n".len() {
            assert_eq!(Membership::read(&TEXT[..end]), None, "{}", &TEXT[..end]);
        }
    }
}
