/**
 * Randomness. The engine seeds its own `Math.random` when a plugin is built, and so every instance, which is every
 * message, would draw the same numbers. These are seeded by the host.
 */

import { getRandomBytes } from "#wasi";

/** The state of the generator sfc32, unless the host has not been asked for a seed yet. */
let state;

/** Forgets the seed: it must not become a part of the plugin's image. */
export function forget() {
  state = undefined;
}

export function random() {
  if (state === undefined) {
    const bytes = getRandomBytes(12);
    state = new Int32Array(4);
    for (let index = 0; index < 12; index += 1) state[index >> 2] |= bytes[index] << (8 * (index & 3));
    state[3] = 1;
    // Until the seed has reached all of the state.
    for (let round = 0; round < 12; round += 1) draw();
  }
  // 53 bits, as many as a float below 1 has.
  return ((draw() >>> 5) * 2 ** 26 + (draw() >>> 6)) / 2 ** 53;
}

function draw() {
  const [a, b, c, counter] = state;
  const drawn = (a + b + counter) | 0;
  state[0] = b ^ (b >>> 9);
  state[1] = (c + (c << 3)) | 0;
  state[2] = (((c << 21) | (c >>> 11)) + drawn) | 0;
  state[3] = (counter + 1) | 0;
  return drawn;
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const crypto = {
  getRandomValues(array) {
    if (!ArrayBuffer.isView(array)) throw new TypeError("`getRandomValues` fills a typed array");
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(getRandomBytes(array.byteLength));
    return array;
  },

  randomUUID() {
    const bytes = getRandomBytes(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    return [
      [0, 4],
      [4, 6],
      [6, 8],
      [8, 10],
      [10, 16],
    ]
      .map(([start, end]) => hex(bytes.subarray(start, end)))
      .join("-");
  },
};
