/** Reports each order as a page of plain text. */

import { DeadLetterError, ack } from "../../../sdk/javascript/index.js";

const QUANTITY_MAX = 2 ** 32 - 1;

export function handle(delivery) {
  // An order that cannot be read goes to the dead-letter queue, with what is wrong with it.
  const order = readOrder(delivery);
  const id = String(order.id);
  console.log(`reporting order ${id}`);

  return ack({
    exchange: "reports",
    routingKey: "order.report",
    text: report(order),
    messageId: id,
    headers: { "order-id": id },
    persistent: true,
  });
}

function readOrder(delivery) {
  const order = delivery.json();
  const { id, user_email, product, quantity } = order ?? {};
  // Some shops number their orders, others name them. A number too large to be exact would be another order's.
  expect(Number.isSafeInteger(id) || typeof id === "string", "`id` is not a whole number or a text");
  expect(typeof user_email === "string", "`user_email` is not a text");
  expect(typeof product === "string", "`product` is not a text");
  const counts = Number.isInteger(quantity) && quantity > 0 && quantity <= QUANTITY_MAX;
  expect(counts, "`quantity` is not a whole number above 0");
  return order;
}

function expect(condition, otherwise) {
  if (!condition) throw new DeadLetterError(`the body is not the JSON expected: ${otherwise}`);
}

const report = ({ id, user_email, product, quantity }) =>
  `Order ${id}\n\nCustomer: ${user_email}\nProduct:  ${product}\nQuantity: ${quantity}\n`;
