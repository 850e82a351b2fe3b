// Checks a compiled conformance handler, of whatever language makes core modules: `node core-module.mjs HANDLER.wasm`.
// The host's own tests say what a handler answers; these say what they cannot see yet: that an instance which is used
// again and again does not grow, and never calls out where a component must not.

import assert from "node:assert";
import { load } from "../testing.mjs";
import { wasi } from "./wasi.mjs";

const MIB = 1 << 20;
const file = process.argv[2];
const orders = {};
const requests = [];
const answers = {
  "https://a.example/?b=c": () => ({ status: 201, headers: { "x-answer": "yes" }, body: "täxt" }),
  "http://a.example/large": () => ({ body: Buffer.alloc(100_000, "b") }),
  "http://a.example/none": () => "connection-refused",
  "http://a.example/told": () => "internal-error: why",
  "http://a.example/limit": () => "HTTP-response-body-size: 16000000",
  "http://a.example/broken": () => ({ body: "beginning", error: "connection-read-timeout" }),
  "http://a.example/odd": () => ({ body: "beginning", error: "unknown" }),
};
const granted = {
  config: { from: "shöp@example.com", empty: "" },
  secrets: { token: "hunter2" },
  keyvalue: { orders },
  http: (request) => (requests.push(request), answers[request.url]()),
};
const handler = load(file, { wasi, ...granted });
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

// What a manifest grants: settings, a store, HTTP requests; and what it does not.
{
  const published = (what, delivery, key) => {
    const { settlement, publications } = call(what, delivery);
    assert.deepEqual([settlement, publications.map(({ routing_key }) => routing_key)], ["ack", [key]]);
    return publications[0];
  };
  const setting = (name) => published("setting", { headers: { name } }, "setting").text;
  assert.deepEqual(["from", "empty", "token", "other"].map(setting), ["shöp@example.com", "", "hunter2", "none"]);

  const count = (by) => published("count", { headers: { key: "k ä", by } }, "count").text;
  assert.deepEqual([3, 4, 0].map(count), ["3/3", "7/7", "7/7"]);
  for (const body of [Buffer.alloc(0), Buffer.from([0, 255]), Buffer.alloc(200_000, "c")]) {
    const { text, base64 } = published("keep", { body, headers: { key: "kept" } }, "kept");
    assert.deepEqual(text === undefined ? Buffer.from(base64, "base64") : Buffer.from(text), body);
  }
  assert.deepEqual(Object.keys(orders), ["k ä"]);
  assert(handler.handles <= 1, `${handler.handles} stores are open`);

  const held = handler.handles;
  const fetch = (method, url, body) => call("fetch", { body: Buffer.from(body ?? ""), headers: { method, url } });
  const fetched = (method, url, body) => fetch(method, url, body).publications[0].text;
  assert.equal(fetched("GET", "https://a.example?b=c"), "201 yes täxt");
  assert.equal(fetched("POST", "http://a.example/large", "d".repeat(10_000)), "200  " + "b".repeat(100_000));
  const [{ headers: got, ...first }, { headers: posted, method, body }] = requests;
  assert.deepEqual([first.method, first.body.length, got["x-test"]], ["GET", 0, "wabbit"]);
  assert.deepEqual([method, body.toString(), posted["x-test"]], ["POST", "d".repeat(10_000), "wabbit"]);
  for (const [method, url, told] of [
    ["GET", "http://a.example/none", /http:\/\/a\.example\b.*connection refused/i],
    ["PUT", "http://a.example/told", /why/],
    ["GET", "http://a.example/limit", /16000000/],
    ["GET", "http://a.example/broken", /connection read timeout/i],
    ["GET", "http://a.example/odd", /./],
    ["G T", "http://a.example/", /method/],
    ["GET", "a.example/", /URL/],
    ["GET", "http:///", /URL/],
  ]) {
    assert.match(fetch(method, url, "e").settlement["dead-letter"], told);
  }
  assert.equal(handler.handles, held, "a request leaves something of the host's open");
  const { settlement } = load(file, { wasi }).handle({
    properties: { headers: { do: "fetch", method: "GET", url: "https://a.example/" } },
  });
  assert.match(settlement["dead-letter"], /not granted by the manifest's `\[grant\] http`/);
  assert.throws(() => load(file, { wasi }).handle({ properties: { headers: { do: "count", key: "k", by: 1 } } }));
  // Nothing is granted that a file could be in.
  assert(call("write", { headers: { path: "/reports/a.txt" } }).settlement["dead-letter"]);
}

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
// What the host answers comes through memory, too.
const asked = (count) => {
  for (let i = 0; i < count; i++) {
    call("keep", { body: large.subarray(0, random(1e6)), headers: { key: "asked" } });
    call("fetch", { body: large.subarray(0, random(1e5)), headers: { method: "POST", url: "http://a.example/large" } });
  }
};
asked(50);
const askedMib = grownMib();
asked(200);
assert(grownMib() <= askedMib * 1.25, `the memory still grows: from ${askedMib} to ${grownMib()} MiB`);
call("log", { text: "last" });

// A trap says what it was.
assert.throws(() => call("trap"), WebAssembly.RuntimeError);
assert.match(handler.log, /last\n[^]*planted bug/);

if (process.env.VERBOSE) console.log(`16 MB echoed: ${afterLargeMib} MiB, mixed: ${grownMib()} MiB`);
