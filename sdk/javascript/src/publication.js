/** What a handler publishes: plain objects, checked as soon as they are added to an outcome. */

import { encode } from "#host";

/** The properties of AMQP that are texts. */
export const TEXTS = [
  "contentType",
  "contentEncoding",
  "correlationId",
  "replyTo",
  "messageId",
  "kind",
  "userId",
  "appId",
];

const KNOWN = new Set([
  ...["exchange", "routingKey", "body", "text", "json", "headers"],
  ...["persistent", "priority", "expirationMs", "timestamp"],
  ...TEXTS,
]);

/** A wrong name or a second body is a mistake, and would else be found only in what is missing downstream. */
export function checkPublication(publication) {
  if (typeof publication !== "object") throw new TypeError(`a publication cannot be a ${typeof publication}`);
  let bodies = 0;
  for (const name in publication) {
    if (!KNOWN.has(name)) throw new TypeError(`a publication has no \`${name}\``);
    if ((name === "body" || name === "text" || name === "json") && publication[name] !== undefined) bodies += 1;
  }
  if (bodies > 1) throw new TypeError("a publication has one of `body`, `text` and `json`");
}

/** The body as bytes, and the content type that goes with it where none is given. */
export function bodyOf({ body, text, json }) {
  if (text !== undefined) {
    if (typeof text !== "string") throw new TypeError(`a publication's \`text\` cannot be a ${typeof text}`);
    return [encode(text), "text/plain"];
  }
  if (json !== undefined) {
    const written = JSON.stringify(json);
    if (written === undefined) throw new TypeError("a publication's `json` has no JSON form");
    return [encode(written), "application/json"];
  }
  if (body === undefined) return [new Uint8Array(0), undefined];
  if (body instanceof Uint8Array) return [body, undefined];
  if (typeof body === "string") return [encode(body), undefined];
  if (body instanceof ArrayBuffer) return [new Uint8Array(body), undefined];
  throw new TypeError("a publication's `body` is a text, a `Uint8Array` or an `ArrayBuffer`");
}
