// Greets whomever a message names.

import { Delivery, Outcome, Publication, log, serve } from "wabbit";

function handle(delivery: Delivery): Outcome {
  const name = delivery.text();
  if (name === null) return Outcome.deadLetter(delivery.problem);
  if (name == "") return Outcome.deadLetter("there is nobody to greet");
  log("greeting " + name);
  return Outcome.ack().publish(new Publication("", "greetings").text("Hello, " + name + "!"));
}

serve(handle);
