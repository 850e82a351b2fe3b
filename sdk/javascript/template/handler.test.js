import assert from "node:assert/strict";
import test from "node:test";
import { Delivery, ack, deadLetter } from "{{sdk}}/javascript/index.js";
import { handle } from "./handler.js";

test("Ada is greeted", () => {
  assert.deepEqual(handle(Delivery.of("Ada")), ack({ routingKey: "greetings", text: "Hello, Ada!" }));
});

test("an empty body is dead-lettered", () => {
  assert.deepEqual(handle(Delivery.of("")), deadLetter("there is nobody to greet"));
});
