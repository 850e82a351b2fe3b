// What a manifest grants, as the library has it: `node grants.mjs grants.wasm`. The conformance handler shows the rest.

import assert from "node:assert";
import { casesOf } from "../grants.mjs";
import { load } from "../testing.mjs";

const file = process.argv[2];
const answerOf = (handler, text) => {
  const { settlement, publications } = handler.handle({ text });
  return settlement === "ack" ? publications[0].text : settlement["dead-letter"];
};
const check = (handler, ...cases) => {
  for (const [text, expected] of cases) assert.equal(answerOf(handler, text), expected, text);
};

check(
  load(file, { config: { b: "2", a: "1" }, secrets: { token: "hunter2" } }),
  ["settings", "a=1 b=2"],
  ["secret token", "*** hunter2"],
  ["secret a", "*** 1"],
  ["secret none", "not granted: the manifest grants no value `none`"],
);
check(load(file), ["settings", ""]);

const orders = { c: "7", a: "x", b: Buffer.from([255]), d: "18446744073709551615", e: "" };
const stores = load(file, { keyvalue: { orders } });
check(
  stores,
  ["keys orders", "a b c d e"],
  ["value orders c", "7"],
  ["value default e", ""],
  ["value orders none", "none"],
  ["value orders b", "other: the value of `b` is not UTF-8"],
  ["increment orders c", "8"],
  ["increment orders new", "1"],
  ["increment orders a", "other: the value of `a` is not a whole number"],
  ["increment orders d", "other: `d` would be too large"],
  ["open others", "not granted: the manifest grants no such store"],
);
assert.equal(stores.handles, 2, "a store is open once for each of its names");
// A problem that nobody looks at is a failure, and says so.
assert.throws(() => answerOf(stores, "keys others"), WebAssembly.RuntimeError);
assert.match(stores.log, /the manifest grants no such store, in /);
check(load(file, { keyvalue: { empty: {} } }), ["keys empty", ""]);

{
  const seen = [];
  let next = { status: 200, body: "täxt" };
  const handler = load(file, { http: (request) => (seen.push(request), next) });
  const get = (url, told, answer = next) => ((next = answer), check(handler, [`get ${url}`, told]));
  get("https://a.example/b", "täxt");
  get("HTTP://a.example:80?x=y#z", "täxt");
  get("http://[::1]:80#?", "täxt");
  const q = "q=a%20b%26%C3%BC";
  assert.deepEqual(seen.map(({ url }) => url), [
    `https://a.example/b?${q}`, "http://a.example:80/?x=y", `http://[::1]:80/`,
  ]);
  assert.deepEqual(seen[0].headers, { "X-A": "1", authorization: "Bearer t" });
  assert.equal(seen[0].timeout_ns, 1_500_000_000n);
  for (const url of ["", "a.example", "ftp://a.example/", "https://", "https:///b", "https://?b"]) {
    get(url, "request: GET a URL that is none: the request cannot be sent for its URL");
  }
  get("https://a", "the server answered 503: try later", { status: 503, body: " try later \n" });
  get("https://a", "the server answered 302", { status: 302 });
  get("https://a", "no text", { body: Buffer.from([255]) });

  // Each error of wasi:http, with what it may carry.
  const expected = {
    "destination-IP-prohibited": "its address is of a network that the manifest's `[grant] http` does not name",
    "HTTP-request-denied": "not granted by the manifest's `[grant] http`",
  };
  const kinds = {};
  for (const { name, carries } of casesOf("error-code")) {
    const text = expected[name] ?? name.replaceAll("-", " ");
    const carried = { "option<string>": "why", "option<u32>": "7", "option<u64>": "4294967296" }[carries] ??
      { "DNS-error-payload": "why", "TLS-alert-received-payload": "why" }[carries];
    next = name;
    const told = answerOf(handler, "get https://a");
    const kind = told.slice(0, told.indexOf(":"));
    (kinds[kind] ??= []).push(name);
    assert.equal(told, `${kind}: GET https://a: ${text}`);
    if (carried !== undefined) get("https://a", `${kind}: GET https://a: ${text}: ${carried}`, `${name}: ${carried}`);
  }
  assert.deepEqual(kinds["not granted"], ["destination-IP-prohibited", "HTTP-request-denied"]);
  assert(kinds.timeout.every((name) => name.endsWith("timeout")) && kinds.timeout.length === 5);
  assert(kinds["too large"].every((name) => name.includes("size")) && kinds["too large"].length === 10);
  assert(kinds.connection.includes("connection-refused") && kinds.other.includes("internal-error"));

  next = { status: 200 };
  const unsent = "request: POST https://a.example: the request cannot be sent for its header";
  check(
    handler,
    ["header X-B 2", "sent"],
    ["header content-length 2", "sent"],
    ["header Host b", `${unsent} \`Host\`, which is the host's to set`],
    ["header a: b", `${unsent} \`a:\`, which is malformed`],
  );
  const [first, second] = seen.slice(-2).map(({ headers }) => headers);
  assert.deepEqual(first, { "X-B": "2", "content-type": "text/plain; charset=utf-8", "content-length": "2" });
  assert.equal(second["content-length"], "2");
  assert.equal(handler.handles, 0, "a request leaves something of the host's open");
}

{
  const reports = { "old.txt": "old" };
  const deep = {};
  const handler = load(file, { files: { "/reports": reports, "/reports/deep": deep } });
  const nowhere = "it is in no folder that the manifest grants";
  check(
    handler,
    ["read /reports/old.txt", "old"],
    ["write /reports/new.txt written", "true"],
    ["append /reports/new.txt -more", "true"],
    ["read /reports/new.txt", "written-more"],
    ["write /reports/new.txt again", "true"],
    ["rename /reports/new.txt /reports/old.txt", "true"],
    ["read /reports/old.txt", "again"],
    ["write /reports/deep/a.txt deep", "true"],
    ["remove /reports/old.txt", "true"],
    ["remove /reports/old.txt", "missing: cannot remove /reports/old.txt: there is no such file"],
    ["read /reports/none.txt", "missing: cannot read /reports/none.txt: there is no such file"],
    ["read /reports/", "other: cannot read /reports/: it is a folder"],
    ["read /reportsx", `not granted: cannot read /reportsx: ${nowhere}`],
    ["write /reports/../a x", `not granted: cannot write /reports/../a: ${nowhere}`],
    ["rename /reports/deep/a.txt /elsewhere", `not granted: cannot rename /elsewhere: ${nowhere}`],
    ["remove a", `not granted: cannot remove a: ${nowhere}`],
  );
  assert.deepEqual([Object.keys(reports), deep["a.txt"].toString()], [[], "deep"]);
  reports.large = Buffer.alloc(1e6, "ä");
  assert.equal(answerOf(handler, "read /reports/large").length, 5e5);
}
