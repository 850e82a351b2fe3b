import assert from "node:assert/strict";
import test from "node:test";
import { DeadLetterError, Delivery, Outcome, ack, context, deadLetter, retry } from "../index.js";

test("a body is read as text and as JSON", () => {
  assert.equal(Delivery.of("h\u00e4llo").text(), "h\u00e4llo");
  assert.equal(Delivery.of("\ufeffa").text(), "\ufeffa");
  assert.deepEqual(Delivery.of('{"id": 1}').json(), { id: 1 });
});

test("a body that cannot be read is an error that dead-letters", () => {
  const notText = Delivery.of(new Uint8Array([0x61, 0xff]));
  assert.throws(() => notText.text(), new DeadLetterError("the body is not UTF-8 text"));
  assert.throws(() => notText.json(), new DeadLetterError("the body is not UTF-8 text"));
  assert.throws(() => Delivery.of("{").json(), (error) => {
    assert.ok(error instanceof DeadLetterError);
    assert.match(error.message, /^the body is not JSON: ./);
    return true;
  });
});

test("a delivery is made by hand", () => {
  const delivery = Delivery.of("a", { routingKey: "k", headers: { tenant: "acme" }, replyTo: "r", attempt: 2 });
  assert.equal(delivery.header("tenant"), "acme");
  assert.equal(delivery.header("Tenant"), undefined);
  assert.equal(delivery.attempt, 2);
  assert.deepEqual(delivery.properties, { headers: new Map([["tenant", "acme"]]), replyTo: "r", persistent: false });
});

test("a reply goes where it is awaited", () => {
  assert.equal(Delivery.of("ping").reply({ text: "pong" }), undefined);
  const asked = Delivery.of("ping", { replyTo: "answers", correlationId: "7" });
  const reply = { exchange: "", routingKey: "answers", text: "pong", correlationId: "7" };
  assert.deepEqual(asked.reply({ text: "pong" }), reply);
  assert.deepEqual(ack(Delivery.of("ping").reply({}), asked.reply({ text: "pong" })).publications, [reply]);
});

test("publications keep their order", () => {
  const outcome = retry({ routingKey: "a" }).publish({ routingKey: "b" }, null, { routingKey: "c" });
  assert.ok(outcome instanceof Outcome);
  assert.deepEqual(outcome.publications, [{ routingKey: "a" }, { routingKey: "b" }, { routingKey: "c" }]);
});

test("mistakes in a publication are refused where they are made", () => {
  assert.throws(() => ack({ routingkey: "a" }), { message: "a publication has no `routingkey`" });
  assert.throws(() => ack({ text: "a", json: 1 }), { message: "a publication has one of `body`, `text` and `json`" });
  assert.throws(() => ack("a"), { message: "a publication cannot be a string" });
  assert.throws(() => deadLetter(), { message: "`deadLetter` takes a reason, a text" });
});

test("in tests the context is a stand-in", () => {
  assert.deepEqual([context.worker(), context.remainingMs()], ["test", 5000]);
});
