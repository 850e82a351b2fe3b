import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { bundle } from "../tools/bundle.js";
import { changeSections } from "../tools/sections.js";

const sdk = fileURLToPath(new URL("..", import.meta.url));
const grantable = (name) => /^w.si:(config|filesystem|http|keyvalue)/.test(name);

/** A folder with that handler, while `action` runs. */
async function withHandler(text, action) {
  const folder = mkdtempSync(join(tmpdir(), "wabbit-test-"));
  try {
    writeFileSync(join(folder, "handler.js"), text.replace("SDK", join(sdk, "index.js")));
    return await action(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const imports = (text) =>
  withHandler(text, async (folder) => {
    const found = await bundle(folder, join(folder, "handler.js"));
    return found.imports.filter(grantable).sort();
  });

test("a plugin imports what its handler uses", async () => {
  const names = "ack, config, files, http, keyvalue, DeadLetterError, FileError, HttpError, KeyValueError";
  const cases = [
    ["", []],
    ['config.get("a");', ["wasi:config/store@0.2.0-rc.1"]],
    ["keyvalue.open();", ["wasi:keyvalue/atomics@0.2.0-draft", "wasi:keyvalue/store@0.2.0-draft"]],
    ['files.read("a");', ["wasi:filesystem/preopens@0.2.0", "wasi:filesystem/types@0.2.0"]],
    ['http.get("a");', ["w4si:http/outgoing-handler@0.2.0", "w4si:http/types@0.2.0"]],
    ["if (error instanceof HttpError || error instanceof KeyValueError || error instanceof FileError) return;", []],
  ];
  for (const [use, expected] of cases) {
    const text = `import { ${names} } from "SDK"; export function handle(error) { ${use} return ack(); }`;
    assert.deepEqual(await imports(text), expected, use);
  }
  // Neither does one that takes all of the SDK by one name, and what is never called.
  const all = 'import * as wabbit from "SDK"; const unused = () => wabbit.http; export const handle = () => wabbit.ack();';
  assert.deepEqual(await imports(all), []);
});

/** What a component says that it imports. */
function importsOf(component) {
  const names = new Set();
  changeSections(component, (id, content) => {
    if (id === 10) for (const [name] of content.toString("latin1").matchAll(/w.si:[\w/-]+/g)) names.add(name);
    return content;
  });
  return [...names];
}

test("components say so, by the interfaces' own names", async () => {
  const build = (text) =>
    withHandler(text, (folder) => {
      const out = join(folder, "out.wasm");
      execFileSync(join(sdk, "build"), [folder, out]);
      return importsOf(readFileSync(out));
    });
  const none = await build('import { ack } from "SDK"; export const handle = () => ack();');
  // The engine brings the interface for files by itself, which needs no grant.
  assert.deepEqual(none.filter((name) => /http|config|keyvalue|w4si/.test(name)), []);
  const used = await build(`
    import { ack, config, files, http, keyvalue } from "SDK";
    export const handle = () => ack({ json: [config.all(), files.list("/"), http.get("a"), keyvalue.open()] });
  `);
  const expected = ["config/store", "http/outgoing-handler", "http/types", "keyvalue/atomics", "keyvalue/store"];
  const found = used.filter((name) => /http|config|keyvalue|w4si/.test(name)).sort();
  assert.deepEqual(found, expected.map((name) => `wasi:${name}`));
});
