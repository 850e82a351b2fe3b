/** How a handler's function becomes the export `wabbit:worker/handler`. */

import { DeadLetterError } from "../src/error.js";
import { lift, lower } from "./contract.js";
import { describeError } from "./inspect.js";
import { begin, building } from "./phase.js";
import { finish } from "./promise.js";
import { forget } from "./random.js";

/** The contract's `handle`. What it throws, always a text, is the contract's error. */
export function adapt(handle) {
  if (typeof handle !== "function") throw new TypeError("`handle` is not a function");
  return (raw) => {
    if (building) {
      begin();
      // A seed drawn while the plugin was built would be the same for every message.
      forget();
    }
    try {
      return lower(finish(handle(lift(raw))));
    } catch (error) {
      if (error instanceof DeadLetterError) {
        return { settlement: { tag: "dead-letter", val: error.message.toWellFormed() }, publications: [] };
      }
      if (isOutOfMemory(error)) trap();
      throw describeError(error).toWellFormed();
    }
  };
}

/** What the engine throws where the host refuses it more memory. `InternalError` is QuickJS's own. */
const isOutOfMemory = (error) => error instanceof InternalError && error.message === "out of memory";

/** Ends the call by running out of stack: the host then names the limit that was overrun, which an error would hide. */
const trap = () => 1 + trap();
