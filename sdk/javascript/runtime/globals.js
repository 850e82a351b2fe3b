/** What a handler finds without importing it, beside the language's own. It is imported before the handler. */

import { console } from "./console.js";
import { TextDecoder, TextEncoder } from "./encoding.js";
import { Promise, enqueue } from "./promise.js";
import { crypto, random } from "./random.js";

const define = (target, name, value) =>
  Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });

define(globalThis, "console", console);
define(globalThis, "crypto", crypto);
define(globalThis, "Promise", Promise);
define(globalThis, "TextDecoder", TextDecoder);
define(globalThis, "TextEncoder", TextEncoder);
define(globalThis, "queueMicrotask", (callback) => {
  if (typeof callback !== "function") throw new TypeError("`queueMicrotask` takes a function");
  enqueue(() => callback());
});
define(Math, "random", random);
// The engine's own would wait for the engine's promises, which never settle.
define(Array, "fromAsync", async function fromAsync(items, map = (item) => item, self = undefined) {
  const made = [];
  for await (const item of items) made.push(await map.call(self, item, made.length));
  return made;
});
delete globalThis.AsyncDisposableStack;
