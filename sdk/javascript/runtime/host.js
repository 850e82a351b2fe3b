/** What the host answers, in a plugin. In tests src/host.js stands in for it. */

import { remainingMs as hostRemainingMs, worker } from "wabbit:worker/context@0.1.0";
import { decode as hostDecode, encode as hostEncode } from "wabbit:worker/text@0.1.0";
import { building, duringCall } from "./phase.js";
import { slowDecode, slowEncode } from "./utf8.js";

export function workerName() {
  duringCall("context");
  return worker();
}

export function remainingMs() {
  duringCall("context");
  // The engine hands 32 bits over as if they had a sign.
  return hostRemainingMs() >>> 0;
}

export function encode(text) {
  // The engine traps on a text that is no Unicode. Half a surrogate pair becomes U+FFFD, as in a `TextEncoder`.
  const unicode = text.toWellFormed();
  return building ? slowEncode(unicode) : hostEncode(unicode);
}

/** Undefined where the bytes are not UTF-8. */
export const decode = (bytes) => (building ? slowDecode(bytes) : hostDecode(bytes)) ?? undefined;
