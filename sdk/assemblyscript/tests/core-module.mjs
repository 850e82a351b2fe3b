// Checks a compiled conformance handler, of whatever language makes core modules: `node core-module.mjs HANDLER.wasm`.
// The host's own tests say what a handler answers; these say what they cannot see yet: that an instance which is used
// again and again does not grow, and never calls out where a component must not.

import assert from "node:assert";
import { load } from "../testing.mjs";
import { wasi } from "./wasi.mjs";

const MIB = 1 << 20;
const file = process.argv[2];
const handler = load(file, { wasi });
const call = (what, { headers, properties, ...delivery } = {}) =>
  handler.handle({ ...delivery, properties: { ...properties, headers: { do: what, ...headers } } });
const grownMib = () => Math.ceil(handler.memoryBytes / MIB);

const everything = {
  content_type: "", content_encoding: "gzip", persistent: true, priority: 0, correlation_id: "c", reply_to: "r",
  expiration_ms: 2 ** 32 - 1, message_id: "m", timestamp: 2n ** 64n - 1n, kind: "k", user_id: "u", app_id: "ключ",
};
const headers = {
  yes: true, no: false, three: 3, least: -(2n ** 63n), most: 2n ** 63n - 1n, float: 1.5, whole: { $float: 2 },
  nan: NaN, infinite: -Infinity, text: "tëxt", empty: "", "": "nameless", binary: { $binary: "AP8=" },
  nothing: { $binary: "" }, timestamp: { $timestamp: 2n ** 64n - 1n }, json: { $json: '{"a":[1]}' }, void: null,
};

// All fields, there and back; none of them, where none is set.
{
  const there = { base64: "/wBh", exchange: "x", routing_key: "ключ.🗝", properties: everything, headers };
  const { settlement, publications: [back] } = call("echo", there);
  assert.deepEqual([settlement, back.base64, back.exchange, back.routing_key], ["ack", "/wBh", "x", "ключ.🗝"]);
  assert.deepEqual(back.properties, { ...everything, headers: { do: "echo", ...headers } });
  assert.deepEqual(Object.keys(back.properties.headers), ["do", ...Object.keys(headers)]);
  const empty = { exchange: "", routing_key: "", text: "", properties: { headers: { do: "echo" }, persistent: false } };
  assert.deepEqual(call("echo").publications, [empty]);
}

// Each settlement, texts, and the log.
const settles = (what, delivery, settlement) => assert.deepEqual(call(what, delivery).settlement, settlement);
settles("ack", {}, "ack");
settles("requeue", {}, "requeue");
settles("retry", {}, "retry");
settles("retry", { headers: { ms: 500 } }, { retry: 500 });
settles("dead-letter", { text: "why ä" }, { "dead-letter": "why ä" });
settles("odd", {}, { "dead-letter": "unknown: odd" });
assert.match(call("json", { base64: "Yf8=" }).settlement["dead-letter"], /UTF-8/);
assert.match(call("json", { base64: "7aCA" }).settlement["dead-letter"], /UTF-8/);
assert.throws(() => call("error", { text: "broke" }), /broke/);
assert.equal(call("context").publications[0].text, "worker=test remaining=true");
assert.deepEqual(
  call("many", { headers: { count: 100 } }).publications.map(({ routing_key, text }) => [routing_key, text]),
  Array.from({ length: 100 }, (_, i) => [`many.${i}`, `${i}`]),
);
{
  const text = 'a"\\/\n\t\u0001\u007f🗝ä\u2028';
  const { text: json, properties } = call("json", { text }).publications[0];
  assert.deepEqual(JSON.parse(json), { text, length: [...text].length });
  assert.equal(properties.content_type, "application/json");
}
for (const line of ["first", "sëcond"]) call("log", { text: line });
assert.match(handler.log, /first\n(.*\n)?.*sëcond\n$/);

// 10,000 calls that allocate 100 KiB each, 1 GB altogether.
for (let i = 0; i < 10_000; i++) call("churn");
assert(grownMib() <= 16, `10,000 calls have grown the memory to ${grownMib()} MiB`);

// Bodies of 16 MB, a hundred in a row, then of all sizes.
const large = Buffer.alloc(16e6, "a");
// First after calls that make much themselves: a collector may have been at work when they returned, and now the memory
// must grow.
for (const count of [10_000, 20_000]) {
  assert.equal(call("many", { headers: { count } }).publications.length, count);
  call("ack", { body: large.subarray(0, count * 200) });
}
for (let i = 0; i < 100; i++) assert.equal(call("echo", { body: large }).publications[0].text.length, 16e6);
const afterLargeMib = grownMib();
// The limit that the host has by default.
assert(afterLargeMib <= 64, `bodies of 16 MB have grown the memory to ${afterLargeMib} MiB`);
let seed = 1;
const random = (below) => (seed = (seed * 48271) % 0x7fffffff) % below;
const mixed = (count) => {
  for (let i = 0; i < count; i++) {
    const body = large.subarray(0, [0, 100, 10_000, random(2e6), random(16e6)][random(5)]);
    const what = ["echo", "ack", "json", "churn"][random(4)];
    const { publications } = call(what, { body });
    if (what === "json") assert.equal(JSON.parse(publications[0].text).length, body.length);
  }
};
mixed(60);
const settledMib = grownMib();
mixed(120);
assert(grownMib() <= settledMib * 1.25, `the memory still grows: from ${settledMib} to ${grownMib()} MiB`);
call("log", { text: "last" });

// A trap says what it was.
assert.throws(() => call("trap"), WebAssembly.RuntimeError);
assert.match(handler.log, /last\n[^]*planted bug/);

if (process.env.VERBOSE) console.log(`16 MB echoed: ${afterLargeMib} MiB, mixed: ${grownMib()} MiB`);
