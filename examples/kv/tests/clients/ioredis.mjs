// Talks to kv with the defaults of ioredis: `ioredis.mjs PORT`. Ends with status 0 if every
// answer was right.

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

// Pipelines.
const pipeline = client.pipeline();
for (let number = 0; number < 500; number++) pipeline.set(`p${number}`, number);
assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === "OK"));

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

// What clients tell about themselves.
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

for (const connection of [client, other, listener]) await connection.quit();
console.log("done");
