import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

const sdk = fileURLToPath(new URL("..", import.meta.url));
const page = readFileSync(join(sdk, "README.md"), "utf8").replaceAll("../../../sdk/javascript/", sdk);

/** The code of a section of the README, in its order. What comes before the first one goes by the page's title. */
function code(title) {
  const section = page.split(/^##? /m).find((text) => text.startsWith(`${title}\n`));
  assert.ok(section, `the README has a section \`${title}\``);
  return [...section.matchAll(/^```js\n(.*?)^```$/gms)].map(([, text]) => text);
}

test("the README's examples do what its tests say", () => {
  const granted = "Settings, stores, files and HTTP requests";
  const examples = [[code("wabbit-sdk: handlers in JavaScript")[0], code("Testing")[0]], code(granted)];
  const folder = mkdtempSync(join(tmpdir(), "wabbit-test-"));
  // Else it would be taken for a part of the run that this test belongs to.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  try {
    for (const [number, [handler, tests]] of examples.entries()) {
      const cwd = join(folder, String(number));
      mkdirSync(cwd);
      writeFileSync(join(cwd, "package.json"), '{ "type": "module" }');
      writeFileSync(join(cwd, "handler.js"), handler);
      writeFileSync(join(cwd, "handler.test.js"), tests);
      assert.match(execFileSync("node", ["--test"], { cwd, encoding: "utf8", env }), /^(#|ℹ) pass 1$/m);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
