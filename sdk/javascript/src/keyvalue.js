/** What outlives a delivery: the store of `[grant] keyvalue`. */

import { decode } from "#host";
import * as host from "#keyvalue";
import { bytesOf, textOf } from "./bytes.js";
import { KeyValueError } from "./error.js";

const keyOf = (key) => textOf(key, "a key");

/** A store that is open. */
class Store {
  #bucket;

  constructor(bucket) {
    this.#bucket = bucket;
  }

  get(key) {
    return host.get(this.#bucket, keyOf(key));
  }

  getText(key) {
    const value = this.get(key);
    if (value === undefined) return undefined;
    const text = decode(value);
    if (text === undefined) throw new KeyValueError(`the value of \`${key}\` is not UTF-8 text`);
    return text;
  }

  set(key, value) {
    host.set(this.#bucket, keyOf(key), bytesOf(value, "a value"));
  }

  delete(key) {
    host.remove(this.#bucket, keyOf(key));
  }

  exists(key) {
    return host.exists(this.#bucket, keyOf(key));
  }

  increment(key, by = 1) {
    if (!Number.isSafeInteger(by) || by < 0) {
      throw new RangeError("`increment` adds a whole number from 0 to 2^53 - 1");
    }
    return host.increment(this.#bucket, keyOf(key), by);
  }

  keys() {
    const keys = [];
    let cursor;
    do {
      const found = host.list(this.#bucket, cursor);
      keys.push(...found.keys);
      cursor = found.cursor;
    } while (cursor !== undefined);
    return keys;
  }
}

export const keyvalue = {
  open: (name = "default") => new Store(host.open(textOf(name, "the name of a store"))),
};
