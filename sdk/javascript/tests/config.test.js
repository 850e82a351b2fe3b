import assert from "node:assert/strict";
import test from "node:test";
import "./engine.js";
import { config } from "../index.js";
import { inspect } from "../runtime/inspect.js";
import { provide } from "../testing.js";

test("settings are read by their names, and secrets not with all of them", () => {
  provide({ config: { from: "shop@example.com", empty: "" }, secrets: { token: "t0k3n" } });
  assert.deepEqual([config.get("from"), config.get("empty"), config.get("token")], ["shop@example.com", "", "t0k3n"]);
  assert.equal(config.get("other"), undefined);
  assert.deepEqual(config.all(), new Map([["from", "shop@example.com"], ["empty", ""]]));
  assert.throws(() => config.require("other"), { message: "the manifest grants no value `other`" });
  assert.throws(() => config.get(7), { message: "the name of a setting cannot be a number" });
});

test("a secret is not printed by accident", () => {
  provide({ secrets: { token: "t0k3n" } });
  const token = config.secret("token");
  assert.equal(token.expose(), "t0k3n");
  assert.deepEqual([`${token}`, JSON.stringify({ token })], ["***", '{"token":"***"}']);
  assert.ok(!inspect(token).includes("t0k3n"));
  assert.throws(() => config.secret("other"), { message: "the manifest grants no value `other`" });
});

test("each test begins with nothing", () => {
  provide();
  assert.equal(config.get("from"), undefined);
  assert.throws(() => provide({ settings: {} }), { message: "`provide` knows no `settings`" });
});
