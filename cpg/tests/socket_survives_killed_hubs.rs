//! The hub can be killed at any moment, under load: the others soon continue in one order,
//! without a duplicate and without losing their own messages.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::loader::{Line, Loader, assert_agree, be_loader};
use common::{Meeting, hub_of, until, within};

#[test]
fn loader() {
    be_loader();
}

/// Loaders that all hear each other.
fn start(meeting: &Meeting, count: u64) -> Vec<Loader> {
    let loaders: Vec<_> = (0..count)
        .map(|name| {
            let loader = Loader::start(meeting, name);
            until("a loader to hear", || loader.length() > 0);
            loader
        })
        .collect();
    await_all_heard(&loaders);
    loaders
}

/// Waits until each has heard new messages of all.
fn await_all_heard(loaders: &[Loader]) {
    let before: Vec<_> = loaders.iter().map(|loader| loader.lines().len()).collect();
    for (loader, before) in loaders.iter().zip(before) {
        until("new messages of all", || {
            let lines = loader.lines();
            loaders.iter().all(|other| {
                lines
                    .iter()
                    .skip(before)
                    .any(|line| matches!(line, Line::Message(name, _) if *name == other.name))
            })
        });
    }
}

fn finish(mut loaders: Vec<Loader>) {
    loaders.iter_mut().for_each(Loader::finish);
    loaders.iter_mut().for_each(Loader::assert_finished);
    assert_agree(&loaders);
}

fn rings(loader: &Loader) -> usize {
    loader.lines().iter().filter(|line| matches!(line, Line::Ring(_))).count()
}

#[test]
fn killed_hub_after_hub() {
    let meeting = Meeting::new();
    let mut loaders = start(&meeting, 4);
    for round in 0..5 {
        let hub = hub_of(&meeting.path()).unwrap();
        let place = loaders.iter().position(|loader| loader.pid() == hub).unwrap();
        let before: Vec<_> = loaders.iter().map(rings).collect();
        loaders.remove(place).kill();
        let killed = Instant::now();
        let mut before = before;
        before.remove(place);
        for (loader, before) in loaders.iter().zip(before) {
            within(Duration::from_secs(5), "the next ring", || rings(loader) > before);
        }
        println!("round {round}: on again after {:?}", killed.elapsed());
        await_all_heard(&loaders);
        let loader = Loader::start(&meeting, 10 + round);
        until("a loader to hear", || loader.length() > 0);
        loaders.push(loader);
        await_all_heard(&loaders);
    }
    finish(loaders);
}

#[test]
fn killed_hub_and_member_at_once() {
    let meeting = Meeting::new();
    let mut loaders = start(&meeting, 5);
    let hub = hub_of(&meeting.path()).unwrap();
    loaders.sort_by_key(|loader| (loader.pid() != hub, loader.name));
    loaders.remove(0).kill();
    loaders.remove(1).kill();
    await_all_heard(&loaders);
    finish(loaders);
}

#[test]
fn killed_while_taking_over() {
    let meeting = Meeting::new();
    let mut loaders = start(&meeting, 5);
    for _ in 0..3 {
        let hub = hub_of(&meeting.path());
        if let Some(place) = loaders.iter().position(|loader| Some(loader.pid()) == hub) {
            loaders.remove(place).kill();
        }
        // As soon as there is another one, whatever it has done by then.
        until("another hub", || hub_of(&meeting.path()).is_some_and(|new| Some(new) != hub));
    }
    await_all_heard(&loaders);
    finish(loaders);
}

#[test]
fn killed_members_under_load() {
    let meeting = Meeting::new();
    let mut loaders = start(&meeting, 4);
    for name in 10..13 {
        let hub = hub_of(&meeting.path()).unwrap();
        let place = loaders.iter().position(|loader| loader.pid() != hub).unwrap();
        loaders.remove(place).kill();
        let loader = Loader::start(&meeting, name);
        until("a loader to hear", || loader.length() > 0);
        loaders.push(loader);
        await_all_heard(&loaders);
    }
    assert_eq!(rings(&loaders[0]), 0, "a member's death is no new ring");
    finish(loaders);
}
