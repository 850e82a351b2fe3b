// Checks that Go's collector keeps still where a component must not call out, whatever the handler keeps and forgets:
// `node collector.mjs HANDLER.wasm`. The seeds are some of those that found it reading the clock when it did not.

import { load } from "../../assemblyscript/testing.mjs";
import { wasi } from "../../assemblyscript/tests/wasi.mjs";

for (const start of [2, 15, 27, 50, 58]) {
  let seed = start * 7919;
  const random = (below) => (seed = (seed * 48271) % 0x7fffffff) % below;
  const handler = load(process.argv[2], { wasi, config: { long: "a".repeat(20_000) } });
  const call = (keep, drop, bytes) =>
    handler.handle({ body: Buffer.alloc(bytes), properties: { headers: { keep, drop } } });
  call(random(24e6), 0, 0);
  for (let i = 0; i < 150; i++) {
    const keep = random(4) ? 0 : random(4e5);
    call(keep, [0, random(1e6), random(30e6)][random(3)], [0, random(1e6), random(16e6)][random(3)]);
  }
}
