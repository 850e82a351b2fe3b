/** `console`, to the host's log. */

import { encode } from "#host";
import { write } from "#wasi";
import { format } from "./inspect.js";

/** A function that writes a line at once, so that nothing is lost where the handler is ended. */
const printer = (stream) => (...values) => write(stream, encode(`${format(values)}\n`));

const out = printer("stdout");
const err = printer("stderr");

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
