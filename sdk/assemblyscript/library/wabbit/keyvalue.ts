// What outlives a delivery: the store of `[grant] keyvalue`.

import { bytesAt, textAt } from "./layout";
import { release } from "./lent";
import { ProblemKind, Result, failed } from "./result";
import { decodeUtf8, encodeUtf8 } from "./utf8";

@external("wasi:keyvalue/store@0.2.0-draft", "open")
declare function hostOpen(name: usize, length: u32, result: usize): void;

@external("wasi:keyvalue/store@0.2.0-draft", "[method]bucket.get")
declare function hostGet(bucket: u32, key: usize, length: u32, result: usize): void;

@external("wasi:keyvalue/store@0.2.0-draft", "[method]bucket.set")
declare function hostSet(bucket: u32, key: usize, length: u32, value: usize, valueLength: u32, result: usize): void;

@external("wasi:keyvalue/store@0.2.0-draft", "[method]bucket.delete")
declare function hostDelete(bucket: u32, key: usize, length: u32, result: usize): void;

@external("wasi:keyvalue/store@0.2.0-draft", "[method]bucket.exists")
declare function hostExists(bucket: u32, key: usize, length: u32, result: usize): void;

@external("wasi:keyvalue/store@0.2.0-draft", "[method]bucket.list-keys")
declare function hostListKeys(bucket: u32, more: u32, cursor: u64, result: usize): void;

@external("wasi:keyvalue/atomics@0.2.0-draft", "increment")
declare function hostIncrement(bucket: u32, key: usize, length: u32, by: u64, result: usize): void;

/** The stores that are open, by name. They stay so: a handler that opens one again and again has it once. */
let opened: Map<string, Store> | null = null;

/** The problem of an answer of the host; null where it is none. `align` is that of what there is otherwise. */
function problemOf(result: usize, align: usize): string | null {
  if (load<u8>(result) == 0) return null;
  switch (<i32>load<u8>(result + align)) {
    case 0: return "the manifest grants no such store";
    case 1: return "the store is not for this handler";
    default: return textAt(result + align + 4);
  }
}

/**
 * A store. What is written takes effect at once, not with the settlement: a delivery that is tried again writes again.
 */
export class Store {
  private constructor(private bucket: u32) {}

  /** The store of that name, which the manifest grants. It goes by `default`, too. */
  static open(name: string): Result<Store> {
    let stores = opened;
    if (stores === null) opened = stores = new Map<string, Store>();
    if (stores.has(name)) return new Result<Store>(stores.get(name));
    const bytes = encodeUtf8(name);
    const result = memory.data(16);
    hostOpen(changetype<usize>(bytes), bytes.byteLength, result);
    const problem = problemOf(result, 4);
    release();
    if (problem !== null) return failed<Store>(problem, ProblemKind.NotGranted);
    const store = new Store(load<u32>(result, 4));
    stores.set(name, store);
    return new Result<Store>(store);
  }

  /** The value of a key; null where the key is not there. */
  get(key: string): Result<Uint8Array | null> {
    const bytes = encodeUtf8(key);
    const result = memory.data(16);
    hostGet(this.bucket, changetype<usize>(bytes), bytes.byteLength, result);
    const problem = problemOf(result, 4);
    const value: Uint8Array | null = problem === null && load<u8>(result, 4) != 0 ? bytesAt(result + 8) : null;
    release();
    return problem === null ? new Result<Uint8Array | null>(value) : failed<Uint8Array | null>(problem);
  }

  /** The value of a key as text; null where the key is not there. */
  text(key: string): Result<string | null> {
    const found = this.get(key);
    const problem = found.problem;
    if (problem !== null) return failed<string | null>(problem);
    const value = found.value;
    if (value === null) return new Result<string | null>(null);
    const text = decodeUtf8(value.dataStart, value.length);
    if (text === null) return failed<string | null>(`the value of \`${key}\` is not UTF-8`);
    return new Result<string | null>(text);
  }

  /** Gives a key a value. */
  set(key: string, value: Uint8Array): Result<bool> {
    const bytes = encodeUtf8(key);
    const result = memory.data(16);
    hostSet(this.bucket, changetype<usize>(bytes), bytes.byteLength, value.dataStart, value.length, result);
    return done(result);
  }

  /** Gives a key a text as its value. */
  setText(key: string, text: string): Result<bool> {
    return this.set(key, Uint8Array.wrap(encodeUtf8(text)));
  }

  /** Takes a key away, if it is there. */
  delete(key: string): Result<bool> {
    const bytes = encodeUtf8(key);
    const result = memory.data(16);
    hostDelete(this.bucket, changetype<usize>(bytes), bytes.byteLength, result);
    return done(result);
  }

  /** Whether a key is there. */
  exists(key: string): Result<bool> {
    const bytes = encodeUtf8(key);
    const result = memory.data(16);
    hostExists(this.bucket, changetype<usize>(bytes), bytes.byteLength, result);
    const answered = done(result);
    return answered.problem === null ? new Result<bool>(load<u8>(result, 4) != 0) : answered;
  }

  /**
   * Adds to a number, which is 0 where the key is not there, and gives the sum. Nobody comes in between. In `get` and
   * `set` the number is written in decimal digits.
   */
  increment(key: string, by: u64 = 1): Result<u64> {
    const bytes = encodeUtf8(key);
    const result = memory.data(24);
    hostIncrement(this.bucket, changetype<usize>(bytes), bytes.byteLength, by, result);
    const problem = problemOf(result, 8);
    release();
    return problem === null ? new Result<u64>(load<u64>(result, 8)) : failed<u64>(problem);
  }

  /** All keys, in their order. */
  keys(): Result<string[]> {
    const keys: string[] = [];
    const result = memory.data(32);
    let more: u32 = 0;
    let cursor: u64 = 0;
    do {
      hostListKeys(this.bucket, more, cursor, result);
      const problem = problemOf(result, 8);
      if (problem === null) {
        const list = load<usize>(result, 8);
        const count = load<i32>(result, 12);
        for (let i = 0; i < count; i++) keys.push(textAt(list + i * 8));
      }
      release();
      if (problem !== null) return failed<string[]>(problem);
      more = load<u8>(result, 16);
      cursor = load<u64>(result, 24);
    } while (more != 0);
    return new Result<string[]>(keys);
  }
}

function done(result: usize): Result<bool> {
  const problem = problemOf(result, 4);
  release();
  return problem === null ? new Result<bool>(true) : failed<bool>(problem);
}
