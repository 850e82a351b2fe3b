/** The sections of a component: each has a number that says what it holds, its size in bytes, and its content. */

const COMPONENT = 4;
const PREAMBLE_BYTES = 8;

/** The component with each section's content replaced by what `change` makes of its number and content. */
export function changeSections(component, change) {
  const parts = [component.subarray(0, PREAMBLE_BYTES)];
  let at = PREAMBLE_BYTES;
  while (at < component.length) {
    const id = component[at];
    const size = readSize(component, at + 1);
    const content = component.subarray(size.end, size.end + size.value);
    at = size.end + size.value;
    const changed = id === COMPONENT ? changeSections(content, change) : change(id, content);
    parts.push(Buffer.from([id]), writeSize(changed.length), changed);
  }
  return Buffer.concat(parts);
}

/** An unsigned number in LEB128, and where it ends. */
function readSize(bytes, start) {
  let value = 0;
  let end = start;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[end];
    end += 1;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return { value, end };
  }
}

function writeSize(value) {
  const bytes = [];
  let rest = value;
  do {
    const more = rest > 0x7f;
    bytes.push((rest & 0x7f) | (more ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Buffer.from(bytes);
}
