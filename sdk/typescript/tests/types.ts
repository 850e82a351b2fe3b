/** What the types allow, and what they do not: the compiler is the test. */

import {
  DeadLetterError,
  Delivery,
  FileError,
  Float,
  type Handler,
  type HeaderValue,
  HttpError,
  type HttpResponse,
  Json,
  KeyValueError,
  Outcome,
  ack,
  config,
  context,
  deadLetter,
  files,
  http,
  keyvalue,
  requeue,
  retry,
  retryAfter,
} from "../../javascript/index.js";
import { provide } from "../../javascript/testing.js";

const sync: Handler = (delivery) => ack(delivery.reply({ text: "pong" }));
const later: Handler = async (delivery) => {
  const { tenant }: { tenant?: string } = delivery.json();
  return tenant === undefined ? deadLetter("no tenant") : retryAfter(500, { headers: { tenant } });
};
const echo: Handler = ({ exchange, routingKey, body, properties }) =>
  ack({ exchange, routingKey, body, ...properties });
const others: Handler[] = [() => requeue(), () => retry().publish({ json: [1] }, undefined)];

// @ts-expect-error: a handler that returns nothing has failed
const forgot: Handler = () => {};
// @ts-expect-error: nor is a plain object an outcome
const plain: Handler = () => ({ settlement: { kind: "ack" }, publications: [] });

// @ts-expect-error: routingKey
ack({ routingkey: "a" });
// @ts-expect-error: a reason is a must
deadLetter();
// @ts-expect-error: `Delivery.of` makes them
new Delivery();

const value: HeaderValue | undefined = Delivery.of("", { headers: { a: 1, b: [1], c: new Float(1) } }).header("a");
// @ts-expect-error: it may be of any type
const text: string = value;
const narrowed: bigint | undefined = typeof value === "bigint" ? value : undefined;

const left: number = context.remainingMs();
const error: Error = new DeadLetterError("odd", { cause: Json.of([1]).text });
console.log(sync, later, echo, others, forgot, plain, text, narrowed, left, error, Outcome);

const setting: string = config.get("a") ?? config.secret("b").expose();
// @ts-expect-error: a secret is no text
const secret: string = config.secret("a");
const store = keyvalue.open();
const sum: number = store.increment("a") + store.increment("a", 2);
// @ts-expect-error: it may not be there
const kept: Uint8Array = store.get("a");
store.set("a", store.get("b") ?? setting);
files.write("/a", files.read("/b"));
const response: HttpResponse = http.post("https://a.example/", { json: [1], query: { a: 1 }, timeoutMs: 1 }).success();
http.get("https://a.example/", { headers: response.headers });
// @ts-expect-error: a header is a text
http.get("https://a.example/", { headers: { a: 1 } });
const errors: Error[] = [new HttpError("timeout", ""), new FileError("no-entry", ""), new KeyValueError("")];
provide({ http: ({ url, body }) => (url === "" ? { status: 404 } : { body }) });
// @ts-expect-error: files
provide({ file: {} });
console.log(secret, sum, kept, errors);

// @ts-expect-error: there are no timers
setTimeout(() => {}, 1);
// @ts-expect-error: and no files
import("node:fs");
