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

/** What the manifest tells a handler: `[grant] config` and `[grant] secrets`. */
export declare const config: {
  /** The value of that name in `config` or `secrets`, undefined where it is in neither. */
  get(name: string): string | undefined;
  /** The same, and an error where there is none. */
  require(name: string): string;
  /** The same of a secret, which is not printed by accident. */
  secret(name: string): Secret;
  /** All names of `config` with their values. Secrets are left out. */
  all(): Map<string, string>;
};

/** A value that shows itself as `***`. */
export interface Secret {
  /** The value itself. */
  expose(): string;
  toString(): string;
  toJSON(): string;
}

/** What outlives a delivery: the store of `[grant] keyvalue`. Writing takes effect at once, not with the settlement. */
export declare const keyvalue: {
  /** The store of that name, which the manifest grants. It goes by `default`, too. */
  open(name?: string): Store;
};

/** A store that is open. What it does not do is a `KeyValueError`. */
export interface Store {
  /** The value of a key, undefined where it is not there. */
  get(key: string): Uint8Array | undefined;
  /** The same as UTF-8 text. */
  getText(key: string): string | undefined;
  /** Gives a key a value. */
  set(key: string, value: string | Uint8Array | ArrayBuffer): void;
  /** Takes a key away, if it is there. */
  delete(key: string): void;
  /** Whether a key is there. */
  exists(key: string): boolean;
  /**
   * Adds a whole number, 1 by default, to one that is 0 where the key is not there, and returns the sum. Nobody comes in
   * between. In `get` and `set` the number is written in decimal digits. A sum beyond 2^53 is returned rounded.
   */
  increment(key: string, by?: number): number;
  /** All keys, in their order. */
  keys(): string[];
}

/** Why a store did not do as it was asked, such as a limit with its value. */
export class KeyValueError extends Error {
  constructor(message: string, options?: { cause?: unknown });
}

/**
 * Files in the folders of `[grant] files`, by their paths in the handler. Writing takes effect at once, not with the
 * settlement. What is not done is a `FileError`.
 */
export declare const files: {
  /** The whole of a file. */
  read(path: string): Uint8Array;
  /** The same as UTF-8 text. */
  readText(path: string): string;
  /** Makes or replaces a file. To have others see all of it or nothing, write it by another name and `rename` it. */
  write(path: string, data: string | Uint8Array | ArrayBuffer): void;
  /** Adds to the end of a file, which is made where there is none. */
  append(path: string, data: string | Uint8Array | ArrayBuffer): void;
  /** Gives a file another name, within one granted folder. A file that has that name is replaced. */
  rename(from: string, to: string): void;
  /** Takes a file away. */
  delete(path: string): void;
  /** The names in a folder, sorted. */
  list(path: string): string[];
  /** Makes a folder, and those that it is in. One that is there is left alone. */
  makeFolder(path: string): void;
};

/** Why a file was not read or written. */
export class FileError extends Error {
  constructor(code: string, message: string, options?: { cause?: unknown });
  /**
   * `not-granted` where the path is in no granted folder, else as WASI has it: `no-entry`, `not-permitted`,
   * `insufficient-space`, `is-directory`, …
   */
  readonly code: string;
}

/**
 * HTTP requests, to the origins of `[grant] http`. Each waits for the whole response, whatever its status. Where there is
 * none it throws an `HttpError`. A request is sent at once, not with the settlement: a delivery that is tried again
 * sends it again. Redirects are not followed.
 */
export declare const http: {
  /** Sends a request with that method, such as `HEAD`. */
  request(method: string, url: string, options?: RequestOptions): HttpResponse;
  get(url: string, options?: RequestOptions): HttpResponse;
  post(url: string, options?: RequestOptions): HttpResponse;
  put(url: string, options?: RequestOptions): HttpResponse;
  patch(url: string, options?: RequestOptions): HttpResponse;
  delete(url: string, options?: RequestOptions): HttpResponse;
};

/** What goes with a request. */
export interface RequestOptions {
  /** Those that are undefined are left out. `host` and what concerns the connection is the host's to say. */
  headers?: { [name: string]: string | undefined } | Iterable<readonly [string, string]>;
  /** Parameters that are added to the URL's query, whatever signs are in them. Those that are undefined are left out. */
  query?: { [name: string]: string | number | boolean | undefined };
  /** The body, empty by default. The content type is left as it is. */
  body?: string | Uint8Array | ArrayBuffer;
  /** The body as text. The content type is `text/plain` unless another is given. */
  text?: string;
  /** A value whose JSON is the body. The content type is `application/json` unless another is given. */
  json?: unknown;
  /**
   * How long each of connecting, waiting for the response and waiting for its next part may take. The host has limits of
   * its own, and the delivery's time bounds it all.
   */
  timeoutMs?: number;
}

/** What requests and responses have in common. */
interface HttpMessage {
  /** Pairs of name and value; those of a response have their names in lower case. */
  readonly headers: readonly (readonly [string, string])[];
  /** The whole of it. */
  readonly body: Uint8Array;
  /** The first header of that name, in whatever case. */
  header(name: string): string | undefined;
  /** The body as UTF-8 text. */
  text(): string;
  /** What the body says as JSON. */
  json(): any;
}

/** What came back. */
export interface HttpResponse extends HttpMessage {
  /** Such as 200. */
  readonly status: number;
  /** Whether the status is one of 200 to 299. */
  readonly ok: boolean;
  /** The response itself where it is `ok`, else an `HttpError` with the status and the beginning of the body. */
  success(): this;
}

/** What was sent, for the test that answers. */
export interface HttpRequest extends HttpMessage {
  readonly method: string;
  /** With the query. */
  readonly url: string;
  readonly timeoutMs?: number;
}

/** Why there is no response, or not the one that was wanted. */
export class HttpError extends Error {
  constructor(kind: HttpErrorKind, message: string, options?: { cause?: unknown; status?: number });
  /** For the handler to act upon. */
  readonly kind: HttpErrorKind;
  /** Of the kind `status`, the status. */
  readonly status?: number;
}

/**
 * | kind | |
 * |---|---|
 * | `not-granted` | the manifest does not list the origin, or its address is of a network that it does not list |
 * | `request` | it has no form that could be sent: its URL, its method or a header |
 * | `connection` | the server cannot be found or reached |
 * | `timeout` | somebody took too long |
 * | `too-large` | the body of the request or of the response is larger than the host allows |
 * | `status` | `success` was asked for, and the status is another |
 * | `body` | the response's body is not what the handler reads |
 * | `other` | anything else |
 */
export type HttpErrorKind =
  | "not-granted"
  | "request"
  | "connection"
  | "timeout"
  | "too-large"
  | "status"
  | "body"
  | "other";
