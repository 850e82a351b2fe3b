/** What a JSON value is. */
export enum JsonKind {
  Null,
  Boolean,
  Number,
  Text,
  Array,
  Object,
}

/** How deep arrays and objects may stand in each other: the parser recurses, and the stack is finite. */
const DEPTH_MAX = 256;

/** One JSON value that was read. What is not of its kind is false, 0 or empty. */
export class Json {
  /** At which character, from 0 on, the last text that was parsed is no JSON. */
  static failedAt: i32 = 0;

  boolean: bool = false;
  number: f64 = 0;
  /** A text, or a number as it is written, which may be more exact than `number`. */
  text: string = "";
  /** The elements of an array, or the values of an object in the order of `keys`. */
  values: Json[] = [];
  keys: string[] = [];

  constructor(public kind: JsonKind) {}

  /** The value of an object's member, the last of that name; null where there is none. */
  get(key: string): Json | null {
    for (let i = this.keys.length - 1; i >= 0; i--) {
      if (this.keys[i] == key) return this.values[i];
    }
    return null;
  }

  /** The text of a member; null where there is none, or it is no text. */
  textOf(key: string): string | null {
    const value = this.get(key);
    return value !== null && value.kind == JsonKind.Text ? value.text : null;
  }

  /** Reads JSON. Null where it is none; then `failedAt` says where. */
  static parse(text: string): Json | null {
    const parser = new Parser(text);
    const json = parser.value(0);
    if (json !== null) {
      parser.space();
      if (parser.at == text.length) return json;
    }
    Json.failedAt = parser.at;
    return null;
  }
}

class Parser {
  at: i32 = 0;

  constructor(private text: string) {}

  private peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private take(code: i32): bool {
    if (this.peek() != code) return false;
    this.at++;
    return true;
  }

  space(): void {
    let code = this.peek();
    while (code == 0x20 || code == 0x0a || code == 0x0d || code == 0x09) {
      this.at++;
      code = this.peek();
    }
  }

  value(depth: i32): Json | null {
    this.space();
    const code = this.peek();
    if (code == CharCode.QUOTE) {
      const text = this.string();
      if (text === null) return null;
      const json = new Json(JsonKind.Text);
      json.text = text;
      return json;
    }
    if (depth < DEPTH_MAX) {
      if (this.take(CharCode.OPEN_BRACE)) return this.members(true, CharCode.CLOSE_BRACE, depth + 1);
      if (this.take(CharCode.OPEN_BRACKET)) return this.members(false, CharCode.CLOSE_BRACKET, depth + 1);
    }
    if (this.word("null")) return new Json(JsonKind.Null);
    if (this.word("false")) return new Json(JsonKind.Boolean);
    if (this.word("true")) {
      const json = new Json(JsonKind.Boolean);
      json.boolean = true;
      return json;
    }
    return this.number();
  }

  private word(word: string): bool {
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  private members(named: bool, close: i32, depth: i32): Json | null {
    const json = new Json(named ? JsonKind.Object : JsonKind.Array);
    this.space();
    if (this.take(close)) return json;
    while (true) {
      if (named) {
        this.space();
        const key = this.string();
        if (key === null) return null;
        json.keys.push(key);
        this.space();
        if (!this.take(CharCode.COLON)) return null;
      }
      const value = this.value(depth);
      if (value === null) return null;
      json.values.push(value);
      this.space();
      if (this.take(close)) return json;
      if (!this.take(CharCode.COMMA)) return null;
    }
  }

  private digits(): bool {
    const from = this.at;
    while (this.peek() >= CharCode.ZERO && this.peek() <= CharCode.NINE) this.at++;
    return this.at > from;
  }

  private number(): Json | null {
    const from = this.at;
    this.take(CharCode.MINUS);
    if (!this.take(CharCode.ZERO) && !this.digits()) return null;
    if (this.take(CharCode.DOT) && !this.digits()) return null;
    if (this.take(CharCode.e) || this.take(CharCode.E)) {
      if (!this.take(CharCode.PLUS)) this.take(CharCode.MINUS);
      if (!this.digits()) return null;
    }
    const json = new Json(JsonKind.Number);
    json.text = this.text.substring(from, this.at);
    json.number = parseFloat(json.text);
    return json;
  }

  private string(): string | null {
    if (!this.take(CharCode.QUOTE)) return null;
    let read = "";
    let from = this.at;
    while (true) {
      const code = this.peek();
      if (code < 0x20) return null; // a control character, or the end
      if (code == CharCode.QUOTE) {
        read += this.text.substring(from, this.at++);
        return read;
      }
      this.at++;
      if (code != CharCode.BACKSLASH) continue;
      read += this.text.substring(from, this.at - 1);
      const escaped = this.escape();
      if (escaped < 0) return null;
      read += String.fromCharCode(escaped);
      from = this.at;
    }
  }

  /** The character of an escape whose backslash has been read, or -1. */
  private escape(): i32 {
    const code = this.peek();
    if (code < 0) return -1;
    this.at++;
    switch (code) {
      case CharCode.QUOTE:
      case CharCode.BACKSLASH:
      case CharCode.SLASH: return code;
      case CharCode.b: return 0x08;
      case CharCode.f: return 0x0c;
      case CharCode.n: return 0x0a;
      case CharCode.r: return 0x0d;
      case CharCode.t: return 0x09;
      case CharCode.u: break;
      default: this.at--; return -1;
    }
    let unit = 0;
    for (let i = 0; i < 4; i++) {
      const digit = hexDigit(this.peek());
      if (digit < 0) return -1;
      this.at++;
      unit = unit << 4 | digit;
    }
    return unit;
  }
}

function hexDigit(code: i32): i32 {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

const enum CharCode {
  QUOTE = 0x22,
  PLUS = 0x2b,
  COMMA = 0x2c,
  MINUS = 0x2d,
  DOT = 0x2e,
  SLASH = 0x2f,
  ZERO = 0x30,
  NINE = 0x39,
  COLON = 0x3a,
  E = 0x45,
  OPEN_BRACKET = 0x5b,
  BACKSLASH = 0x5c,
  CLOSE_BRACKET = 0x5d,
  b = 0x62,
  e = 0x65,
  f = 0x66,
  n = 0x6e,
  r = 0x72,
  t = 0x74,
  u = 0x75,
  OPEN_BRACE = 0x7b,
  CLOSE_BRACE = 0x7d,
}

/**
 * Writes JSON straight into the bytes of a body: `new JsonWriter().object().key("id").integer(7).end()`. What is opened
 * must be closed.
 */
export class JsonWriter {
  private buffer: ArrayBuffer = new ArrayBuffer(256);
  private used: i32 = 0;
  /** Whether a comma goes before the next value, and the closing brackets that are due. */
  private comma: bool = false;
  private open: string[] = [];

  object(): this {
    return this.opening("{", "}");
  }

  array(): this {
    return this.opening("[", "]");
  }

  /** Closes the innermost object or array. */
  end(): this {
    this.raw(this.open.pop());
    this.comma = true;
    return this;
  }

  key(name: string): this {
    this.text(name);
    this.raw(":");
    this.comma = false;
    return this;
  }

  integer(value: i64): this {
    return this.plain(value.toString());
  }

  /** A number. One that is not finite, which JSON does not have, becomes null. */
  number(value: f64): this {
    return this.plain(isFinite(value) ? value.toString() : "null");
  }

  boolean(value: bool): this {
    return this.plain(value ? "true" : "false");
  }

  null(): this {
    return this.plain("null");
  }

  text(text: string): this {
    this.separate();
    // Measured first: a text may be large, and what it was copied from is there, too.
    this.reserve(2 + escaped(text, 0));
    const from = changetype<usize>(this.buffer) + this.used;
    store<u8>(from, CharCode.QUOTE);
    const length = escaped(text, from + 1);
    store<u8>(from + 1 + length, CharCode.QUOTE);
    this.used += length + 2;
    this.comma = true;
    return this;
  }

  /** What was written. */
  bytes(): Uint8Array {
    return Uint8Array.wrap(this.buffer, 0, this.used);
  }

  private opening(bracket: string, closing: string): this {
    this.separate();
    this.raw(bracket);
    this.open.push(closing);
    this.comma = false;
    return this;
  }

  private plain(text: string): this {
    this.separate();
    this.raw(text);
    this.comma = true;
    return this;
  }

  private separate(): void {
    if (this.comma) this.raw(",");
  }

  /** ASCII as it is. */
  private raw(text: string): void {
    this.reserve(text.length);
    for (let i = 0; i < text.length; i++) {
      store<u8>(changetype<usize>(this.buffer) + this.used++, <u8>text.charCodeAt(i));
    }
  }

  private reserve(more: i32): void {
    const needed = this.used + more;
    if (needed <= this.buffer.byteLength) return;
    const larger = new ArrayBuffer(max(needed + 64, this.buffer.byteLength * 2));
    memory.copy(changetype<usize>(larger), changetype<usize>(this.buffer), this.used);
    this.buffer = larger;
  }
}

/** Writes the text to that address, escaped and in UTF-8; only measures it where the address is 0. */
function escaped(text: string, to: usize): i32 {
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code >= 0x20 && code < 0x80 && code != CharCode.QUOTE && code != CharCode.BACKSLASH) {
      if (to) store<u8>(to + length, code);
      length++;
    } else if (code < 0x80) {
      const letter = short(code);
      if (to) {
        store<u8>(to + length, CharCode.BACKSLASH);
        store<u8>(to + length, letter ? letter : CharCode.u, 1);
      }
      length += 2;
      if (letter) continue;
      if (to) {
        store<u16>(to + length, 0x3030); // 00
        store<u8>(to + length, CharCode.ZERO + (code >> 4), 2);
        store<u8>(to + length, (code & 15) + ((code & 15) < 10 ? CharCode.ZERO : 0x57), 3);
      }
      length += 4;
    } else {
      if ((code & 0xf800) == 0xd800) {
        const low = i + 1 < text.length ? text.charCodeAt(i + 1) : 0;
        if (code < 0xdc00 && (low & 0xfc00) == 0xdc00) {
          code = 0x10000 + ((code & 0x3ff) << 10 | low & 0x3ff);
          i++;
        } else code = 0xfffd; // half of a pair, which UTF-8 cannot hold
      }
      length += utf8(code, to ? to + length : 0);
    }
  }
  return length;
}

/** The letter of an escape such as \n, or 0 where only \u does. */
function short(code: i32): i32 {
  switch (code) {
    case CharCode.QUOTE:
    case CharCode.BACKSLASH: return code;
    case 0x08: return CharCode.b;
    case 0x09: return CharCode.t;
    case 0x0a: return CharCode.n;
    case 0x0c: return CharCode.f;
    case 0x0d: return CharCode.r;
    default: return 0;
  }
}

/** Writes a code point from U+0080 on, and tells its length. */
function utf8(code: i32, to: usize): i32 {
  const following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  if (to) {
    const lead = following == 1 ? 0xc0 : following == 2 ? 0xe0 : 0xf0;
    store<u8>(to, lead | code >> 6 * following);
    for (let i = 1; i <= following; i++) store<u8>(to + i, 0x80 | code >> 6 * (following - i) & 0x3f);
  }
  return following + 1;
}
