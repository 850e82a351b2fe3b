/** Bytes that a handler gives: as such, or as a text. */

import { encode } from "#host";

export function bytesOf(value, what) {
  if (value instanceof Uint8Array) return value;
  if (typeof value === "string") return encode(value);
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  throw new TypeError(`${what} is a text, a \`Uint8Array\` or an \`ArrayBuffer\``);
}

/**
 * The one of `body`, `text` and `json` that is given, as bytes, and the content type that goes with it where none is
 * given. `whose` says what they belong to.
 */
export function bodyOf({ body, text, json }, whose) {
  if (text !== undefined) {
    if (typeof text !== "string") throw new TypeError(`${whose} \`text\` cannot be a ${typeof text}`);
    return [encode(text), "text/plain"];
  }
  if (json !== undefined) {
    const written = JSON.stringify(json);
    if (written === undefined) throw new TypeError(`${whose} \`json\` has no JSON form`);
    return [encode(written), "application/json"];
  }
  return [body === undefined ? new Uint8Array(0) : bytesOf(body, `${whose} \`body\``), undefined];
}

/** A wrong name or a second body is a mistake, and would else be found only in what is missing downstream. */
export function checkNames(given, known, what) {
  if (typeof given !== "object" || given === null) throw new TypeError(`${what} cannot be a ${typeof given}`);
  let bodies = 0;
  for (const name in given) {
    if (!known.has(name)) throw new TypeError(`${what} has no \`${name}\``);
    if ((name === "body" || name === "text" || name === "json") && given[name] !== undefined) bodies += 1;
  }
  if (bodies > 1) throw new TypeError(`${what} has one of \`body\`, \`text\` and \`json\``);
}

/** A text for the host, which knows no halves of surrogate pairs. */
export function textOf(value, what) {
  if (typeof value !== "string") throw new TypeError(`${what} cannot be a ${typeof value}`);
  return value.toWellFormed();
}
