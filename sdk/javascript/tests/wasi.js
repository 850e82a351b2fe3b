/** Stands in for runtime/wasi.js in the tests: remembers what is written, and counts where bytes should be random. */

const decoder = new TextDecoder();
let next = 0;

/** What was written, as pairs of stream and text. */
export const written = [];

export const write = (stream, bytes) => written.push([stream, decoder.decode(bytes)]);

export const getRandomBytes = (length) => Uint8Array.from({ length }, () => (next += 37) % 256);
