/** `console`, to the host's log. */

import { getStderr } from "wasi:cli/stderr@0.2.0";
import { getStdout } from "wasi:cli/stdout@0.2.0";
import { encode } from "#host";
import { format } from "./inspect.js";

/** What one call of the stream takes. */
const CHUNK_BYTES = 4096;

function write(stream, text) {
  const bytes = encode(text);
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    stream.blockingWriteAndFlush(bytes.subarray(start, start + CHUNK_BYTES));
  }
}

/** A function that writes lines. Its stream is open only while it writes, so that none is left in a plugin's image. */
const printer = (open) => (...values) => {
  const stream = open();
  try {
    write(stream, `${format(values)}\n`);
  } finally {
    stream[Symbol.dispose]();
  }
};

const out = printer(getStdout);
const err = printer(getStderr);

export const console = {
  log: out,
  info: out,
  debug: out,
  warn: err,
  error: err,
  trace(...values) {
    err(`Trace: ${format(values)}\n${new Error().stack}`);
  },
  assert(condition, ...values) {
    if (!condition) err("Assertion failed:", ...values);
  },
};
