/** UTF-8 by the engine's own means, for constants that are made while the plugin is built. */

export function slowEncode(text) {
  // Percent signs and hexadecimal digits are the shortest way to bytes that the language has by itself.
  return Uint8Array.from(unescape(encodeURIComponent(text)), (character) => character.charCodeAt(0));
}

/** Undefined where the bytes are not UTF-8. */
export function slowDecode(bytes) {
  try {
    return decodeURIComponent(Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, "0")}`).join(""));
  } catch {
    return undefined;
  }
}
