/** What a plugin uses of WASI. In tests tests/wasi.js stands in for it. */

import { getStderr } from "wasi:cli/stderr@0.2.0";
import { getStdout } from "wasi:cli/stdout@0.2.0";
import { building } from "./phase.js";

export { getRandomBytes } from "wasi:random/random@0.2.0";

/** What one call of a stream takes. */
const CHUNK_BYTES = 4096;

export function write(name, bytes) {
  if (building) return;
  // Closed again at once, so that an instance that is used again does not gather them.
  const stream = name === "stdout" ? getStdout() : getStderr();
  try {
    for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
      stream.blockingWriteAndFlush(bytes.subarray(start, start + CHUNK_BYTES));
    }
  } finally {
    stream[Symbol.dispose]();
  }
}
