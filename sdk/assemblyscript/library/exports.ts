// What the host calls; `build` compiles it beside the handler, and exports.mjs gives these functions their names in the
// contract. The host lowers a delivery into blocks that it asks `realloc` for, calls `handle` with the address of the
// record, lifts the result that `handle` points to, and then calls `postReturn`.

import { Outcome } from "wabbit";
import { forget, readDelivery, writeResult } from "wabbit/layout";
import { lend, release, tidy } from "wabbit/lent";
import { handler } from "wabbit/serve";

export function realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (size == 0) return align;
  const block = lend(size);
  if (old != 0) memory.copy(block, old, min(oldSize, size));
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
  release();
  const outcome: Outcome = handler(lifted);
  return writeResult(outcome);
}

export function postReturn(_: usize): void {
  forget();
  tidy();
}
