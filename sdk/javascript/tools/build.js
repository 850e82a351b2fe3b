/**
 * Makes a plugin of a handler: `node build.js SOURCE-FOLDER OUT.wasm ENTRY`, where ENTRY is the handler's file in that
 * folder. What esbuild and componentize-qjs complain about goes to stderr.
 */

import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { forEngine, withContractTypes } from "./contract.js";

const here = dirname(fileURLToPath(import.meta.url));
const sdk = dirname(here);
// The tools are not beside this file, but where `setup` puts them.
const tools = createRequire(join(sdk, ".tools", "package.json"));

/** The handler, the SDK and the packages that they use, as one module. */
async function bundle(source, entry) {
  const esbuild = tools("esbuild");
  const contents = [
    `import ${JSON.stringify(join(sdk, "runtime", "globals.js"))};`,
    `import { adapt } from ${JSON.stringify(join(sdk, "runtime", "adapter.js"))};`,
    `import { handle } from ${JSON.stringify(entry)};`,
    "export const handler = { handle: adapt(handle) };",
  ].join("\n");
  try {
    const { outputFiles, warnings } = await esbuild.build({
      stdin: { contents, resolveDir: source, sourcefile: "plugin.js" },
      // What is written does not depend on where it is built from.
      absWorkingDir: source,
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      // Packages are taken as for a browser: those forms of them need no modules of Node.js.
      mainFields: ["browser", "module", "main"],
      conditions: ["wabbit", "worker", "browser", "module"],
      external: ["wabbit:*", "wasi:*"],
      target: "es2023",
      // The engine never runs what its own promises wait for: runtime/promise.js.
      supported: { "async-await": false, "async-generator": false, "for-await": false },
      define: { "process.env.NODE_ENV": '"production"' },
      charset: "utf8",
      legalComments: "none",
      logLevel: "silent",
    });
    await report(esbuild, warnings, "warning");
    return outputFiles[0].text;
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    await report(esbuild, error.errors, "error");
    process.exit(1);
  }
}

async function report(esbuild, messages, kind) {
  for (const { notes } of messages) {
    for (const note of notes) {
      // What esbuild advises here does not help.
      if (note.text.includes("platform: 'node'")) note.text = "A handler has no modules of Node.js.";
    }
  }
  const lines = await esbuild.formatMessages(messages, { kind, color: false });
  process.stderr.write(lines.join(""));
}

/** The module as a component, by QuickJS. */
async function componentize(module, folder) {
  const wit = join(folder, "wit");
  rmSync(wit, { recursive: true, force: true });
  cpSync(join(here, "wit"), wit, { recursive: true });
  const contract = readFileSync(join(sdk, "..", "wit", "worker.wit"), "utf8");
  writeFileSync(join(wit, "worker.wit"), forEngine(contract));
  const { component } = await tools("componentize-qjs").componentize({
    witPath: wit,
    jsSource: module,
    // Stacks name this file.
    jsPath: join(folder, "plugin.js"),
    world: "javascript",
    sync: true,
  });
  return withContractTypes(component);
}

const [source, out, entry] = process.argv.slice(2);
const given = process.env.WABBIT_BUILD_DIR;
const folder = given ? resolve(given) : mkdtempSync(join(tmpdir(), "wabbit-javascript-"));
try {
  if (!existsSync(join(source, entry))) throw new Error(`\`${source}\` has no ${entry}`);
  mkdirSync(folder, { recursive: true });
  const module = await bundle(resolve(source), resolve(source, entry));
  // Kept for whoever wants to look up a line of a stack.
  writeFileSync(join(folder, "plugin.js"), module);
  writeFileSync(out, await componentize(module, folder));
} catch (error) {
  process.stderr.write(`error: ${error.message.replace(/^[:\s]+/, "")}\n`);
  process.exitCode = 1;
} finally {
  if (!given) rmSync(folder, { recursive: true, force: true });
}
