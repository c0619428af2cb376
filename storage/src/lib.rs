//! The log, the durable facts and the snapshots of a replica.
