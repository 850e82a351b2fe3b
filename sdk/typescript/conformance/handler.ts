/** The handler that every language has, for the conformance table: the header `do` says what it does. */

import {
  type Delivery,
  type Outcome,
  ack,
  context,
  deadLetter,
  requeue,
  retry,
  retryAfter,
} from "../../javascript/index.js";

const actions: { [name: string]: (delivery: Delivery) => Outcome } = {
  echo: (delivery) =>
    ack({
      exchange: delivery.exchange,
      routingKey: delivery.routingKey,
      body: delivery.body,
      ...delivery.properties,
    }),

  describe({ queue, exchange, routingKey, redelivered, attempt }) {
    const text = `queue=${queue} exchange=${exchange} key=${routingKey} redelivered=${redelivered} attempt=${attempt}`;
    return ack({ routingKey: "described", text });
  },

  many(delivery) {
    const outcome = ack();
    const count = Number(delivery.header("count"));
    for (let index = 0; index < count; index += 1) {
      outcome.publish({ routingKey: `many.${index}`, text: String(index) });
    }
    return outcome;
  },

  ack: () => ack(),
  requeue: () => requeue(),

  retry(delivery) {
    const ms = delivery.header("ms");
    return ms === undefined ? retry() : retryAfter(Number(ms));
  },

  "dead-letter": (delivery) => deadLetter(delivery.text()),

  error(delivery) {
    throw new Error(delivery.text());
  },

  trap() {
    throw new TypeError("planted bug");
  },

  loop() {
    for (;;);
  },

  memory() {
    const kept: Uint8Array[] = [];
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  },

  log(delivery) {
    console.log(delivery.text());
    return ack();
  },

  json(delivery) {
    const text = delivery.text();
    // Only a text with other than ASCII can have pairs of surrogates, which are one code point.
    const ascii = text.length === delivery.body.length;
    const pairs = ascii ? 0 : (text.match(/[\u{10000}-\u{10ffff}]/gu)?.length ?? 0);
    return ack({ routingKey: "json", json: { text, length: text.length - pairs } });
  },

  context() {
    const text = `worker=${context.worker()} remaining=${context.remainingMs() > 0}`;
    return ack({ routingKey: "context", text });
  },

  churn() {
    let dropped: { count: number; before: unknown } | undefined;
    for (let count = 0; count < 2000; count += 1) dropped = { count, before: [dropped?.count] };
    return ack();
  },
};

export function handle(delivery: Delivery): Outcome {
  const name = String(delivery.header("do"));
  const action = Object.hasOwn(actions, name) ? actions[name] : undefined;
  return action === undefined ? deadLetter(`unknown: ${name}`) : action(delivery);
}
