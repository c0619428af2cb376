//! Phases of a run after its faults: disaster, recovery, rest, and elapsing time.

mod disaster;
mod elapsing;
mod recovery;
mod rest;
