import assert from "node:assert/strict";
import test from "node:test";
import { console } from "../runtime/console.js";
import { format, inspect } from "../runtime/inspect.js";
import { written } from "./wasi.js";

test("a line goes to its stream", () => {
  written.length = 0;
  console.log("a %s", "b", 1);
  console.error("c");
  console.assert(true, "d");
  console.assert(false, "e");
  assert.deepEqual(written, [
    ["stdout", "a b 1\n"],
    ["stderr", "c\n"],
    ["stderr", "Assertion failed: e\n"],
  ]);
});

test("marks in the first text are filled in", () => {
  const cases = [
    [["%s is %d", "x", 1.5, "more"], "x is 1.5 more"],
    [["%i %f %j %o", "7.9", "1.5", { a: 1 }, [1]], '7 1.5 {"a":1} [ 1 ]'],
    [["%s and %s", "one"], "one and %s"],
    [["100%"], "100%"],
    [["%% %s", 1], "% 1"],
    [[{ a: 1 }, "%s"], "{ a: 1 } %s"],
    [[], ""],
  ];
  for (const [values, expected] of cases) assert.equal(format(values), expected);
});

test("values are shown as they would be written", () => {
  class Order {
    id = 7;
  }
  const circular = { name: "a" };
  circular.self = circular;
  const cases = [
    ["a\n", '"a\\n"'],
    [-0, "-0"],
    [7n, "7n"],
    [undefined, "undefined"],
    [[], "[]"],
    [[1, [2, { a: "b" }]], '[ 1, [ 2, { a: "b" } ] ]'],
    [{ a: 1, "b-c": null }, '{ a: 1, "b-c": null }'],
    [new Order(), "Order { id: 7 }"],
    [new Map([["a", 1]]), 'Map(1) { "a" => 1 }'],
    [new Set([1]), "Set(1) { 1 }"],
    [new Uint8Array([1, 2]), "Uint8Array(2) [ 1, 2 ]"],
    [new Date(0), "1970-01-01T00:00:00.000Z"],
    [Object.create(null), "{}"],
    [circular, '{ name: "a", self: [Circular] }'],
    [function named() {}, "[Function: named]"],
    [{ a: { b: { c: { d: { e: {} } } } } }, "{ a: { b: { c: { d: { e: [Object] } } } } }"],
  ];
  for (const [value, expected] of cases) assert.equal(inspect(value), expected);
  assert.ok(inspect(Array.from({ length: 101 }, () => 1)).endsWith("1, ... 1 more ]"));
});
