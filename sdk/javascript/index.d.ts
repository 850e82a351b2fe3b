/**
 * Write handlers for wabbit, WebAssembly workers for RabbitMQ.
 *
 * A handler is one function, exported as `handle`, from a delivery to an outcome.
 */

/** What a handler's module exports as `handle`. It may be an `async` function. */
export type Handler = (delivery: Delivery) => Outcome | Promise<Outcome>;

/** A message as the broker delivered it. */
export class Delivery {
  /**
   * For tests: a first delivery of that body.
   *
   *     Delivery.of('{"id": 7}', { routingKey: "order.new", headers: { tenant: "acme" } })
   */
  static of(body?: string | Uint8Array, fields?: DeliveryFields): Delivery;

  /** The body, whatever it is. `json` and `text` read it. */
  readonly body: Uint8Array;
  /** The basic properties, headers included. */
  readonly properties: Properties;
  /** The exchange that the message was published to. Empty is the default exchange. */
  readonly exchange: string;
  /** The routing key that the message was published with. */
  readonly routingKey: string;
  /** The queue that the message was consumed from. */
  readonly queue: string;
  /** Whether the broker may have delivered it before. */
  readonly redelivered: boolean;
  /** 1 on the first try, and one more for each recorded failure. */
  readonly attempt: number;

  private constructor();

  /** The body as UTF-8 text. Throws a `DeadLetterError` where it is none. */
  text(): string;

  /** What the body says as JSON. Throws a `DeadLetterError` where it is none. */
  json(): any;

  /** The value of the header of that name, undefined where there is none. Names are case-sensitive. */
  header(name: string): HeaderValue | undefined;

  /**
   * The reply to this delivery: to its `replyTo` queue through the default exchange, with its `correlationId`.
   * Undefined where it has no `replyTo`, and so nobody waits for one; an outcome leaves that out by itself.
   *
   *     return ack(delivery.reply({ text: "pong" }));
   */
  reply(publication: Publication): Publication | undefined;
}

/** What a test may say about a delivery. */
export interface DeliveryFields extends PropertyFields {
  exchange?: string;
  routingKey?: string;
  queue?: string;
  redelivered?: boolean;
  attempt?: number;
}

/** The basic properties of AMQP 0-9-1, headers aside. What is absent is undefined. */
interface BasicProperties {
  /** The MIME type of the body, such as `application/json`. */
  contentType?: string;
  /** How the body is encoded, such as `gzip`. */
  contentEncoding?: string;
  /** From 0 to 255: higher is delivered first, in queues declared with priorities. */
  priority?: number;
  /** Says which request a reply belongs to. */
  correlationId?: string;
  /** The queue that a reply is to be sent to, through the default exchange. */
  replyTo?: string;
  /** Milliseconds after which the message expires in its queue. */
  expirationMs?: number;
  /** The publisher's own name for the message. */
  messageId?: string;
  /** Whole seconds: a `Timestamp` where it is too far for a `Date`. */
  timestamp?: Date | Timestamp;
  /** AMQP's `type`. */
  kind?: string;
  /** The broker's user who published it. The broker refuses any other than the host's own. */
  userId?: string;
  /** The application that published it. */
  appId?: string;
}

/** The properties of a delivery. */
export interface Properties extends BasicProperties {
  /** In the order of the message. Names are case-sensitive. */
  headers: Map<string, HeaderValue>;
  /** Whether the message survives a restart of the broker, in a durable queue. */
  persistent: boolean;
}

/** The properties of a message that a handler, or a test, makes. */
export interface PropertyFields extends BasicProperties {
  /** Names are case-sensitive. Those that start with `x-wabbit-` are the host's, and removed. Undefined ones are left out. */
  headers?: Map<string, GivenHeaderValue> | { [name: string]: GivenHeaderValue | undefined };
  /** Lets the message survive a restart of the broker, in a durable queue. False by default. */
  persistent?: boolean;
}

/**
 * A message to be published: a plain object. The manifest grants exchanges and routing keys; publishing elsewhere is a
 * failure of the delivery.
 */
export interface Publication extends PropertyFields {
  /** Empty, the default, is the default exchange, which routes to the queue that the routing key names. */
  exchange?: string;
  /** At most 255 bytes, empty by default. */
  routingKey?: string;
  /** The body, empty by default. The content type is left as it is. */
  body?: string | Uint8Array | ArrayBuffer;
  /** The body as text. The content type is `text/plain` unless another is given. */
  text?: string;
  /** A value whose JSON is the body. The content type is `application/json` unless another is given. */
  json?: unknown;
}

/**
 * One value of an AMQP field table, such as a header's.
 *
 * | JavaScript | AMQP |
 * |---|---|
 * | boolean | boolean |
 * | number, where it is an integer up to 2^53 | integer |
 * | bigint | integer, where it is larger |
 * | any other number | float |
 * | `Float` | float, where it has no fraction |
 * | string | long string that is UTF-8 |
 * | `Uint8Array` | byte array, or long string that is not UTF-8 |
 * | `Date`, `Timestamp` | timestamp, in seconds |
 * | `Json` | decimal, nested table or array |
 * | null | void |
 */
export type HeaderValue = boolean | number | bigint | Float | string | Uint8Array | Date | Timestamp | Json | null;

/** A handler may give nested tables and arrays as plain objects and arrays, too. */
export type GivenHeaderValue = HeaderValue | readonly unknown[] | { readonly [name: string]: unknown };

/** A float without a fraction, such as 1.0, which a plain number cannot tell from an integer. */
export class Float {
  constructor(value: number);
  readonly value: number;
  valueOf(): number;
  toJSON(): number;
}

/** A decimal, nested table or array, as JSON text. */
export class Json {
  constructor(text: string);
  /** The JSON text of that value. */
  static of(value: unknown): Json;
  readonly text: string;
  /** What the text says. */
  readonly value: any;
  toJSON(): any;
}

/** Seconds since the Unix epoch, for the times that a `Date` cannot hold. */
export class Timestamp {
  constructor(seconds: number | bigint);
  readonly seconds: bigint;
}

/** The answer to a delivery: what is to be published, and then what becomes of the delivery. */
export class Outcome {
  private constructor();
  readonly settlement:
    | { readonly kind: "ack" }
    | { readonly kind: "requeue" }
    | { readonly kind: "retry"; readonly afterMs?: number }
    | { readonly kind: "dead-letter"; readonly reason: string };
  /** Published and confirmed, whatever the settlement, before it is carried out. */
  readonly publications: Publication[];

  /**
   * Adds messages to be published, after those already added, and answers with this outcome. They are published
   * whatever the settlement: with `requeue` or `retry`, again at each attempt. What is undefined is left out.
   */
  publish(...publications: (Publication | undefined | null)[]): this;
}

/** Done: the broker forgets the delivery. */
export function ack(...publications: (Publication | undefined | null)[]): Outcome;

/**
 * Back on the queue at once, for whoever takes it next. It counts no attempt the first time; a delivery that is already
 * marked redelivered is retried by the manifest's backoff instead.
 */
export function requeue(...publications: (Publication | undefined | null)[]): Outcome;

/** Again after the manifest's backoff. */
export function retry(...publications: (Publication | undefined | null)[]): Outcome;

/** Again after so many milliseconds. The host bounds how long it waits. */
export function retryAfter(ms: number, ...publications: (Publication | undefined | null)[]): Outcome;

/** Never again: to the dead-letter queue, with this reason. */
export function deadLetter(reason: string, ...publications: (Publication | undefined | null)[]): Outcome;

/**
 * An error that another try would not mend: the delivery goes to the dead-letter queue, with this reason. Any other
 * error is a failure, and the manifest's failure policy decides.
 */
export class DeadLetterError extends Error {
  constructor(reason: string, options?: { cause?: unknown });
}

/** What a handler may ask about its call. In tests the worker is `test`, and always has 5 seconds left. */
export declare const context: {
  /** The worker's name, which is its manifest's without `.toml`. */
  worker(): string;
  /** Milliseconds until the host ends this call, as the manifest's `limits.time` bounds it. */
  remainingMs(): number;
};
