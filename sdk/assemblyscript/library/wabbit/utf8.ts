/** How many of those bytes, from the first on, are UTF-8: all of them, or up to the first that is not. */
export function validPrefix(from: usize, length: usize): usize {
  let at: usize = 0;
  while (at < length) {
    // Most text is ASCII: eight bytes at once.
    if (at + 8 <= length && !(load<u64>(from + at) & 0x8080808080808080)) {
      at += 8;
      continue;
    }
    const lead = load<u8>(from + at);
    if (lead < 0x80) {
      at++;
      continue;
    }
    let following: usize;
    // What the byte after the lead may be: neither overlong forms, nor surrogates, nor beyond the last code point.
    let least: u8 = 0x80;
    let most: u8 = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) following = 1;
    else if (lead >= 0xe0 && lead <= 0xef) {
      following = 2;
      if (lead == 0xe0) least = 0xa0;
      if (lead == 0xed) most = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      following = 3;
      if (lead == 0xf0) least = 0x90;
      if (lead == 0xf4) most = 0x8f;
    } else return at;
    if (at + following >= length) return at;
    const second = load<u8>(from + at, 1);
    if (second < least || second > most) return at;
    for (let i: usize = 2; i <= following; i++) {
      if ((load<u8>(from + at + i) & 0xc0) != 0x80) return at;
    }
    at += following + 1;
  }
  return at;
}

/** Those bytes as text; null where they are not UTF-8. */
export function decodeUtf8(from: usize, length: usize): string | null {
  if (validPrefix(from, length) < length) return null;
  return String.UTF8.decodeUnsafe(from, length);
}

/** Text as UTF-8. Halves of surrogate pairs, which UTF-8 cannot hold, become U+FFFD. */
export function encodeUtf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}
