//! Measurements of Plainsong.
