/**
 * 64-bit integers, past an engine that has floats only.
 *
 * componentize-qjs makes JavaScript numbers of the contract's `s64` and `u64`, which rounds what has more than 53 bits,
 * and traps where a rounded one does not fit any more. Headers and timestamps must come back as they were. So the
 * engine is given a contract with other types of the same layout in memory, where 64 bits are two halves of 32 bits; in
 * the component that it makes, these types are then put back to what the contract says. The code of the component does
 * not change: only its declared types do, and the host checks those when it loads the plugin.
 */

import { changeSections } from "./sections.js";

/**
 * Each line of the contract that is changed, with the type in between and the bytes of both in a component. A pair of
 * 32 bits is 8 bytes, as 64 bits are, and lies where they lie as long as something beside it is aligned as they are: in
 * `field` the float is, and in the optional timestamp the float of the case that means absent.
 */
const CHANGES = [
  {
    line: ["integer(s64)", "integer(tuple<u32, s32>)"],
    made: [0x6f, 2, 0x79, 0x7a], // tuple<u32, s32>
    meant: [0x78], // s64
  },
  {
    line: ["timestamp(u64)", "timestamp(tuple<u32, u32>)"],
    made: [0x6f, 2, 0x79, 0x79], // tuple<u32, u32>
    meant: [0x77], // u64
  },
  {
    line: ["timestamp: option<u64>", "timestamp: result<f64, tuple<u32, u32>>"],
    made: [0x6a, 1, 0x75, 1], // result<f64, and then the number of the type above
    meant: [0x6b], // option<, and then the same number
  },
];

const TYPES = 7;

/** The contract as the engine is given it. */
export function forEngine(contract) {
  let changed = contract;
  for (const { line } of CHANGES) {
    if (changed.split(line[0]).length !== 2) throw new Error(`the contract has not one \`${line[0]}\``);
    changed = changed.replace(line[0], line[1]);
  }
  return changed;
}

/** The component with the contract's own types. */
export function withContractTypes(component) {
  const counts = CHANGES.map(() => 0);
  const patched = changeSections(component, (id, content) => (id === TYPES ? patchTypes(content, counts) : content));
  // Each type is declared as often as the others: once for each interface that uses it.
  if (counts[0] === 0 || counts.some((count) => count !== counts[0])) {
    throw new Error(`the component does not have the types expected: found ${counts.join(", ")}`);
  }
  return patched;
}

// Types are not preceded by their sizes, so that one can be replaced by a shorter one. The bytes cannot be part of a
// name: names have none below 0x2d but as their lengths, and these sequences have no place for one.
function patchTypes(bytes, counts) {
  let patched = Buffer.from(bytes);
  CHANGES.forEach(({ made, meant }, index) => {
    const parts = [];
    let start = 0;
    for (;;) {
      const found = patched.indexOf(Buffer.from(made), start);
      if (found === -1) break;
      parts.push(patched.subarray(start, found), Buffer.from(meant));
      start = found + made.length;
      counts[index] += 1;
    }
    patched = Buffer.concat([...parts, patched.subarray(start)]);
  });
  return patched;
}
