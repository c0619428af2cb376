//! Cases about dispatching events.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Cluster;
use super::observer::new_group;
use crate::{Connection, Dispatch, Error, Event, Guarantee};

/// A connection that is alone in its group and has heard of its joining.
fn sole_member(cluster: &dyn Cluster) -> Connection {
    let connection = cluster.connect();
    connection.join(&new_group()).unwrap();
    assert!(connection.wait(Some(cluster.patience())).unwrap());
    assert_eq!(connection.dispatch(Dispatch::One, |_| ()), Ok(1));
    connection
}

fn send(connection: &Connection, message: &[u8]) {
    connection.multicast(Guarantee::Agreed, &[IoSlice::new(message)]).unwrap();
}

pub(super) fn dispatching_one_takes_one(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    for message in [b"1", b"2", b"3"] {
        send(&connection, message);
    }
    let mut heard = Vec::new();
    for count in 1..=3 {
        // Waits for it, as it may not be there yet.
        assert_eq!(connection.dispatch(Dispatch::One, |event| heard.push(event)), Ok(1));
        assert_eq!(heard.len(), count);
    }
    let contents: Vec<_> = heard.iter().map(content).collect();
    assert_eq!(contents, [b"1", b"2", b"3"]);
}

pub(super) fn dispatching_all_takes_what_is_there(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    assert_eq!(connection.dispatch(Dispatch::All, |_| ()), Ok(0), "nothing is no error");
    for _ in 0..50 {
        send(&connection, b"x");
    }
    let mut seen = 0;
    while seen < 50 {
        assert!(connection.wait(Some(cluster.patience())).unwrap(), "own messages do not come");
        let taken = connection.dispatch(Dispatch::All, |_| ()).unwrap();
        assert!(taken > 0, "something was there");
        seen += taken;
    }
    assert_eq!(seen, 50);
    assert_eq!(connection.dispatch(Dispatch::All, |_| ()), Ok(0));
}

pub(super) fn dispatching_without_blocking_says_when_nothing_is_there(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    let none = connection.dispatch(Dispatch::OneNonblocking, |_| panic!("nothing was sent"));
    assert_eq!(none, Err(Error::TryAgain));
    send(&connection, b"1");
    assert!(connection.wait(Some(cluster.patience())).unwrap());
    assert_eq!(connection.dispatch(Dispatch::OneNonblocking, |_| ()), Ok(1));
    assert_eq!(connection.dispatch(Dispatch::OneNonblocking, |_| ()), Err(Error::TryAgain));
}

pub(super) fn dispatching_blocks_until_woken(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let dispatcher = scope.spawn(|| {
            let mut heard = 0;
            let count = connection.dispatch(Dispatch::Blocking, |_| {
                heard += 1;
                if heard == 20 {
                    is_done.store(true, Ordering::Release);
                }
            });
            (count, heard)
        });
        for _ in 0..20 {
            send(&connection, b"x");
        }
        let deadline = Instant::now() + cluster.patience();
        while !is_done.load(Ordering::Acquire) {
            assert!(Instant::now() < deadline, "the dispatcher does not hear");
            thread::yield_now();
        }
        connection.wake();
        assert_eq!(dispatcher.join().unwrap(), (Ok(20), 20));
    });
}

pub(super) fn a_nested_dispatch_is_busy(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    send(&connection, b"outer");
    let mut nested = None;
    connection
        .dispatch(Dispatch::One, |_| nested = Some(connection.dispatch(Dispatch::All, |_| ())))
        .unwrap();
    assert_eq!(nested, Some(Err(Error::Busy)));
    assert_eq!(connection.dispatch(Dispatch::All, |_| ()), Ok(0), "not busy any more");
}

pub(super) fn a_handler_may_send(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    send(&connection, b"question");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        connection
            .dispatch(Dispatch::One, |event| {
                if content(&event) == b"question" {
                    send(&connection, b"answer");
                }
                heard.push(event);
            })
            .unwrap();
    }
    assert_eq!(content(&heard[1]), b"answer");
}

pub(super) fn the_descriptor_is_readable_while_there_are_events(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    assert!(!is_readable(&connection, Duration::ZERO));
    for _ in 0..3 {
        send(&connection, b"1");
        send(&connection, b"2");
        assert!(is_readable(&connection, cluster.patience()));
        assert_eq!(connection.dispatch(Dispatch::One, |_| ()), Ok(1));
        assert!(is_readable(&connection, cluster.patience()), "one more is there");
        assert_eq!(connection.dispatch(Dispatch::One, |_| ()), Ok(1));
        assert!(!is_readable(&connection, Duration::ZERO), "all are taken");
    }
}

fn is_readable(connection: &Connection, timeout: Duration) -> bool {
    let fd = connection.fd().unwrap();
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

pub(super) fn waiting_takes_nothing_and_ends_in_time(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    let start = Instant::now();
    assert_eq!(connection.wait(Some(Duration::from_millis(20))), Ok(false));
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(start.elapsed() < cluster.patience());
    send(&connection, b"x");
    assert_eq!(connection.wait(Some(cluster.patience())), Ok(true));
    assert_eq!(connection.wait(Some(cluster.patience())), Ok(true));
    assert_eq!(connection.dispatch(Dispatch::All, |_| ()), Ok(1));
}

pub(super) fn a_wake_is_heard_even_if_it_comes_early(cluster: &dyn Cluster) {
    let connection = sole_member(cluster);
    connection.wake();
    assert_eq!(connection.wait(None), Ok(false));
    connection.wake();
    assert_eq!(connection.dispatch(Dispatch::Blocking, |_| ()), Ok(0));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| connection.wait(Some(cluster.patience())));
        connection.wake();
        assert_eq!(waiter.join().unwrap(), Ok(false));
    });
}

pub(super) fn a_context_is_kept(cluster: &dyn Cluster) {
    let connection = cluster.connect();
    assert!(connection.context().is_none());
    connection.set_context(Some(Arc::new(String::from("kept"))));
    let context = connection.context().unwrap();
    assert_eq!(*context.downcast_ref::<String>().unwrap(), "kept");
    connection.set_context(None);
    assert!(connection.context().is_none());
}

fn content(event: &Event) -> &[u8] {
    match event {
        Event::Deliver { message, .. } => message,
        other => panic!("not a message: {other:?}"),
    }
}
