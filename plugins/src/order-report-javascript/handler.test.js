import assert from "node:assert/strict";
import test from "node:test";
import { DeadLetterError, Delivery, ack } from "../../../sdk/javascript/index.js";
import { handle } from "./handler.js";

test("an order becomes a report", () => {
  for (const [id, idText] of [
    ["17", "17"],
    ['"A-17"', "A-17"],
  ]) {
    const order = `{"id": ${id}, "user_email": "ada@example.com", "product": "hay", "quantity": 2}`;
    const report = {
      exchange: "reports",
      routingKey: "order.report",
      text: `Order ${idText}\n\nCustomer: ada@example.com\nProduct:  hay\nQuantity: 2\n`,
      messageId: idText,
      headers: { "order-id": idText },
      persistent: true,
    };
    assert.deepEqual(handle(Delivery.of(order)), ack(report));
  }
});

test("a malformed order is dead-lettered", () => {
  const order = { id: 1, user_email: "ada@example.com", product: "hay", quantity: 1 };
  const cases = [
    [{ ...order, id: null }, "`id` is not a whole number or a text"],
    [{ ...order, id: 1.5 }, "`id` is not a whole number or a text"],
    [{ ...order, id: 2 ** 53 }, "`id` is not a whole number or a text"],
    [{ ...order, user_email: undefined }, "`user_email` is not a text"],
    [{ ...order, product: 7 }, "`product` is not a text"],
    [{ ...order, quantity: undefined }, "`quantity` is not a whole number above 0"],
    [{ ...order, quantity: 0 }, "`quantity` is not a whole number above 0"],
    [{ ...order, quantity: 2 ** 32 }, "`quantity` is not a whole number above 0"],
    [null, "`id` is not a whole number or a text"],
  ];
  for (const [malformed, otherwise] of cases) {
    const expected = new DeadLetterError(`the body is not the JSON expected: ${otherwise}`);
    assert.throws(() => handle(Delivery.of(JSON.stringify(malformed))), expected);
  }
  assert.throws(() => handle(Delivery.of("{")), DeadLetterError);
});
