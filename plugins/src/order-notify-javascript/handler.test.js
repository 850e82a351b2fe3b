import assert from "node:assert/strict";
import test from "node:test";
import { DeadLetterError, Delivery, ack } from "../../../sdk/javascript/index.js";
import { handle } from "./handler.js";

test("an order becomes a mail", () => {
  const mail = {
    to: "ada@example.com",
    subject: "Your order",
    text: "Thank you for your order. We are packing it now.",
  };
  assert.deepEqual(
    handle(Delivery.of('{"user_email": "ada@example.com"}')),
    ack({ exchange: "mail", routingKey: "order.notify", json: mail, persistent: true }),
  );
});

test("a malformed order is dead-lettered", () => {
  const expected = new DeadLetterError("the body is not the JSON expected: `user_email` is not a text");
  for (const order of ['{"email": "ada@example.com"}', '{"user_email": 7}', "null", "7"]) {
    assert.throws(() => handle(Delivery.of(order)), expected);
  }
  assert.throws(() => handle(Delivery.of("{")), DeadLetterError);
});
