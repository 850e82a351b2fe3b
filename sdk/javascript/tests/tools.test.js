import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { forEngine, withContractTypes } from "../tools/contract.js";

const preamble = [0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0];
const signed = [0x6f, 2, 0x79, 0x7a];
const unsigned = [0x6f, 2, 0x79, 0x79];
const optional = [0x6a, 1, 0x75, 1, 0];

test("the contract has what the engine cannot do", () => {
  const contract = readFileSync(new URL("../../wit/worker.wit", import.meta.url), "utf8");
  const changed = forEngine(contract).split("\n");
  const differ = contract.split("\n").flatMap((line, index) => (line === changed[index] ? [] : [changed[index].trim()]));
  assert.deepEqual(differ, [
    "integer(tuple<u32, s32>),",
    "timestamp(tuple<u32, u32>),",
    "timestamp: result<f64, tuple<u32, u32>>,",
  ]);
  assert.throws(() => forEngine("integer(s32)"), { message: "the contract has not one `integer(s64)`" });
});

test("types are put back wherever they are declared, and sizes with them", () => {
  // A section of code that happens to have the same bytes, the types, and a component with the types again. Sizes
  // take two bytes before, and one after.
  const types = [...signed, ...unsigned, ...optional, ...Array.from({ length: 120 }, () => 0x7f)];
  const meant = [0x78, 0x77, 0x6b, 0, ...Array.from({ length: 120 }, () => 0x7f)];
  const inner = [...preamble, 7, 0x85, 1, ...types];
  const innerMeant = [...preamble, 7, 124, ...meant];
  const component = [...preamble, 1, 4, ...signed, 7, 0x85, 1, ...types, 4, 0x90, 1, ...inner];
  const expected = [...preamble, 1, 4, ...signed, 7, 124, ...meant, 4, 0x86, 1, ...innerMeant];
  assert.deepEqual([...withContractTypes(Buffer.from(component))], expected);
});

test("a component without these types is refused", () => {
  const none = { message: "the component does not have the types expected: found 0, 0, 0" };
  assert.throws(() => withContractTypes(Buffer.from(preamble)), none);
  const one = { message: "the component does not have the types expected: found 1, 0, 0" };
  assert.throws(() => withContractTypes(Buffer.from([...preamble, 7, 4, ...signed])), one);
});
