//! The guide: how to build a service on Plainsong, in short chapters.
//!
//! 1. [Your first service](first_service): one state machine in three processes
//! 2. [Commands, outputs and errors](commands)
//! 3. [Snapshots](snapshots) of small and large states
//! 4. [Time, timers and leases](time)
//! 5. [Change feeds](change_feeds)
//! 6. [Async services](async_services) and back-pressure
//! 7. [Clients, retries and exactly-once](clients)
//! 8. [Read consistency](reads)
//! 9. [Testing](testing) with the simulator and the determinism checker
//! 10. [Changing a state machine](evolution) without stopping the group
//! 11. [Operating](operating)
//! 12. [Limits](limits)
//! 13. [Questions and answers](faq)
//!
//! For reference, the documents of the repository:
//!
//! - [The replication protocol](protocol): numbered rules, cited as `N1` or `P2` in the code
//! - [Formats](formats) of frames, of the log and of snapshots
//!
//! Every code block of the guide is compiled and run by the tests. The same text is an mdBook:
//! `mdbook build docs/book`.

#[doc = include_str!("async_services.md")]
pub mod async_services {}
#[doc = include_str!("change_feeds.md")]
pub mod change_feeds {}
#[doc = include_str!("clients.md")]
pub mod clients {}
#[doc = include_str!("commands.md")]
pub mod commands {}
#[doc = include_str!("evolution.md")]
pub mod evolution {}
#[doc = include_str!("faq.md")]
pub mod faq {}
#[doc = include_str!("first_service.md")]
pub mod first_service {}
#[doc = include_str!("formats.md")]
pub mod formats {}
#[doc = include_str!("limits.md")]
pub mod limits {}
#[doc = include_str!("operating.md")]
pub mod operating {}
#[doc = include_str!("protocol.md")]
pub mod protocol {}
#[doc = include_str!("reads.md")]
pub mod reads {}
#[doc = include_str!("snapshots.md")]
pub mod snapshots {}
// The code of this chapter needs the feature.
#[cfg_attr(feature = "testing", doc = include_str!("testing.md"))]
#[cfg_attr(not(feature = "testing"), doc = "This chapter needs the feature `testing`.")]
pub mod testing {}
#[doc = include_str!("time.md")]
pub mod time {}
