/** What the types allow, and what they do not: the compiler is the test. */

import {
  DeadLetterError,
  Delivery,
  Float,
  type Handler,
  type HeaderValue,
  Json,
  Outcome,
  ack,
  context,
  deadLetter,
  requeue,
  retry,
  retryAfter,
} from "../../javascript/index.js";

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

// @ts-expect-error: there are no timers
setTimeout(() => {}, 1);
// @ts-expect-error: and no files
import("node:fs");
