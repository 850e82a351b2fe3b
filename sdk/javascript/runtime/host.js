/** What the host answers, in a plugin. In tests src/host.js stands in for it. */

import { remainingMs as hostRemainingMs, worker } from "wabbit:worker/context@0.1.0";
import { decode as hostDecode, encode as hostEncode } from "wabbit:worker/text@0.1.0";

export const workerName = () => worker();

// The engine hands 32 bits over as if they had a sign.
export const remainingMs = () => hostRemainingMs() >>> 0;

// The engine traps on a text that is no Unicode. Half a surrogate pair becomes U+FFFD, as in a `TextEncoder`.
export const encode = (text) => hostEncode(text.toWellFormed());

/** Undefined where the bytes are not UTF-8. */
export const decode = (bytes) => hostDecode(bytes) ?? undefined;
