// The conformance handler: what it does is said by the header `do`. The host's tests run the same cases in every
// language.

import {
  Delivery, FieldKind, JsonWriter, Outcome, Publication, Request, Store, log, readFile, remainingMs, serve, setting,
  worker, writeFile,
} from "wabbit";

const kept: StaticArray<u8>[] = [];

class Small {
  next: Small | null = null;
  padding: StaticArray<u8> = new StaticArray<u8>(64);
}

let sink: Small | null = null;

function handle(delivery: Delivery): Outcome {
  const header = delivery.header("do");
  const what = header === null ? "" : header.text;
  if (what == "echo") {
    const echo = new Publication(delivery.exchange, delivery.routingKey).bytes(delivery.body);
    echo.properties = delivery.properties;
    return Outcome.ack().publish(echo);
  }
  if (what == "describe") {
    const text = `queue=${delivery.queue} exchange=${delivery.exchange} key=${delivery.routingKey} ` +
      `redelivered=${delivery.redelivered} attempt=${delivery.attempt}`;
    return Outcome.ack().publish(new Publication("", "described").text(text));
  }
  if (what == "many") {
    const count = delivery.header("count");
    const many = Outcome.ack();
    for (let i: i64 = 0; count !== null && i < count.integer; i++) {
      many.publish(new Publication("", `many.${i}`).text(i.toString()));
    }
    return many;
  }
  if (what == "ack") return Outcome.ack();
  if (what == "requeue") return Outcome.requeue();
  if (what == "retry") {
    const ms = delivery.header("ms");
    return ms !== null && ms.kind == FieldKind.Integer ? Outcome.retryAfter(<u32>ms.integer) : Outcome.retry();
  }
  if (what == "dead-letter") return Outcome.deadLetter(body(delivery));
  if (what == "error") return Outcome.fail(body(delivery));
  if (what == "trap") throw new Error("planted bug");
  if (what == "loop") while (true) {}
  if (what == "memory") while (true) kept.push(new StaticArray<u8>(1 << 20).fill(1));
  if (what == "log") {
    log(body(delivery));
    return Outcome.ack();
  }
  if (what == "json") {
    const text = delivery.text();
    if (text === null) return Outcome.deadLetter(delivery.problem);
    const json = new JsonWriter().object().key("text").text(text).key("length").integer(codePoints(text)).end();
    return Outcome.ack().publish(new Publication("", "json").json(json));
  }
  if (what == "context") {
    const text = `worker=${worker()} remaining=${remainingMs() > 0}`;
    return Outcome.ack().publish(new Publication("", "context").text(text));
  }
  if (what == "churn") {
    for (let i = 0; i < 1000; i++) sink = new Small();
    sink = null;
    return Outcome.ack();
  }
  if (what == "setting") {
    const value = setting(headerOf(delivery, "name"));
    return Outcome.ack().publish(new Publication("", "setting").text(value === null ? "none" : value));
  }
  if (what == "count") return count(delivery);
  if (what == "keep") return keep(delivery);
  if (what == "fetch") return fetch(delivery);
  if (what == "write") return write(delivery);
  return Outcome.deadLetter("unknown: " + what);
}

function headerOf(delivery: Delivery, name: string): string {
  const header = delivery.header(name);
  return header === null ? "" : header.text;
}

function count(delivery: Delivery): Outcome {
  const store = Store.open("default").value;
  const key = headerOf(delivery, "key");
  const by = delivery.header("by");
  const sum = store.increment(key, by === null ? 0 : <u64>by.integer).value;
  const value = store.text(key).value;
  return Outcome.ack().publish(new Publication("", "count").text(`${sum}/${value === null ? "" : value}`));
}

function keep(delivery: Delivery): Outcome {
  const store = Store.open("default").value;
  const key = headerOf(delivery, "key");
  const stored = store.set(key, delivery.body).problem;
  if (stored !== null) return Outcome.fail(stored);
  const value = store.get(key).value;
  const deleted = store.delete(key).problem;
  if (deleted !== null) return Outcome.fail(deleted);
  if (value === null || store.exists(key).value) return Outcome.deadLetter("still there");
  return Outcome.ack().publish(new Publication("", "kept").bytes(value));
}

function fetch(delivery: Delivery): Outcome {
  const request = new Request(headerOf(delivery, "method"), headerOf(delivery, "url"));
  const answered = request.header("x-test", "wabbit").bytes(delivery.body).send();
  const problem = answered.problem;
  if (problem !== null) return Outcome.deadLetter(problem);
  const response = answered.value;
  const answer = response.header("x-answer");
  const start = Uint8Array.wrap(String.UTF8.encode(`${response.status} ${answer === null ? "" : answer} `));
  const all = new Uint8Array(start.length + response.body.length);
  all.set(start);
  all.set(response.body, start.length);
  return Outcome.ack().publish(new Publication("", "fetched").bytes(all));
}

function write(delivery: Delivery): Outcome {
  const path = headerOf(delivery, "path");
  const problem = writeFile(path, delivery.body).problem;
  if (problem !== null) return Outcome.deadLetter(problem);
  const written = readFile(path);
  const unread = written.problem;
  if (unread !== null) return Outcome.deadLetter(unread);
  return Outcome.ack().publish(new Publication("", "written").bytes(written.value));
}

function body(delivery: Delivery): string {
  const text = delivery.text();
  return text === null ? "" : text;
}

function codePoints(text: string): i32 {
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    // The second half of a pair belongs to the first.
    if ((text.charCodeAt(i) & 0xfc00) != 0xdc00) count++;
  }
  return count;
}

// Once everything above is there.
serve(handle);
