// The blocks that the host writes texts, lists and bytes into. Each is an ArrayBuffer, so that a body need not be
// copied to become a delivery's.

/** Those that nothing points to yet: pinned, or they would be collected. */
const lent: usize[] = [];
/** What the blocks since the last collection held. */
let bytes: usize = 0;
/** After so many bytes everything unused is collected at once: the runtime alone would let the memory grow further. */
const COLLECT_AFTER: usize = 1 << 20;

/** A block for the host. Objects are aligned for 16 bytes, more than any record needs. */
export function lend(size: usize): usize {
  const block = __pin(__new(size, idof<ArrayBuffer>()));
  lent.push(block);
  bytes += size;
  return block;
}

/** Leaves the blocks to whatever points to them by now. */
export function release(): void {
  for (let i = 0; i < lent.length; i++) __unpin(lent[i]);
  lent.length = 0;
}

/** Collects, where enough has piled up. */
export function tidy(): void {
  if (bytes < COLLECT_AFTER) return;
  bytes = 0;
  __collect();
}
