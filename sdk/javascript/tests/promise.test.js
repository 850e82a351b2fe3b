import assert from "node:assert/strict";
import test from "node:test";
import { Promise as Own, enqueue, finish } from "../runtime/promise.js";

/** The result of a promise that settles by itself. */
const settled = (promise) => finish(promise);

test("reactions run after the code that is running, in their order", () => {
  const seen = [];
  const promise = new Own((resolve) => {
    seen.push("executor");
    resolve(1);
  });
  promise.then(() => seen.push("first")).then(() => seen.push("third"));
  promise.then(() => seen.push("second"));
  enqueue(() => seen.push("microtask"));
  seen.push("rest");
  finish();
  assert.deepEqual(seen, ["executor", "rest", "first", "second", "microtask", "third"]);
});

test("values, errors and promises pass along", () => {
  assert.equal(settled(Own.resolve(1).then((value) => value + 1)), 2);
  assert.equal(settled(Own.resolve(1).then(undefined, () => 2)), 1);
  assert.equal(settled(Own.reject(1).catch((reason) => reason + 1)), 2);
  assert.equal(settled(new Own((resolve) => resolve(Own.resolve(Own.resolve(3))))), 3);
  assert.equal(settled(Own.resolve({ then: (resolve) => resolve(4) })), 4);
  assert.equal(settled(Own.try((a, b) => a + b, 2, 3)), 5);
  assert.throws(() => settled(Own.resolve().then(() => assert.fail("odd"))), { message: "odd" });
  assert.throws(() => settled(new Own(() => assert.fail("odd"))), { message: "odd" });
});

test("only the first call of an executor's functions counts", () => {
  const executor = (resolve, reject) => {
    resolve(1);
    resolve(2);
    reject(3);
  };
  assert.equal(settled(new Own(executor)), 1);
});

test("a promise that waits for itself is rejected", () => {
  const made = Own.withResolvers();
  made.resolve(made.promise);
  assert.throws(() => settled(made.promise), { message: "a promise cannot wait for itself" });
});

test("`finally` keeps what was there", () => {
  assert.equal(settled(Own.resolve(1).finally(() => 2)), 1);
  assert.throws(() => settled(Own.reject(new Error("kept")).finally(() => 2)), { message: "kept" });
  const throws = () => assert.fail("newer");
  assert.throws(() => settled(Own.reject(new Error("kept")).finally(throws)), { message: "newer" });
});

test("many promises become one", () => {
  const late = Own.resolve().then(() => 1);
  const failed = () => Own.reject(new Error("down"));
  assert.deepEqual(settled(Own.all([late, 2, Own.resolve(3)])), [1, 2, 3]);
  assert.deepEqual(settled(Own.all([])), []);
  assert.throws(() => settled(Own.all([late, failed()])), { message: "down" });
  assert.deepEqual(settled(Own.allSettled([late, Own.reject(2)])), [
    { status: "fulfilled", value: 1 },
    { status: "rejected", reason: 2 },
  ]);
  assert.equal(settled(Own.any([failed(), late])), 1);
  assert.throws(() => settled(Own.any([failed()])), AggregateError);
  assert.equal(settled(Own.race([new Own(() => {}), late])), 1);
});

test("a class made of it stays that class", () => {
  class Mine extends Own {}
  assert.ok(Mine.resolve(1).then(() => 2) instanceof Mine);
  assert.ok(Mine.all([]) instanceof Mine);
  assert.equal(String(Mine.resolve(1)), "[object Promise]");
  finish();
});
