// Tests node-redis with its default settings against kv: `node_redis.mjs PORT`. Exits with status 0 if every
// reply was as expected.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_CLIENTS + "/");
const { createClient, WatchError } = require("redis");

const connect = async () => {
  const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
  client.on("error", (error) => { throw error; });
  return client.connect();
};

const client = await connect();
const other = await connect();
await client.flushAll();
assert.equal(await client.set("a", "1"), "OK");
assert.equal(await client.get("a"), "1");
assert.equal(await client.get("nobody"), null);
assert.equal(await client.incr("a"), 2);
assert.equal(await client.mSet({ b: "2", c: "3" }), "OK");
assert.deepEqual(await client.mGet(["b", "nobody", "c"]), ["2", null, "3"]);
assert.equal(await client.set("a", "x", { NX: true }), null);
assert.equal(await client.exists(["a", "b"]), 2);
const keys = [];
for await (const found of client.scanIterator()) keys.push(...[found].flat());
assert.deepEqual(keys.sort(), ["a", "b", "c"]);
assert.equal(await client.set("t", "1", { EX: 1000 }), "OK");
const ttl = await client.ttl("t");
assert.ok(ttl > 990 && ttl <= 1000, `${ttl}`);
const large = "x".repeat(900_000);
await client.set("large", large);
assert.equal(await client.get("large"), large);

// Keys.
assert.equal(Number(await client.incrByFloat("f", 10.5)), 10.5);
assert.ok(await client.copy("f", "g"));
assert.equal(await client.rename("g", "h"), "OK");
assert.deepEqual((await client.keys("[fh]")).sort(), ["f", "h"]);
assert.equal(typeof (await client.randomKey()), "string");
assert.equal(await client.objectEncoding("f"), "embstr");
assert.ok((await client.memoryUsage("f")) > 4);
assert.ok((await client.wait(0, 1000)) >= 0);
await assert.rejects(client.eval("return 1"), /SET key value IFEQ/);
assert.equal(await client.del(["f", "h"]), 2);

// Pipelines: requests made without waiting are sent together.
const many = Array.from({ length: 500 }, (_, number) => number);
await Promise.all(many.map((number) => client.set(`p${number}`, `${number}`)));
const got = await Promise.all(many.map((number) => client.get(`p${number}`)));
assert.deepEqual(got, many.map(String));
await client.set("m", "5");
assert.deepEqual(
  await Promise.all([
    client.get("m"), client.incr("m"), client.get("m"), client.incr("m"),
    client.exists("n"), client.set("n", "1"), client.exists("n"), client.del("n"), client.get("n"),
  ]),
  ["5", 6, "6", 7, 0, "OK", 1, 1, null],
);

// Transactions.
assert.deepEqual(await client.multi().set("x", "1").incr("x").get("x").exec(), ["OK", 2, "2"]);
await client.watch("x");
await other.set("x", "10");
await assert.rejects(client.multi().incr("x").exec(), WatchError);
assert.deepEqual(await client.multi().incr("x").exec(), [11]);

// Errors.
await client.set("s", "text");
await assert.rejects(client.incr("s"), /value is not an integer/);
await assert.rejects(client.sendCommand(["LPUSH", "l", "1"]), /unknown command/);

// Data that clients report about themselves.
await client.clientSetName("me");
assert.equal(await client.clientGetName(), "me");
assert.equal((await client.clientInfo()).name, "me");
assert.ok((await client.clientList()).length >= 2);
assert.equal((await client.configGet("maxmemory-policy"))["maxmemory-policy"], "noeviction");
assert.match(await client.info(), /redis_version/);

// Changes of keys. With version 3 of the protocol a subscriber may send any command.
const heard = [];
let arrived = () => {};
const count = async (wanted) => {
  while (heard.length < wanted) await new Promise((resolve) => { arrived = resolve; });
};
const listener = (message, channel) => { heard.push([channel, message]); arrived(); };
await client.subscribe("__keyspace@0__:k", listener);
await client.pSubscribe("__keyevent@0__:*", listener);
await client.set("k", "1");
await count(2);
assert.deepEqual(heard, [["__keyspace@0__:k", "set"], ["__keyevent@0__:set", "k"]]);
await client.subscribe("news", listener);
assert.equal(await other.publish("news", "hi"), 1);
await count(3);
assert.deepEqual(heard[2], ["news", "hi"]);
await client.unsubscribe("news");
await client.unsubscribe("__keyspace@0__:k");
await client.pUnsubscribe();
assert.equal(await client.get("k"), "1");

await client.close();
await other.close();
console.log("done");
