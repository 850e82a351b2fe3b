/**
 * What the host answers, outside a host: in a handler's own tests the worker is named `test` and always has 5 seconds
 * left. A build replaces this file by runtime/host.js, through the condition `wabbit` in package.json.
 */

const encoder = new TextEncoder();
// The host keeps a byte order mark, and so does this.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const workerName = () => "test";

export const remainingMs = () => 5000;

export const encode = (text) => encoder.encode(text);

/** Undefined where the bytes are not UTF-8. */
export function decode(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
