/** The handler that every language has, for the conformance table: the header `do` says what it does. */

import {
  type Delivery,
  FileError,
  HttpError,
  type Outcome,
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

  setting: (delivery) => ack({ routingKey: "setting", text: config.get(named(delivery, "name")) ?? "none" }),

  count(delivery) {
    const store = keyvalue.open("default");
    const key = named(delivery, "key");
    const sum = store.increment(key, Number(delivery.header("by")));
    return ack({ routingKey: "count", text: `${sum}/${store.getText(key)}` });
  },

  keep(delivery) {
    const store = keyvalue.open("default");
    const key = named(delivery, "key");
    store.set(key, delivery.body);
    const body = store.get(key);
    store.delete(key);
    return store.exists(key) ? deadLetter("still there") : ack({ routingKey: "kept", body });
  },

  fetch(delivery) {
    const [method, url] = [named(delivery, "method"), named(delivery, "url")];
    try {
      const response = http.request(method, url, { headers: { "x-test": "wabbit" }, body: delivery.body });
      const text = `${response.status} ${response.header("x-answer") ?? ""} ${response.text()}`;
      return ack({ routingKey: "fetched", body: text });
    } catch (error) {
      if (error instanceof HttpError) return deadLetter(error.message);
      throw error;
    }
  },

  write(delivery) {
    const path = named(delivery, "path");
    try {
      files.write(path, delivery.body);
      return ack({ routingKey: "written", body: files.read(path) });
    } catch (error) {
      if (error instanceof FileError) return deadLetter(error.message);
      throw error;
    }
  },
};

const named = (delivery: Delivery, name: string): string => String(delivery.header(name) ?? "");

export function handle(delivery: Delivery): Outcome {
  const name = String(delivery.header("do"));
  const action = Object.hasOwn(actions, name) ? actions[name] : undefined;
  return action === undefined ? deadLetter(`unknown: ${name}`) : action(delivery);
}
