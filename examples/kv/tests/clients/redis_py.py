"""Tests redis-py with its default settings against kv: `redis_py.py PORT [CERTIFICATE]`.

With a certificate, the connection uses TLS, and the server must have that certificate.
Exits with status 0 if every reply was as expected.
"""

import sys
import time

import redis

port, tls = int(sys.argv[1]), sys.argv[2:]
options = {"ssl": True, "ssl_ca_certs": tls[0]} if tls else {}


def connect(**more):
    return redis.Redis("127.0.0.1", port, **options, **more)


def raises(kind, text, call):
    try:
        call()
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"no {text}")


def message(subscription):
    """Waits for the next message and returns it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = subscription.get_message(timeout=1)
        if found:
            return found
    raise AssertionError("no message")


client = connect()
assert client.ping()
assert client.flushall()
assert client.set("a", "1") and client.get("a") == b"1"
assert client.get("nobody") is None
assert client.incr("a") == 2 and client.decr("a", 5) == -3
assert client.mset({"b": "2", "c": "3"}) and client.mget("b", "nobody", "c") == [b"2", None, b"3"]
assert client.set("a", "x", nx=True) is None
assert client.set("a", "x", get=True) == b"-3"
assert client.exists("a", "b", "nobody") == 2 and client.type("a") == "string" or client.type("a") == b"string"
assert sorted(client.scan_iter()) == [b"a", b"b", b"c"]
assert client.dbsize() == 3
assert client.delete("b", "c", "nobody") == 2
assert client.append("a", "yz") == 3 and client.strlen("a") == 3

# Expiry.
assert client.set("t", "1", ex=1000) and 990 <= client.ttl("t") <= 1000
assert client.persist("t") and client.ttl("t") == -1 and client.ttl("nobody") == -2
assert client.expire("t", 1000) and client.pexpiretime("t") > time.time() * 1000

# Keys.
assert client.incrbyfloat("f", 10.5) == 10.5 and client.incrbyfloat("f", 0.1) == 10.6
assert client.copy("f", "g") and not client.copy("f", "g") and client.copy("f", "g", replace=True)
assert client.rename("g", "h") and not client.renamenx("f", "h")
raises(redis.ResponseError, "no such key", lambda: client.rename("nobody", "g"))
assert sorted(client.keys("[fh]")) == [b"f", b"h"]
assert client.randomkey() in client.keys()
assert client.object("encoding", "f") in ("embstr", b"embstr")
assert client.memory_usage("f") > 4 and client.memory_usage("nobody") is None
assert client.wait(0, 1000) >= 0
raises(redis.ResponseError, "SET key value IFEQ", lambda: client.eval("return 1", 0))
raises(redis.ResponseError, "EVALSHA is not supported", client.register_script("return 1"))
client.delete("f", "h")

# Large values, and bytes that are not UTF-8.
large = bytes(range(256)) * 3500
assert client.set("large", large) and client.get("large") == large

# A pipeline without a transaction.
pipe = client.pipeline(transaction=False)
for number in range(1000):
    pipe.set(f"p{number}", number)
assert pipe.execute() == [True] * 1000
for number in range(1000):
    pipe.get(f"p{number}")
assert pipe.execute() == [str(number).encode() for number in range(1000)]
# Alternating reads and writes take effect in the order in which they were sent.
client.set("m", 5)
pipe.get("m").incr("m").get("m").incr("m").exists("n").set("n", 1).exists("n").delete("n").get("n")
assert pipe.execute() == [b"5", 6, b"6", 7, 0, True, 1, 1, None]

# Transactions.
pipe = client.pipeline()
assert pipe.set("x", 1).incr("x").get("x").execute() == [True, 2, b"2"]
pipe.watch("x")
value = int(pipe.get("x"))
client.set("x", 10)
pipe.multi()
pipe.set("x", value + 1)
raises(redis.WatchError, "", pipe.execute)
assert client.transaction(lambda pipe: pipe.multi() or pipe.incr("x"), "x") == [11]
pipe = client.pipeline().set("s", "text").incr("s").get("s")
assert str(pipe.execute(raise_on_error=False)[1]) == "value is not an integer or out of range"

# Errors.
client.set("s", "text")
raises(redis.ResponseError, "value is not an integer", lambda: client.incr("s"))
raises(redis.ResponseError, "unknown command", lambda: client.lpush("l", 1))
raises(redis.ResponseError, "DB index is out of range", lambda: connect(db=1).ping())

# Data that clients report about themselves.
client.client_setname("me")
assert client.client_getname() in ("me", b"me")
info = client.client_info()
assert info["name"] == "me" and info["lib-name"].startswith("redis-py"), info
assert any(str(other["id"]) == str(info["id"]) for other in client.client_list())
assert int(info["resp"]) == 3, info
assert client.client_no_evict("ON") in (True, "OK", b"OK")
assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
assert client.info()["redis_version"]
assert client.command_count() > 50

# Changes of keys.
with client.pubsub() as changes:
    changes.subscribe("__keyspace@0__:k")
    changes.psubscribe("__keyevent@0__:*")
    assert message(changes)["type"] == "subscribe" and message(changes)["type"] == "psubscribe"
    client.set("k", 1)
    assert message(changes) == {"type": "message", "pattern": None, "channel": b"__keyspace@0__:k", "data": b"set"}
    assert message(changes)["channel"] == b"__keyevent@0__:set"
    changes.unsubscribe()
    assert message(changes)["type"] == "unsubscribe"

# Messages.
with client.pubsub(ignore_subscribe_messages=True) as messages:
    messages.subscribe("news")
    deadline = time.monotonic() + 60
    while client.publish("news", "hi") == 0:
        assert time.monotonic() < deadline
    assert message(messages)["data"] == b"hi"
    assert client.pubsub_numsub("news") == [(b"news", 1)]

# Version 2 of the protocol.
old = connect(protocol=2, decode_responses=True)
assert old.get("x") == "11" and old.config_get("save") == {"save": ""}
print("done")
