/** What a plugin uses of WASI. In tests tests/wasi.js stands in for it. */

import { getStderr } from "wasi:cli/stderr@0.2.0";
import { getStdout } from "wasi:cli/stdout@0.2.0";

export { getRandomBytes } from "wasi:random/random@0.2.0";

/** What one call of a stream takes. */
const CHUNK_BYTES = 4096;

export function write(name, bytes) {
  // The stream is open only while it is written to: one that is opened while the plugin is built is not there later.
  const stream = name === "stdout" ? getStdout() : getStderr();
  try {
    for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
      stream.blockingWriteAndFlush(bytes.subarray(start, start + CHUNK_BYTES));
    }
  } finally {
    stream[Symbol.dispose]();
  }
}
