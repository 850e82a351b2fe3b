// What the host calls; `build` compiles it beside the handler, and exports.mjs gives these functions their names in the
// contract. The host lowers a delivery into blocks that it asks `realloc` for, calls `handle` with the address of the
// record, lifts the result that `handle` points to, and then calls `postReturn`.

import { Outcome } from "wabbit";
import { forget, readDelivery, writeResult } from "wabbit/layout";
import { handler } from "wabbit/serve";

/** The blocks that the host has been given and that nothing points to yet: pinned, or they would be collected. */
const lent: usize[] = [];
/** What the blocks since the last collection held. */
let bytes: usize = 0;
/** After so many bytes everything unused is collected at once: the runtime alone would let the memory grow further. */
const COLLECT_AFTER: usize = 1 << 20;

/** A block is an ArrayBuffer, so that a body need not be copied to become a delivery's. */
export function realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (size == 0) return align;
  // Objects are aligned for 16 bytes, more than any record needs.
  const block = __pin(__new(size, idof<ArrayBuffer>()));
  if (old != 0) memory.copy(block, old, min(oldSize, size));
  lent.push(block);
  bytes += size;
  return block;
}

/**
 * The host's adapter from WASI preview 1, which carries what is logged, asks for its stack and its state when it is
 * first called, and keeps them: they are no part of a delivery, and are never freed.
 */
export function reallocAdapter(old: usize, oldSize: usize, align: usize, size: usize): usize {
  return heap.alloc(size);
}

export function handle(delivery: usize): usize {
  const lifted = readDelivery(delivery);
  for (let i = 0; i < lent.length; i++) __unpin(lent[i]);
  lent.length = 0;
  const outcome: Outcome = handler(lifted);
  return writeResult(outcome);
}

export function postReturn(_: usize): void {
  forget();
  if (bytes >= COLLECT_AFTER) {
    bytes = 0;
    __collect();
  }
}
