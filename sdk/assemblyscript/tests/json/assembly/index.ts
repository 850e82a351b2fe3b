// Reads the body as JSON and writes it back.

import { Delivery, Json, JsonKind, JsonWriter, Outcome, Publication, serve } from "wabbit";

function handle(delivery: Delivery): Outcome {
  const json = delivery.json();
  if (json === null) return Outcome.deadLetter(delivery.problem);
  const back = new JsonWriter();
  write(back, json);
  return Outcome.ack().publish(new Publication("", "json").json(back));
}

function write(to: JsonWriter, json: Json): void {
  switch (json.kind) {
    case JsonKind.Null: to.null(); break;
    case JsonKind.Boolean: to.boolean(json.boolean); break;
    case JsonKind.Number: to.number(json.number); break;
    case JsonKind.Text: to.text(json.text); break;
    case JsonKind.Array:
      to.array();
      for (let i = 0; i < json.values.length; i++) write(to, json.values[i]);
      to.end();
      break;
    case JsonKind.Object:
      to.object();
      for (let i = 0; i < json.keys.length; i++) write(to.key(json.keys[i]), json.values[i]);
      to.end();
      break;
  }
}

serve(handle);
