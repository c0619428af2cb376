//! The metrics are valid for Prometheus: the same checks as `promtool check metrics`.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use cpg::embedded::LocalRing;
use kv::KvStore;
use kv::node::Node;
use plainsong::{Replica, ReplicaId};
use service_lib::{metrics, testing::until};

fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Returns true if the text is a valid name.
fn is_name(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.bytes().all(is_fine) && !text.as_bytes()[0].is_ascii_digit()
}

/// Checks a text in Prometheus's format. Returns the number of samples of each metric.
fn check(text: &str) -> BTreeMap<String, usize> {
    assert!(text.ends_with('\n'));
    let (mut helps, mut types, mut samples) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::<String, usize>::new());
    let mut series = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && helps.insert(name, help).is_none(), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(is_name(name) && !samples.contains_key(name), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            for part in name.split('_') {
                let is_unit = ["ms", "s", "kb", "mb", "milliseconds", "kilobytes"].contains(&part);
                assert!(!is_unit && !["gauge", "counter"].contains(&part), "{line}");
            }
            assert!(types.insert(name, kind).is_none(), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            if let Some(labels) = sample.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                let labels = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}')).unwrap();
                let (label, value) = labels.split_once("=\"").unwrap();
                assert!(is_name(label) && value.ends_with('"'), "{line}");
            }
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(helps.contains_key(name) && types.contains_key(name), "{line}");
            assert!(!series.contains(&sample), "twice: {line}");
            series.push(sample);
            *samples.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(types.keys().all(|name| samples.contains_key(*name)), "{types:?} {samples:?}");
    samples
}

#[test]
fn metrics_are_valid_and_other_paths_return_404() {
    let store = KvStore::default();
    let view = store.view();
    let replica = Replica::builder(ReplicaId(1), store)
        .transport(LocalRing::new().node())
        .group("metrics")
        .bootstrap([ReplicaId(1)])
        .start()
        .unwrap();
    let node = Node::new(replica, view);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listeners = runtime.block_on(metrics::listen(&"127.0.0.1:0".parse().unwrap())).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let status = node.clone();
    runtime.spawn(metrics::serve(listeners, move || status.status()));
    until("a group of one", || {
        let (state, text) = get(address, "/metrics");
        assert_eq!(state, "HTTP/1.1 200 OK");
        let samples = check(&text);
        assert_eq!(samples["plainsong_role"], 5, "{text}");
        (samples.contains_key("plainsong_member_acked_index")).then_some(())
    });
    for path in ["/", "/metric", "/metrics/", "/favicon.ico"] {
        assert_eq!(get(address, path).0, "HTTP/1.1 404 Not Found", "{path}");
    }
    runtime.shutdown_background();
    node.stop();
}
