/** Stores, in a plugin. In tests src/testing/keyvalue.js stands in for it. */

import { increment as hostIncrement } from "wasi:keyvalue/atomics@0.2.0-draft";
import { open as hostOpen } from "wasi:keyvalue/store@0.2.0-draft";
import { KeyValueError } from "../src/error.js";
import { duringCall } from "./phase.js";

const TEXTS = {
  "no-such-store": "the manifest grants no such store",
  "access-denied": "the store is not for this handler",
};

function attempt(action) {
  duringCall("keyvalue");
  try {
    return action();
  } catch (error) {
    const { tag, val } = error.payload ?? {};
    if (tag === undefined) throw error;
    throw new KeyValueError(TEXTS[tag] ?? val);
  }
}

export const open = (name) => attempt(() => hostOpen(name));

export const get = (bucket, key) => attempt(() => bucket.get(key)) ?? undefined;

export const set = (bucket, key, value) => attempt(() => bucket.set(key, value));

export const remove = (bucket, key) => attempt(() => bucket.delete(key));

export const exists = (bucket, key) => attempt(() => bucket.exists(key));

export function increment(bucket, key, by) {
  const sum = attempt(() => hostIncrement(bucket, key, by));
  // The engine hands 64 bits over as if they had a sign.
  return sum < 0 ? sum + 2 ** 64 : sum;
}

export function list(bucket, cursor) {
  const found = attempt(() => bucket.listKeys(cursor ?? null));
  return { keys: found.keys, cursor: found.cursor ?? undefined };
}
