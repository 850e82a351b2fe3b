/** What a handler is given. */

import { decode, encode } from "#host";
import { DeadLetterError } from "./error.js";

/** A message as the broker delivered it. Tests make their own with `Delivery.of`. */
export class Delivery {
  constructor({ body, properties, exchange, routingKey, queue, redelivered, attempt }) {
    this.body = body;
    this.properties = properties;
    this.exchange = exchange;
    this.routingKey = routingKey;
    this.queue = queue;
    this.redelivered = redelivered;
    this.attempt = attempt;
  }

  /** For tests: a first delivery of that body. `fields` are its other fields and its properties. */
  static of(body = "", fields = {}) {
    const { exchange = "", routingKey = "", queue = "", redelivered = false, attempt = 1, ...given } = fields;
    const { headers, persistent = false, ...rest } = given;
    const entries = headers instanceof Map ? headers : Object.entries(headers ?? {});
    const properties = { ...rest, headers: new Map(entries), persistent };
    const bytes = typeof body === "string" ? encode(body) : body;
    return new Delivery({ body: bytes, properties, exchange, routingKey, queue, redelivered, attempt });
  }

  /** The body as UTF-8 text. */
  text() {
    const text = decode(this.body);
    if (text === undefined) throw new DeadLetterError("the body is not UTF-8 text");
    return text;
  }

  /** What the body says as JSON. */
  json() {
    const text = this.text();
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new DeadLetterError(`the body is not JSON: ${error.message}`, { cause: error });
    }
  }

  /** The value of the header of that name. Names are case-sensitive. */
  header(name) {
    return this.properties.headers.get(name);
  }

  /**
   * The reply to this delivery: to its `replyTo` queue through the default exchange, with its `correlationId`.
   * Undefined where it has no `replyTo`, and so nobody waits for one.
   */
  reply(publication) {
    const { replyTo, correlationId } = this.properties;
    if (replyTo === undefined) return undefined;
    const reply = { exchange: "", routingKey: replyTo, ...publication };
    if (correlationId !== undefined && reply.correlationId === undefined) reply.correlationId = correlationId;
    return reply;
  }
}
