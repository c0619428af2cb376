//! Members on Corosync that do not dispatch: they are held back, and cut off in the end. The
//! daemon itself would collect events for them until it has no memory left.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod corosync_common;

use std::time::{Duration, Instant};

use corosync_common::{Observer, SOON, be_child, insist};
use cpg::conformance::Member as _;
use cpg::embedded::{BACKLOG_BYTES_MAX, OWN_BYTES_MAX};
use cpg::{Error, Event, Guarantee, Reason};
use plainsong_tests::rig::{self, Cluster};

static MESSAGE: [u8; 64 << 10] = [7; 64 << 10];

/// How long sending must be refused to count as held back, and not as a busy moment.
const HELD_BACK: Duration = Duration::from_millis(500);

#[test]
fn child() {
    be_child();
}

#[test]
fn who_sends_and_does_not_dispatch_is_held_back() -> rig::Result<()> {
    if !rig::usable() {
        return Ok(());
    }
    let cluster = Cluster::builder().nodes(1).start()?;
    cluster.wait_for_ring(&[1], SOON)?;
    let [mut observer] = Observer::group([cluster.node(1)]);
    let (mut sent, mut last) = (0, Instant::now());
    while last.elapsed() < HELD_BACK {
        match observer.member.multicast(Guarantee::Agreed, &[&MESSAGE]) {
            Ok(()) => (sent, last) = (sent + 1, Instant::now()),
            Err(error) => assert_eq!(error, Error::TryAgain),
        }
        // What is on its way comes on top of what was heard.
        assert!(sent * MESSAGE.len() <= 2 * (OWN_BYTES_MAX + MESSAGE.len()), "not held back");
    }
    assert!(sent * MESSAGE.len() >= OWN_BYTES_MAX - MESSAGE.len());
    observer.until("all that was sent", |heard| {
        heard.iter().filter(|event| matches!(event, Event::Deliver { .. })).count() == sent
    });
    observer.send("free again");
    observer.until_message("free again");
    Ok(())
}

#[test]
fn who_never_dispatches_is_cut_off() -> rig::Result<()> {
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
        assert!(sent < 2 * BACKLOG_BYTES_MAX, "it is never cut off");
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
            Ok(event) => assert!(event.is_some(), "it is never told"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Library);
    assert!(bytes > BACKLOG_BYTES_MAX / 2, "what it had received is handed out");
    Ok(())
}
