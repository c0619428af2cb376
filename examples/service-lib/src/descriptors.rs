//! Limits on file descriptors. Enough of them are reserved that a crowd of clients can never keep
//! the log, the snapshots or the group from opening a file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Number of descriptors reserved for the log, the snapshots, the embedded ring with its up to 128
/// members, metrics and operators.
const RESERVED: usize = 256;

/// Raises this process's soft limit of open files to the hard limit. Most systems start processes
/// with a soft limit of 1,024 and a much higher hard limit.
///
/// Do not call this in a program that runs its user's commands: they inherit the limit, and some
/// rely on the usual one.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            %error, limit = limit.current,
            "cannot raise the limit of open files, so fewer clients can connect; raise it with \
             LimitNOFILE= in the unit file or `ulimit -n`"
        );
    }
}

/// Returns the maximum number of clients to serve at once: `wanted`, or fewer if the limit of open
/// files would leave too few descriptors for everything else. At least 1.
pub fn connections_max(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    within(limit, wanted)
}

/// Applies the limit of open files to `wanted`. If the limit is small, half of it is reserved.
fn within(limit: usize, wanted: usize) -> usize {
    let reserved = RESERVED.min(limit / 2);
    wanted.min(limit - reserved).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_enough_descriptors_for_everything_else() {
        assert_eq!(within(1024, 10_000), 768);
        assert_eq!(within(1024, 100), 100);
        assert_eq!(within(300, 10_000), 150);
        assert_eq!(within(usize::MAX, 10_000), 10_000);
        assert_eq!(within(0, 10_000), 1);
    }
}
