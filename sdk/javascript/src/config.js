/** What the manifest tells a handler: `[grant] config` and `[grant] secrets`. */

import { readAll, readValue } from "#config";
import { textOf } from "./bytes.js";

/** A value that shows itself as `***`. */
class Secret {
  #value;

  constructor(value) {
    this.#value = value;
  }

  expose() {
    return this.#value;
  }

  toString() {
    return "***";
  }

  toJSON() {
    return "***";
  }
}

export const config = {
  get: (name) => readValue(textOf(name, "the name of a setting")),

  require(name) {
    const value = config.get(name);
    if (value === undefined) throw new Error(`the manifest grants no value \`${name}\``);
    return value;
  },

  secret: (name) => new Secret(config.require(name)),

  all: () => new Map(readAll()),
};
