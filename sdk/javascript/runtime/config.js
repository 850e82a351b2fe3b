/** Settings, in a plugin. In tests src/testing/config.js stands in for it. */

import { get, getAll } from "wasi:config/store@0.2.0-rc.1";
import { duringCall } from "./phase.js";

// The values are there before a handler begins, so that reading them cannot fail.
export function readValue(name) {
  duringCall("config");
  return get(name) ?? undefined;
}

export function readAll() {
  duringCall("config");
  return getAll();
}
