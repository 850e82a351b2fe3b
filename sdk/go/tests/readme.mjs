// Runs what the README shows of grants: `node readme.mjs HANDLER.wasm`, of a handler that sends and reports its body.
// There are no folders here, so that it ends with the report's failure.

import assert from "node:assert";
import { load } from "../../assemblyscript/testing.mjs";
import { wasi } from "../../assemblyscript/tests/wasi.mjs";

const sent = [];
const reports = {};
const handler = load(process.argv[2], {
  wasi,
  config: { from: "shop@example.com" },
  secrets: { token: "hunter2" },
  keyvalue: { reports },
  http: (request) => (sent.push(request), { status: 202 }),
});
assert.throws(() => handler.handle({ text: "hi" }), /open \/reports\/1\.txt: /);
assert.deepEqual([reports.number.toString(), sent.length], ["1", 1]);
const [{ method, url, headers, body }] = sent;
assert.deepEqual([method, url, headers.authorization], ["POST", "https://mail.example.com/send", "Bearer hunter2"]);
assert.deepEqual(JSON.parse(body), { from: "shop@example.com", text: "hi" });
assert.throws(() => load(process.argv[2], { wasi }).handle({}), /the manifest grants no value `from`/);
