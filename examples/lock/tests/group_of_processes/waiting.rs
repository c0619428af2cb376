//! Clients that wait for a lock at different servers.

use super::{lines, tokens_of_turns};
use crate::common::{Group, lock, until};

#[test]
fn only_one_of_many_clients_has_the_lock_at_a_time() {
    const WORKERS: usize = 6;
    const TURNS: usize = 4;
    let group = Group::start();
    let (file, counter) = (group.path("turns"), group.path("counter"));
    std::fs::write(&counter, "0\n").unwrap();
    let script = format!(
        "echo in $LOCK_TOKEN >>{0}; read n <{1}; echo $((n + 1)) >{1}; echo out $LOCK_TOKEN >>{0}",
        file.display(),
        counter.display()
    );
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (group, script) = (&group, &script);
            scope.spawn(move || {
                for turn in 0..TURNS {
                    group.run((worker + turn) % 3, &["guarded"], script).exits_with(0);
                }
            });
        }
    });
    tokens_of_turns(&file, WORKERS * TURNS);
    assert_eq!(lines(&counter, 1), [(WORKERS * TURNS).to_string()]);
}

#[test]
fn waiters_at_different_servers_get_the_lock_in_the_order_of_their_requests() {
    let group = Group::start();
    let mut holder = group.client(0);
    let mut last = holder.lock("LOCK a");
    let mut waiters = Vec::new();
    for at in 0..6 {
        let mut waiter = group.client(at % 3);
        waiter.send("LOCK a");
        group.waiters("a", at + 1);
        waiters.push(waiter);
    }
    drop(holder);
    for mut waiter in waiters {
        let token = waiter.token();
        assert!(token > last);
        last = token;
        // The connection ends without a request, as when a process is killed.
        drop(waiter);
    }
}

#[test]
fn shared_holders_hold_together_and_starve_no_exclusive_waiter() {
    let group = Group::start();
    let [mut one, mut two] = [0, 1].map(|at| group.client(at));
    let shared = [one.lock("LOCK a SHARED"), two.lock("LOCK a SHARED")];
    let mut alone = group.client(2);
    alone.send("LOCK a");
    group.waiters("a", 1);
    let mut late = group.client(0);
    assert_eq!(late.ask("LOCK a SHARED TRY"), "nil");
    late.send("LOCK a SHARED");
    group.waiters("a", 2);
    assert_eq!(one.ask("UNLOCK a"), ":1");
    assert_eq!(group.client(1).ask("LOCK a TRY"), "nil");
    assert_eq!(two.ask("UNLOCK a"), ":1");
    let token = alone.token();
    assert!(shared.iter().all(|before| *before < token));
    assert_eq!(alone.ask("UNLOCK a"), ":1");
    assert!(late.token() > token);
}

#[test]
fn waits_time_out_in_an_idle_group() {
    let group = Group::start();
    let mut holder = group.client(0);
    holder.lock("LOCK a");
    assert_eq!(group.client(1).ask("LOCK a TIMEOUT 0.3"), "nil");
    let touch = group.path("ran");
    let script = format!("touch {}", touch.display());
    group.run(2, &["--timeout", "0.3", "a"], &script).exits_with(1);
    group.run(2, &["--timeout", "0.3", "-E", "7", "a"], &script).exits_with(7);
    group.lock(2, "try", &["a"]).exits_with(1);
    assert!(!touch.exists());
    drop(holder);
    group.run(2, &["--timeout", "30", "a"], &script).exits_with(0);
    assert!(touch.exists());
    group.lock(2, "try", &["a"]).exits_with(0);
}

#[test]
fn a_waiter_whose_server_dies_waits_at_another_server() {
    let mut group = Group::start();
    let mut holder = group.client(2);
    holder.lock("LOCK a");
    let servers: Vec<&str> =
        group.servers[..2].iter().map(|server| server.socket.to_str().unwrap()).collect();
    let servers = servers.join(",");
    let arguments = ["run", "--at", &servers, "a", "--", "sh", "-c", "echo done"];
    let mut waiter = lock(&arguments);
    group.waiters("a", 1);
    group.servers[0].process.kill();
    waiter.says("waiting again");
    assert!(waiter.status().is_none());
    drop(holder);
    waiter.exits_with(0);
    until("what the command prints", || (waiter.out() == ["done"]).then_some(()));
}
