/** `TextEncoder` and `TextDecoder` for UTF-8, by the host, which is much quicker at it than the engine. */

import { decode, encode } from "#host";

const LABELS = new Set(["utf-8", "utf8", "unicode-1-1-utf-8"]);

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return encode(String(text));
  }

  encodeInto(text, target) {
    let read = 0;
    let written = 0;
    for (const character of String(text)) {
      const bytes = encode(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
}

export class TextDecoder {
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!LABELS.has(String(label).trim().toLowerCase())) {
      throw new RangeError(`the encoding \`${label}\` is not supported: UTF-8 is`);
    }
    this.encoding = "utf-8";
    this.fatal = Boolean(fatal);
    this.ignoreBOM = Boolean(ignoreBOM);
  }

  decode(input = new Uint8Array(0), { stream = false } = {}) {
    if (stream) throw new TypeError("a `TextDecoder` cannot decode in pieces here");
    const bytes = bytesOf(input);
    let text = decode(bytes);
    if (text === undefined) {
      if (this.fatal) throw new TypeError("the bytes are not UTF-8");
      text = decodeLossily(bytes);
    }
    return text.startsWith("\ufeff") && !this.ignoreBOM ? text.slice(1) : text;
  }
}

function bytesOf(input) {
  if (input instanceof Uint8Array) return input;
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  return new Uint8Array(input);
}

/** What is not UTF-8 becomes U+FFFD, one for each longest piece that could have begun a character. */
function decodeLossily(bytes) {
  const parts = [];
  let start = 0;
  let next = 0;
  while (next < bytes.length) {
    const { length, valid } = character(bytes, next);
    if (!valid) {
      parts.push(decode(bytes.subarray(start, next)), "\ufffd");
      start = next + length;
    }
    next += length;
  }
  parts.push(decode(bytes.subarray(start)));
  return parts.join("");
}

/** How many bytes belong together at `at`, and whether they are a character. */
function character(bytes, at) {
  const first = bytes[at];
  if (first < 0x80) return { length: 1, valid: true };
  if (first < 0xc2 || first > 0xf4) return { length: 1, valid: false };
  const length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  // The second byte's range leaves out overlong forms, surrogates and what is beyond U+10FFFF.
  let low = { 0xe0: 0xa0, 0xf0: 0x90 }[first] ?? 0x80;
  let high = { 0xed: 0x9f, 0xf4: 0x8f }[first] ?? 0xbf;
  for (let index = 1; index < length; index += 1) {
    const byte = bytes[at + index];
    if (byte === undefined || byte < low || byte > high) return { length: index, valid: false };
    low = 0x80;
    high = 0xbf;
  }
  return { length, valid: true };
}
