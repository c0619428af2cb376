//! Stages of a run after its faults: a disaster, recovery, rest, and time that passes.

mod disaster;
mod elapsing;
mod recovery;
mod rest;
