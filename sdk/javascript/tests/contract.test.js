import assert from "node:assert/strict";
import test from "node:test";
import "./engine.js";
import { DeadLetterError, Float, Json, Timestamp, ack, deadLetter, requeue, retry, retryAfter } from "../index.js";
import { lift, lower } from "../runtime/contract.js";

/** A delivery as the engine hands it over. */
function raw(fields = {}, properties = {}) {
  const absent = ["contentType", "contentEncoding", "correlationId", "replyTo", "messageId", "kind", "userId", "appId"];
  return {
    body: new Uint8Array([0xff]),
    exchange: "e",
    routingKey: "k",
    queue: "q",
    redelivered: true,
    attempt: 2,
    ...fields,
    properties: {
      ...Object.fromEntries(absent.map((name) => [name, null])),
      headers: [],
      persistent: false,
      priority: null,
      expirationMs: null,
      timestamp: { tag: "ok", val: 0 },
      ...properties,
    },
  };
}

const echo = ({ exchange, routingKey, body, properties }) => ack({ exchange, routingKey, body, ...properties });

/** Two halves, as the engine has them, of 64 bits. */
const halves = (value) => [Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))];

test("every type of header comes in as a value of its own, and goes out as it was", () => {
  const cases = [
    [{ tag: "boolean", val: true }, true],
    [{ tag: "integer", val: [1, 0] }, 1],
    [{ tag: "integer", val: [-1, -1] }, -1],
    [{ tag: "integer", val: halves(2n ** 53n - 1n) }, Number.MAX_SAFE_INTEGER],
    [{ tag: "integer", val: halves(2n ** 53n) }, 2n ** 53n],
    [{ tag: "integer", val: halves(2n ** 63n - 1n) }, 2n ** 63n - 1n],
    [{ tag: "integer", val: halves(-(2n ** 63n)) }, -(2n ** 63n)],
    [{ tag: "float", val: 1.5 }, 1.5],
    [{ tag: "float", val: 1 }, new Float(1)],
    [{ tag: "float", val: -0 }, new Float(-0)],
    [{ tag: "float", val: 1e300 }, 1e300],
    [{ tag: "float", val: Number.NaN }, Number.NaN],
    [{ tag: "text", val: "" }, ""],
    [{ tag: "binary", val: new Uint8Array([0xff]) }, new Uint8Array([0xff])],
    [{ tag: "timestamp", val: halves(1_700_000_000n) }, new Date(1_700_000_000_000)],
    [{ tag: "timestamp", val: halves(2n ** 64n - 1n) }, new Timestamp(2n ** 64n - 1n)],
    [{ tag: "json", val: "[1.50]" }, new Json("[1.50]")],
    [{ tag: "void" }, null],
  ];
  for (const [field, value] of cases) {
    const delivery = lift(raw({}, { headers: [["name", field]] }));
    assert.deepEqual(delivery.header("name"), value);
    assert.deepEqual(lower(echo(delivery)).publications[0].properties.headers, [["name", field]]);
  }
});

test("names of headers keep their order, whatever they are", () => {
  const headers = ["b", "10", "__proto__", ""].map((name) => [name, { tag: "boolean", val: true }]);
  assert.deepEqual(lower(echo(lift(raw({}, { headers })))).publications[0].properties.headers, headers);
});

test("properties come and go as they were", () => {
  const texts = { contentType: "", contentEncoding: "gzip", correlationId: "c", replyTo: "r", messageId: "m" };
  const given = { ...texts, kind: "k", userId: "u", appId: "a", persistent: true, priority: 0 };
  const delivery = lift(raw({}, { ...given, expirationMs: -1, timestamp: { tag: "err", val: [-1, -1] } }));
  assert.equal(delivery.properties.expirationMs, 4_294_967_295);
  const { properties, ...publication } = lower(echo(delivery)).publications[0];
  assert.deepEqual(publication, { exchange: "e", routingKey: "k", body: new Uint8Array([0xff]) });
  assert.deepEqual(properties, {
    ...given,
    headers: [],
    expirationMs: -1,
    timestamp: { tag: "err", val: [-1, -1] },
  });
});

test("what is absent stays so", () => {
  const delivery = lift(raw());
  assert.deepEqual(delivery.properties, { headers: new Map(), persistent: false });
  assert.deepEqual(lower(echo(delivery)).publications[0].properties, raw().properties);
});

test("each settlement is the contract's", () => {
  const cases = [
    [ack(), { tag: "ack" }],
    [requeue(), { tag: "requeue" }],
    [retry(), { tag: "retry", val: null }],
    [retryAfter(1500.7), { tag: "retry", val: 1500 }],
    [retryAfter(1e12), { tag: "retry", val: -1 }],
    [deadLetter("odd \ud800"), { tag: "dead-letter", val: "odd \ufffd" }],
  ];
  for (const [outcome, settlement] of cases) assert.deepEqual(lower(outcome), { settlement, publications: [] });
});

test("plain objects and arrays in headers become JSON, and undefined ones are left out", () => {
  const outcome = ack({ headers: { list: [1, { a: null }], absent: undefined, when: new Date(1999) } });
  assert.deepEqual(lower(outcome).publications[0].properties.headers, [
    ["list", { tag: "json", val: '[1,{"a":null}]' }],
    ["when", { tag: "timestamp", val: [1, 0] }],
  ]);
});

test("what the contract cannot carry is refused by name", () => {
  const cases = [
    [{ headers: { a: 2n ** 63n } }, "the integer of header `a` does not fit 64 bits"],
    [{ headers: { a: () => 1 } }, "header `a` cannot be a function"],
    [{ headers: { a: new Date(Number.NaN) } }, "`a` is not a valid `Date` or `Timestamp`"],
    [{ headers: { a: new Date(-1) } }, "`a` is not between the year 1970 and 2^64 seconds later"],
    [{ headers: { a: new Uint16Array(1) } }, "the bytes of header `a` are not a `Uint8Array`"],
    [{ headers: ["a"] }, "a publication's `headers` are an object or a `Map`"],
    [{ priority: 256 }, "a publication's `priority` is a whole number from 0 to 255"],
    [{ expirationMs: 1.5 }, "a publication's `expirationMs` is a whole number from 0 to 4294967295"],
    [{ messageId: 7 }, "a publication's `messageId` cannot be a number"],
    [{ body: 7 }, "a publication's `body` is a text, a `Uint8Array` or an `ArrayBuffer`"],
    [{ json: () => 1 }, "a publication's `json` has no JSON form"],
  ];
  for (const [publication, message] of cases) assert.throws(() => lower(ack(publication)), { message });
});

test("a handler that returns no outcome has failed", () => {
  const refused = (what) => ({ message: `the handler returned ${what}, and not an outcome such as \`ack()\`` });
  assert.throws(() => lower(undefined), refused("undefined"));
  assert.throws(() => lower({ settlement: "ack" }), refused("an object"));
  assert.throws(() => lower("ack"), refused("a string"));
});

test("half a surrogate pair does not reach the engine", () => {
  const { exchange, properties } = lower(ack({ exchange: "\ud800", headers: { "\udc00": "\ud800" } })).publications[0];
  assert.deepEqual([exchange, properties.headers], ["\ufffd", [["\ufffd", { tag: "text", val: "\ufffd" }]]]);
  assert.ok(new DeadLetterError("x") instanceof Error);
});
