// What a handler may ask of the host.

import { release } from "./lent";
import { encodeUtf8 } from "./utf8";

@external("wasi_snapshot_preview1", "fd_write")
declare function fdWrite(descriptor: u32, list: usize, count: u32, written: usize): u32;

@external("wabbit:worker/context@0.1.0", "worker")
declare function hostWorker(result: usize): void;

@external("wabbit:worker/context@0.1.0", "remaining-ms")
declare function hostRemainingMs(): u32;

/** Writes a line to the host's log. */
export function log(line: string): void {
  const bytes = encodeUtf8(line + "\n");
  // One entry of address and length, and room for the number of bytes written.
  const list = memory.data(12);
  let from = changetype<usize>(bytes);
  let left = <usize>bytes.byteLength;
  while (left > 0) {
    store<u32>(list, from);
    store<u32>(list, left, 4);
    if (fdWrite(STDERR, list, 1, list + 8) != 0) return;
    const written = load<u32>(list, 8);
    from += written;
    left -= written;
  }
}

const STDERR = 2;

/** The worker's name, which is its manifest's. */
export function worker(): string {
  const result = memory.data(8);
  hostWorker(result);
  const name = String.UTF8.decodeUnsafe(load<u32>(result), load<u32>(result, 4));
  release();
  return name;
}

/** Milliseconds until the time limit. */
export function remainingMs(): u32 {
  return hostRemainingMs();
}

/** What the compiler calls for a `throw`, a failed assertion or an index out of bounds. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message === null ? "aborted" : message;
  const where = file === null ? "" : file;
  log(`${what}, in ${where} line ${line} column ${column}`);
  unreachable();
}
