//! The simulated daemons, the rings that they form, and the processes connected to them.
//!
//! | file | what it models |
//! | --- | --- |
//! | `connection` | one connection of a process to the daemon of its node |
//! | `daemon` | a node: its queues and what it takes in from its connections |
//! | `packet` | one place in the order of a ring |
//! | `ring` | the order of one ring, its token, lost packets and recovery (Totem) |
//! | `ring_formation` | when rings break, and which nodes form the next one (Totem) |
//! | `group_service` | configurations and deliveries of the group (`exec/cpg.c`) |
//! | `node_set` | sets of nodes |

pub(super) mod connection;
pub(super) mod daemon;
mod group_service;
pub(super) mod node_set;
mod packet;
pub(super) mod ring;
mod ring_formation;
