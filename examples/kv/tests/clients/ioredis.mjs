// Tests ioredis with its default settings against kv: `ioredis.mjs PORT`. Exits with status 0 if every
// reply was as expected.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_CLIENTS + "/");
const { Redis } = require("ioredis");

const connect = () => new Redis(Number(process.argv[2]), "127.0.0.1");
const [client, other, listener] = [connect(), connect(), connect()];

await client.flushall();
assert.equal(await client.set("a", "1"), "OK");
assert.equal(await client.get("a"), "1");
assert.equal(await client.get("nobody"), null);
assert.equal(await client.incr("a"), 2);
assert.equal(await client.mset({ b: "2", c: "3" }), "OK");
assert.deepEqual(await client.mget("b", "nobody", "c"), ["2", null, "3"]);
assert.equal(await client.set("a", "x", "NX"), null);
assert.equal(await client.exists("a", "b"), 2);
const keys = [];
for await (const found of client.scanStream()) keys.push(...found);
assert.deepEqual(keys.sort(), ["a", "b", "c"]);
assert.equal(await client.set("t", "1", "EX", 1000), "OK");
const ttl = await client.ttl("t");
assert.ok(ttl > 990 && ttl <= 1000, `${ttl}`);
const large = Buffer.alloc(900_000, 200);
await client.set("large", large);
assert.ok(large.equals(await client.getBuffer("large")));

// Keys.
assert.equal(Number(await client.incrbyfloat("f", 10.5)), 10.5);
assert.equal(await client.copy("f", "g"), 1);
assert.equal(await client.rename("g", "h"), "OK");
assert.deepEqual((await client.keys("[fh]")).sort(), ["f", "h"]);
assert.equal(typeof (await client.randomkey()), "string");
assert.equal(await client.object("ENCODING", "f"), "embstr");
assert.ok((await client.memory("USAGE", "f")) > 4);
assert.ok((await client.wait(0, 1000)) >= 0);
await assert.rejects(client.eval("return 1", 0), /SET key value IFEQ/);
assert.equal(await client.del("f", "h"), 2);

// Pipelines.
const pipeline = client.pipeline();
for (let number = 0; number < 500; number++) pipeline.set(`p${number}`, number);
assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === "OK"));
await client.set("m", "5");
const mixed = client.pipeline().get("m").incr("m").get("m").incr("m");
mixed.exists("n").set("n", "1").exists("n").del("n").get("n");
const replies = (await mixed.exec()).map(([error, reply]) => error ?? reply);
assert.deepEqual(replies, ["5", 6, "6", 7, 0, "OK", 1, 1, null]);

// Transactions.
const done = await client.multi().set("x", "1").incr("x").get("x").exec();
assert.deepEqual(done, [[null, "OK"], [null, 2], [null, "2"]]);
await client.watch("x");
await other.set("x", "10");
assert.equal(await client.multi().incr("x").exec(), null);
assert.deepEqual(await client.multi().incr("x").exec(), [[null, 11]]);

// Errors.
await client.set("s", "text");
await assert.rejects(client.incr("s"), /value is not an integer/);
await assert.rejects(client.lpush("l", "1"), /unknown command/);

// Data that clients report about themselves.
await client.client("SETNAME", "me");
assert.equal(await client.client("GETNAME"), "me");
assert.match(await client.client("LIST"), / name=me /);
assert.match(await client.info(), /redis_version/);

// Changes of keys.
const heard = [];
let arrived = () => {};
const count = async (wanted) => {
  while (heard.length < wanted) await new Promise((resolve) => { arrived = resolve; });
};
const hear = (...message) => { heard.push(message.map(String)); arrived(); };
listener.on("message", hear);
listener.on("pmessage", hear);
await listener.subscribe("__keyspace@0__:k");
await listener.psubscribe("__keyevent@0__:*");
await client.set("k", "1");
await count(2);
assert.deepEqual(heard, [
  ["__keyspace@0__:k", "set"],
  ["__keyevent@0__:*", "__keyevent@0__:set", "k"],
]);

await listener.subscribe("news");
assert.equal(await client.publish("news", "hi"), 1);
await count(3);
assert.deepEqual(heard[2], ["news", "hi"]);

for (const connection of [client, other, listener]) await connection.quit();
console.log("done");
