//! What several tests of replicas need.

pub(crate) mod disk;
