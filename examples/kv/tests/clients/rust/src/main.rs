//! Talks to kv with the defaults of the crate `redis`, and then with version 3 of the protocol.
//! The argument is the port. Ends with status 0 if every answer was right.

use std::time::Duration;

use redis::{Client, Commands, ConnectionLike, ErrorKind, RedisResult, ServerErrorKind, cmd, pipe};

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    for more in ["", "/?protocol=resp3"] {
        talk(&format!("redis://127.0.0.1:{port}{more}")).expect(more);
    }
    println!("done");
}

fn talk(url: &str) -> RedisResult<()> {
    let client = Client::open(url)?;
    let (mut one, mut other) = (client.get_connection()?, client.get_connection()?);
    assert!(one.check_connection());
    one.flushall::<()>()?;

    one.set::<_, _, ()>("a", 1)?;
    assert_eq!(one.get::<_, i64>("a")?, 1);
    assert_eq!(one.get::<_, Option<String>>("nobody")?, None);
    assert_eq!(one.incr::<_, _, i64>("a", 1)?, 2);
    one.mset::<_, _, ()>(&[("b", "2"), ("c", "3")])?;
    let values: Vec<Option<String>> = one.mget(&["b", "nobody", "c"])?;
    assert_eq!(values, [Some("2".into()), None, Some("3".into())]);
    assert_eq!(one.exists::<_, i64>(&["a", "b", "nobody"])?, 2);
    let mut keys: Vec<String> = one.scan()?.collect::<RedisResult<_>>()?;
    keys.sort();
    assert_eq!(keys, ["a", "b", "c"]);
    one.set_ex::<_, _, ()>("t", 1, 1000)?;
    assert!((990..=1000).contains(&one.ttl::<_, i64>("t")?));
    let large = vec![200_u8; 900_000];
    one.set::<_, _, ()>("large", &large)?;
    assert_eq!(one.get::<_, Vec<u8>>("large")?, large);

    // Keys.
    let sum: f64 = cmd("INCRBYFLOAT").arg("f").arg(10.5).query(&mut one)?;
    assert_eq!(sum, 10.5);
    assert!(cmd("COPY").arg("f").arg("g").query::<bool>(&mut one)?);
    one.rename::<_, _, ()>("g", "h")?;
    let mut keys: Vec<String> = one.keys("[fh]")?;
    keys.sort();
    assert_eq!(keys, ["f", "h"]);
    assert_eq!(one.object_encoding::<_, String>("f")?, "embstr");
    assert_eq!(one.del::<_, i64>(&["f", "h"])?, 2);

    // Pipelines.
    let mut many = pipe();
    (0..500).for_each(|number| drop(many.set(format!("p{number}"), number).ignore()));
    many.query::<()>(&mut one)?;
    let mut many = pipe();
    (0..500).for_each(|number| drop(many.get(format!("p{number}"))));
    assert_eq!(many.query::<Vec<i64>>(&mut one)?, (0..500).collect::<Vec<_>>());
    one.set::<_, _, ()>("m", 5)?;
    let mut mixed = pipe();
    mixed.get("m").incr("m", 1).get("m").incr("m", 1).exists("n").set("n", 1).ignore();
    mixed.exists("n").del("n").get("m");
    assert_eq!(mixed.query::<Vec<i64>>(&mut one)?, [5, 6, 6, 7, 0, 1, 1, 7]);

    // Transactions.
    let done: (String, i64, i64) =
        pipe().atomic().set("x", 1).incr("x", 1).get("x").query(&mut one)?;
    assert_eq!(done, ("OK".into(), 2, 2));
    cmd("WATCH").arg("x").exec(&mut one)?;
    other.set::<_, _, ()>("x", 10)?;
    let stopped: Option<(i64,)> = pipe().atomic().incr("x", 1).query(&mut one)?;
    assert_eq!(stopped, None);
    let tries: (i64,) = redis::transaction(&mut one, &["x"], |one, pipe| {
        let value: i64 = one.get("x")?;
        pipe.set("x", value + 1).ignore().get("x").query(one)
    })?;
    assert_eq!(tries, (11,));

    // Errors.
    one.set::<_, _, ()>("s", "text")?;
    let error = one.incr::<_, _, i64>("s", 1).expect_err("not a number");
    assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError), "{error}");
    assert!(error.to_string().contains("value is not an integer"), "{error}");

    // Changes of keys.
    let mut changes = client.get_connection()?;
    changes.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut changes = changes.as_pubsub();
    changes.subscribe("__keyspace@0__:k")?;
    changes.psubscribe("__keyevent@0__:*")?;
    one.set::<_, _, ()>("k", 1)?;
    let message = changes.get_message()?;
    assert_eq!(message.get_channel_name(), "__keyspace@0__:k");
    assert_eq!(message.get_payload::<String>()?, "set");
    let message = changes.get_message()?;
    assert_eq!(message.get_channel_name(), "__keyevent@0__:set");
    assert_eq!(message.get_payload::<String>()?, "k");
    changes.subscribe("news")?;
    assert_eq!(one.publish::<_, _, i64>("news", "hi")?, 1);
    assert_eq!(changes.get_message()?.get_payload::<String>()?, "hi");
    Ok(())
}
