import assert from "node:assert/strict";
import test from "node:test";
import "./engine.js";
import { DeadLetterError, ack, deadLetter } from "../index.js";
import { adapt } from "../runtime/adapter.js";
import { Promise as OwnPromise } from "../runtime/promise.js";

const properties = { headers: [], timestamp: { tag: "ok", val: 0 } };
const call = (handle) => adapt(handle)({ body: new Uint8Array(0), properties });

/** What a handler's error becomes, without the calls that led to it. */
function failure(handle) {
  try {
    call(handle);
  } catch (text) {
    assert.equal(typeof text, "string");
    return text.split("\n").filter((line) => !line.startsWith("    at "));
  }
  return assert.fail("it did not throw");
}

test("an outcome is answered", () => {
  assert.deepEqual(call(() => ack()), { settlement: { tag: "ack" }, publications: [] });
});

test("an error that another try would not mend dead-letters", () => {
  const expected = { settlement: { tag: "dead-letter", val: "odd" }, publications: [] };
  assert.deepEqual(call(() => deadLetter("odd")), expected);
  const throws = () => {
    throw new DeadLetterError("odd");
  };
  assert.deepEqual(call(throws), expected);
  assert.deepEqual(call(() => OwnPromise.resolve().then(throws)), expected);
});

test("any other error is a failure, with its causes", () => {
  const thrower = (error) => () => {
    throw error;
  };
  assert.deepEqual(failure(thrower(new Error("down", { cause: new TypeError("no route") }))), [
    "Error: down",
    "caused by: TypeError: no route",
  ]);
  assert.deepEqual(failure(thrower("a text")), ["thrown: a text"]);
  assert.deepEqual(failure(thrower({ code: 7 })), ["thrown: { code: 7 }"]);
  assert.deepEqual(failure(() => undefined), [
    "TypeError: the handler returned undefined, and not an outcome such as `ack()`",
  ]);
});

test("an answer may be a promise, if it settles", () => {
  const later = OwnPromise.resolve().then(() => ack());
  assert.deepEqual(call(() => later), { settlement: { tag: "ack" }, publications: [] });
  assert.deepEqual(failure(() => new OwnPromise(() => {})), [
    "Error: the handler's promise is still pending, and nothing is left that could settle it",
  ]);
  assert.deepEqual(failure(() => OwnPromise.reject(new Error("down"))), ["Error: down"]);
});

test("a promise that was not awaited and fails is a failure", () => {
  const forgets = () => {
    OwnPromise.reject(new Error("forgotten"));
    return ack();
  };
  assert.deepEqual(failure(forgets), ["Error: forgotten"]);
  // The next call of the same instance starts afresh.
  assert.deepEqual(call(() => ack()).settlement, { tag: "ack" });
});
