//! Members on Corosync that do not dispatch: their sends are rejected, and finally they are
//! disconnected. Otherwise the daemon would queue events for them until it runs out of memory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use std::time::{Duration, Instant};

use corosync_common::{Observer, SOON, be_child, insist};
use cpg::conformance::Member as _;
use cpg::embedded::{BACKLOG_BYTES_MAX, OWN_BYTES_MAX};
use cpg::{Error, Event, Guarantee, Reason};
use plainsong_tests::rig::{self, Cluster};

static MESSAGE: [u8; 64 << 10] = [7; 64 << 10];

/// Time for which sends must be rejected to count as throttled, rather than a busy moment.
const THROTTLED: Duration = Duration::from_millis(500);

#[test]
fn child() {
    be_child();
}

#[test]
fn a_sender_that_does_not_dispatch_is_throttled() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(1).start()?;
    cluster.wait_for_ring(&[1], SOON)?;
    let [mut observer] = Observer::group([cluster.node(1)]);
    let (mut sent, mut last) = (0, Instant::now());
    while last.elapsed() < THROTTLED {
        match observer.member.multicast(Guarantee::Agreed, &[&MESSAGE]) {
            Ok(()) => (sent, last) = (sent + 1, Instant::now()),
            Err(error) => assert_eq!(error, Error::TryAgain),
        }
        // Messages in transit add to those already received.
        assert!(sent * MESSAGE.len() <= 2 * (OWN_BYTES_MAX + MESSAGE.len()), "not throttled");
    }
    assert!(sent * MESSAGE.len() >= OWN_BYTES_MAX - MESSAGE.len());
    observer.until("all that was sent", |received| {
        received.iter().filter(|event| matches!(event, Event::Deliver { .. })).count() == sent
    });
    observer.send("free again");
    observer.until_message("free again");
    Ok(())
}

#[test]
fn a_member_that_never_dispatches_is_disconnected() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(1).start()?;
    cluster.wait_for_ring(&[1], SOON)?;
    let [mut sends, mut sleeps] = Observer::group([cluster.node(1), cluster.node(1)]);
    let mut why = None;
    let mut sent = 0;
    while why.is_none() {
        insist(|| match sends.member.multicast(Guarantee::Agreed, &[&MESSAGE]) {
            Err(Error::TryAgain) => Ok(()),
            outcome => outcome.map(|()| sent += MESSAGE.len()),
        });
        assert!(sent < 2 * BACKLOG_BYTES_MAX, "it is never disconnected");
        while let Some(event) = sends.member.next(Duration::ZERO).unwrap() {
            if let Event::Configuration(change) = event {
                why = change.left.first().copied();
            }
        }
    }
    assert_eq!(why.map(|gone| (gone.member, gone.reason)), Some((sleeps.me, Reason::ProcessDown)));

    let mut bytes = 0;
    let error = loop {
        match sleeps.member.next(SOON) {
            Ok(Some(Event::Deliver { message, .. })) => bytes += message.len(),
            Ok(event) => assert!(event.is_some(), "it gets no error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Library);
    assert!(bytes > BACKLOG_BYTES_MAX / 2, "received messages are delivered before the error");
    Ok(())
}
