/** Notifies whoever ordered: an order becomes a mail message. */

import { DeadLetterError, ack } from "../../../sdk/javascript/index.js";

export function handle(delivery) {
  // An order that cannot be read goes to the dead-letter queue, with what is wrong with it.
  const order = delivery.json();
  if (typeof order?.user_email !== "string") {
    throw new DeadLetterError("the body is not the JSON expected: `user_email` is not a text");
  }
  console.log(`notifying ${order.user_email}`);

  const mail = {
    to: order.user_email,
    subject: "Your order",
    text: "Thank you for your order. We are packing it now.",
  };
  return ack({ exchange: "mail", routingKey: "order.notify", json: mail, persistent: true });
}
