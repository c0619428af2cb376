//! File descriptors: clients get those that log, snapshots and group do not need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept back for the log, the snapshots, the ring of the group and its 128
/// members, metrics and operators.
const RESERVED: usize = 256;

/// Raises the limit of descriptors of this process as far as the system allows without privileges.
/// Most systems start processes with 1,024 and allow many more.
///
/// Not for a program that runs commands of its user: they inherit the limit, and some rely on the
/// usual one.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            %error, limit = limit.current,
            "cannot raise the limit of open files, so fewer clients are served: raise it with \
             LimitNOFILE= or ulimit -n"
        );
    }
}

/// Returns how many of `wanted` clients can be served at once, so that enough descriptors are left
/// for everything else; at least one.
pub fn connections_max(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    within(limit, wanted)
}

/// Of a small limit half is kept back.
fn within(limit: usize, wanted: usize) -> usize {
    let reserved = RESERVED.min(limit / 2);
    wanted.min(limit - reserved).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_descriptors_are_left_for_everything_else() {
        assert_eq!(within(1024, 10_000), 768);
        assert_eq!(within(1024, 100), 100);
        assert_eq!(within(300, 10_000), 150);
        assert_eq!(within(usize::MAX, 10_000), 10_000);
        assert_eq!(within(0, 10_000), 1);
    }
}
