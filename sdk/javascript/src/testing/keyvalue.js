/** The stand-in for stores in tests: a `Map` each. */

import { decode, encode } from "#host";
import { KeyValueError } from "../error.js";
import { state } from "./state.js";

const SUM_MAX = 2n ** 64n - 1n;

export function open(name) {
  const only = name === "default" && state.stores.size === 1 ? [...state.stores.values()][0] : undefined;
  const store = state.stores.get(name) ?? only;
  if (store === undefined) throw new KeyValueError("the manifest grants no such store");
  return store;
}

// What is kept is a copy, as in a host.
export const get = (store, key) => store.get(key)?.slice();

export const set = (store, key, value) => store.set(key, value.slice());

export const remove = (store, key) => store.delete(key);

export const exists = (store, key) => store.has(key);

export function increment(store, key, by) {
  const old = decode(store.get(key) ?? encode("0")) ?? "";
  if (!/^\d+$/.test(old)) {
    throw new KeyValueError(`the value of \`${key}\` is not a whole number in decimal digits`);
  }
  const sum = BigInt(old) + BigInt(by);
  if (sum > SUM_MAX) throw new KeyValueError(`\`${key}\` would be too large`);
  store.set(key, encode(String(sum)));
  return Number(sum);
}

export const list = (store) => ({ keys: [...store.keys()].sort() });
