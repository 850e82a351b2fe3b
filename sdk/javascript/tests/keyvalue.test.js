import assert from "node:assert/strict";
import test from "node:test";
import "./engine.js";
import { KeyValueError, keyvalue } from "../index.js";
import { provide } from "../testing.js";

test("values are bytes, or texts", () => {
  provide({ keyvalue: { orders: { a: "hällo", b: new Uint8Array([0xff]) } } });
  const store = keyvalue.open("orders");
  assert.deepEqual([store.getText("a"), store.get("b"), store.get("c")], ["hällo", new Uint8Array([0xff]), undefined]);
  assert.throws(() => store.getText("b"), new KeyValueError("the value of `b` is not UTF-8 text"));
  store.set("c", new Uint8Array([1]).buffer);
  assert.deepEqual(keyvalue.open().get("c"), new Uint8Array([1]));
  store.delete("a");
  store.delete("a");
  assert.deepEqual([store.exists("a"), store.exists("b"), store.keys()], [false, true, ["b", "c"]]);
});

test("numbers are added to", () => {
  provide({ keyvalue: { orders: { text: "seven" } } });
  const store = keyvalue.open("orders");
  assert.deepEqual([store.increment("n"), store.increment("n", 4), store.getText("n")], [1, 5, "5"]);
  const odd = new KeyValueError("the value of `text` is not a whole number in decimal digits");
  assert.throws(() => store.increment("text"), odd);
  for (const by of [-1, 1.5, "1", 2 ** 53]) assert.throws(() => store.increment("n", by), RangeError);
});

test("what is no store, key or value is refused", () => {
  provide({ keyvalue: { orders: {}, mails: {} } });
  for (const name of ["other", "default"]) {
    assert.throws(() => keyvalue.open(name), new KeyValueError("the manifest grants no such store"));
  }
  const store = keyvalue.open("orders");
  assert.throws(() => store.get(7), { message: "a key cannot be a number" });
  const message = "a value is a text, a `Uint8Array` or an `ArrayBuffer`";
  assert.throws(() => store.set("a", 7), { message });
});
