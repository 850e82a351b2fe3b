/** Greets whomever a message names. */

import { ack, deadLetter } from "{{sdk}}/javascript/index.js";

export function handle(delivery) {
  const name = delivery.text();
  if (name === "") return deadLetter("there is nobody to greet");

  console.log(`greeting ${name}`);
  return ack({ routingKey: "greetings", text: `Hello, ${name}!` });
}
