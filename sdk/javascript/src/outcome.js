/** What a handler answers. */

import { checkPublication } from "./publication.js";

/** The answer to a delivery: what is to be published, and then what becomes of the delivery. */
export class Outcome {
  constructor(settlement, publications = []) {
    this.settlement = settlement;
    this.publications = [];
    this.publish(...publications);
  }

  /** Adds messages to be published, after those already added. What is undefined or null is left out. */
  publish(...publications) {
    for (const publication of publications) {
      if (publication === undefined || publication === null) continue;
      checkPublication(publication);
      this.publications.push(publication);
    }
    return this;
  }
}

export const ack = (...publications) => new Outcome({ kind: "ack" }, publications);

export const requeue = (...publications) => new Outcome({ kind: "requeue" }, publications);

export const retry = (...publications) => new Outcome({ kind: "retry" }, publications);

export function retryAfter(ms, ...publications) {
  if (!Number.isFinite(ms) || ms < 0) throw new RangeError("`retryAfter` takes a number of milliseconds");
  // The contract counts in 32 bits: a longer time becomes the longest that fits.
  return new Outcome({ kind: "retry", afterMs: Math.min(Math.floor(ms), 0xffff_ffff) }, publications);
}

export function deadLetter(reason, ...publications) {
  if (typeof reason !== "string") throw new TypeError("`deadLetter` takes a reason, a text");
  return new Outcome({ kind: "dead-letter", reason }, publications);
}
