// What the library reads as JSON and writes as JSON, against what JavaScript does: `node json.mjs json.wasm`.

import assert from "node:assert";
import { load } from "../testing.mjs";

const handler = load(process.argv[2]);
const answer = (text) => handler.handle({ text });

for (const text of [
  "null", "true", "false", "0", "-0.5", "12.25e-2", "1E3", "9007199254740991", '""', '"a"', "[]", "{}", " [ 1 , 2 ] ",
  '{"a":{"b":[true,null,"x"]},"":0}', '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\uD83D\\uDE00"', '"\u007f🗝ключ"',
  '{"a":1,"a":2}', "[".repeat(200) + "]".repeat(200),
]) {
  const { publications } = answer(text);
  assert.equal(publications.length, 1, `${text} was not read`);
  // A member that is there twice comes back twice; for JavaScript the last one counts, as it does for `get`.
  assert.deepEqual(JSON.parse(publications[0].text), JSON.parse(text), text);
}

for (const [text, at] of [
  ["", 0], ["nul", 0], ["01", 1], ["1.", 2], ["1e", 2], ["-", 1], ['"a', 2], ['"\\x"', 2], ['"\\u12g4"', 5],
  ['"\n"', 1], ["[1,]", 3], ["[1 2]", 3], ["{a:1}", 1], ['{"a" 1}', 5], ['{"a":1,}', 7], ["1 x", 2],
  ["[".repeat(300), 256],
]) {
  assert.throws(() => JSON.parse(text));
  assert.deepEqual(answer(text).settlement, { "dead-letter": `the body is not JSON: see character ${at}` }, text);
}

// Half of a surrogate pair is no character: it becomes U+FFFD.
assert.equal(answer('"a\\ud83d"').publications[0].text, '"a\uFFFD"');
