import assert from "node:assert/strict";
import test from "node:test";
import * as own from "../runtime/encoding.js";
import { slowDecode, slowEncode } from "../runtime/utf8.js";
import { crypto, forget, random } from "../runtime/random.js";

const samples = [
  [],
  [0x61, 0xc3, 0xa9, 0xf0, 0x9d, 0x84, 0x9e],
  [0xef, 0xbb, 0xbf, 0x61],
  [0x61, 0xff, 0x62],
  [0xc3],
  [0xe2, 0x82],
  [0xe2, 0x82, 0x41],
  [0xed, 0xa0, 0x80],
  [0xf0, 0x8f, 0xbf, 0xbf],
  [0xf4, 0x90, 0x80, 0x80],
  [0xc0, 0xaf, 0xf5],
];

test("bytes are decoded as in Node.js", () => {
  for (const options of [{}, { ignoreBOM: true }]) {
    for (const bytes of samples.map((sample) => Uint8Array.from(sample))) {
      assert.equal(new own.TextDecoder("utf8", options).decode(bytes), new TextDecoder("utf8", options).decode(bytes));
    }
  }
  assert.throws(() => new own.TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff])), TypeError);
  assert.throws(() => new own.TextDecoder("latin1"), RangeError);
  assert.equal(new own.TextDecoder().decode(new Uint8Array([0, 0x61, 0]).buffer.slice(1, 2)), "a");
});

test("texts are encoded as in Node.js", () => {
  assert.deepEqual(new own.TextEncoder().encode("\u00e9\ud834\udd1e"), new TextEncoder().encode("\u00e9\ud834\udd1e"));
  for (const size of [0, 1, 2, 3, 6, 7]) {
    const [mine, theirs] = [new Uint8Array(size), new Uint8Array(size)];
    const counts = new own.TextEncoder().encodeInto("a\u00e9\ud834\udd1e", mine);
    assert.deepEqual(counts, new TextEncoder().encodeInto("a\u00e9\ud834\udd1e", theirs));
    assert.deepEqual(mine, theirs);
  }
});

test("without a host it is the same", () => {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for (const bytes of samples.map((sample) => Uint8Array.from(sample))) {
    let expected;
    try {
      expected = strict.decode(bytes);
    } catch {}
    assert.equal(slowDecode(bytes), expected);
  }
  assert.deepEqual(slowEncode("a\u00e9\ud834\udd1e"), new TextEncoder().encode("a\u00e9\ud834\udd1e"));
});

test("random numbers are spread between 0 and 1, and differ once the seed is forgotten", () => {
  const drawn = Array.from({ length: 4000 }, random);
  assert.ok(drawn.every((number) => number >= 0 && number < 1));
  const mean = drawn.reduce((sum, number) => sum + number, 0) / drawn.length;
  assert.ok(Math.abs(mean - 0.5) < 0.03, `the mean is ${mean}`);
  forget();
  assert.notEqual(random(), drawn[0]);
  assert.match(crypto.randomUUID(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notDeepEqual(crypto.getRandomValues(new Uint16Array(2)), new Uint16Array(2));
});
