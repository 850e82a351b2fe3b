import assert from "node:assert";
import { test } from "node:test";
import { build, load } from "{{sdk}}/assemblyscript/testing.mjs";

const handler = load(build(import.meta.url));

test("Ada is greeted", () => {
  const { settlement, publications } = handler.handle({ text: "Ada" });
  assert.equal(settlement, "ack");
  assert.deepEqual(publications, [
    {
      exchange: "",
      routing_key: "greetings",
      text: "Hello, Ada!",
      properties: { content_type: "text/plain", headers: {}, persistent: false },
    },
  ]);
  assert.equal(handler.log, "greeting Ada\n");
});

test("nobody is not greeted", () => {
  assert.deepEqual(handler.handle({}), {
    settlement: { "dead-letter": "there is nobody to greet" },
    publications: [],
  });
});
